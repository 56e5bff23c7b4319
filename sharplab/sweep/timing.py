"""The time and memory of one compiled shape on this machine: its programs, compiled and run for a few steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.loops import dispatch
from sharplab.core.tree import PyTree
from sharplab.data import batch_indices
from sharplab.sweep.plan import Group
from sharplab.tracking.eigentracking import AUDIT_EVERY
from sharplab.tracking.measurement import TrackerState
from sharplab.training import programs
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import find_recipe

STEPS = 64  # at most, that are timed at once
SAMPLES = 3  # at least, whose median stands against the moments in which the machine does something else
SAMPLE_SECONDS = 0.6  # of more samples
PATIENCE_SECONDS = 1.5  # after which there are enough samples, however few
WITHOUT_GRADIENT = {"train_loss", "eval_loss", "eval_accuracy"}

T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """The time and memory of one compiled shape on this machine, its batch of runs being trained at once."""

    runs: int  # of the run batch, as the next
    devices: int
    compile_seconds: float  # until its programs are there, once
    begin_seconds: float  # to draw the weights
    step_seconds: float
    first_record_seconds: float  # whose spectra start from nothing
    record_seconds: float  # of a later one, whose spectra start from those before, with its share of the audits
    bytes: int  # on each device: data, weights, and what the largest program needs besides

    def batch_seconds(self, steps: int, records: int) -> float:
        """The seconds that the training of a run batch takes."""
        recording = self.first_record_seconds + (records - 1) * self.record_seconds
        return self.begin_seconds + steps * self.step_seconds + recording


@dataclass(frozen=True)
class _RunBatch:
    """The programs of a group's first runs, ready to be timed."""

    begin: Callable[[], tuple[RunState, TrackerState]]
    advance: Callable[[RunState, int, np.ndarray], RunState]  # for so many steps, at these learning rates
    observe: Callable[[RunState, TrackerState], tuple[TrackerState, dict[str, jax.Array]]]
    rates: np.ndarray
    devices: int
    spectral: bool
    bytes: Callable[[], int]


def measure(group: Group) -> Measured:
    """The time and memory of a group's shape on this machine, from training its first runs for a few steps."""
    run_batch, compiling = _timed(lambda: _compile(group))
    state, fresh = run_batch.begin()
    begin = _timed(run_batch.begin)[1]
    (trackers, _), cold = _timed(lambda: run_batch.observe(state, fresh))
    first = _typical(lambda: run_batch.observe(state, fresh))
    compiling += max(cold - first, 0.0)  # of what a record that is dispatched piece by piece compiles on the way
    moved, step = _time_steps(run_batch, state, run_batch.rates)
    if (np.asarray(moved.diverged_step) >= 0).any():
        moved, step = _time_steps(run_batch, state, 0 * run_batch.rates)  # a run that has diverged costs nothing
    later = first
    if run_batch.spectral:
        gap = group.task.steps // (len(group.task.record_steps) - 1)
        next_one = run_batch.advance(state, min(STEPS, gap), run_batch.rates)
        later = _typical(lambda: run_batch.observe(next_one, trackers)) + first / AUDIT_EVERY
    return Measured(
        runs=len(run_batch.rates),
        devices=run_batch.devices,
        compile_seconds=compiling,
        begin_seconds=begin,
        step_seconds=step,
        first_record_seconds=first,
        record_seconds=later,
        bytes=run_batch.bytes(),
    )


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = call()
    jax.block_until_ready(result)
    return result, time.perf_counter() - began


def _typical(call: Callable[[], object]) -> float:
    """The median of several calls' seconds."""
    times: list[float] = []
    while sum(times) < (SAMPLE_SECONDS if len(times) >= SAMPLES else PATIENCE_SECONDS):
        times.append(_timed(call)[1])
    return median(times)


def _time_steps(run_batch: _RunBatch, state: RunState, rates: np.ndarray) -> tuple[RunState, float]:
    """The state some steps later, and the seconds that each step took."""

    def step(many: int) -> None:
        nonlocal state
        state = jax.block_until_ready(run_batch.advance(state, many, rates))

    step(1)
    seconds = _timed(lambda: step(1))[1]
    many = min(STEPS, max(1, int(SAMPLE_SECONDS / SAMPLES / seconds)))
    return state, _typical(lambda: step(many)) / many


def _compile(group: Group) -> _RunBatch:
    task = group.task
    recipe = find_recipe(task)
    layout = programs.choose_layout(recipe, len(group.runs))
    arrays = programs.place_arrays(recipe, layout, task)
    compiled = programs.find_loop(recipe, task, arrays.train) == "compiled"
    recipe = layout.replicate(recipe)
    size = layout.size
    rates = np.full(size, min(run.learning_rate for run in group.runs), np.float32)
    seeds, absent = jnp.zeros(size, jnp.int32), np.zeros(size, bool)
    order = np.stack([batch_indices(0, len(jax.tree.leaves(arrays.train)[0]), task.batch_size, 0, STEPS)] * size)

    begin = programs.begin.lower(recipe, layout, seeds, absent).compile()
    state = begin.out_info
    init_trackers = programs.init_trackers.lower(recipe, layout, state, arrays.probe).compile()
    trackers = init_trackers.out_info
    first = stop = np.int32(0)
    if compiled:
        steps = programs.advance.lower(recipe, layout, state, rates, order, first, arrays.train, stop).compile()
        records = programs.observe.lower(
            recipe, layout, state, trackers, seeds, rates, arrays.probe, arrays.held_out
        ).compile()
    else:
        steps = programs.step.lower(recipe, layout, state, rates, order[:, 0], arrays.train).compile()

    def advance(state: RunState, many: int, rates: np.ndarray) -> RunState:
        if compiled:
            first = np.int32(np.asarray(state.step)[0])
            return steps(recipe, state, rates, order, first, arrays.train, np.int32(first + many))
        return dispatch(lambda state, i: steps(recipe, state, rates, order[:, i], arrays.train), state, many)

    def observe(state: RunState, trackers: TrackerState) -> tuple[TrackerState, dict[str, jax.Array]]:
        if compiled:
            return records(recipe, state, trackers, seeds, rates, arrays.probe, arrays.held_out)
        return programs.observe_dispatched(recipe, layout, state, trackers, seeds, rates, arrays.probe, arrays.held_out)

    def begun() -> tuple[RunState, TrackerState]:
        state = begin(recipe, seeds, absent)
        return state, init_trackers(recipe, state, arrays.probe)

    def memory() -> int:
        record = records if compiled else _heaviest_piece(recipe, arrays.probe)
        of_runs = _bytes((state, trackers)) // len(layout.devices)
        return _bytes(arrays) + of_runs + max(map(_working_bytes, (begin, steps, record)))

    return _RunBatch(
        begin=begun,
        advance=advance,
        observe=observe,
        rates=rates,
        devices=len(layout.devices),
        spectral=bool(recipe.measurement().spectra),
        bytes=memory,
    )


def _heaviest_piece(recipe: Recipe, probe: PyTree) -> Any:
    """A program that needs about as much memory as a record that is dispatched in pieces."""
    network = recipe.network.abstract
    without = set(recipe.observables) <= WITHOUT_GRADIENT

    @jax.jit
    def piece(recipe: Recipe, params: PyTree, variables: PyTree, probe: PyTree) -> PyTree:
        loss = recipe.training_loss if without else jax.grad(recipe.training_loss, has_aux=True)
        return loss(params, variables, probe)

    return piece.lower(recipe, network.params, network.variables, probe).compile()


def _bytes(arrays: PyTree) -> int:
    return sum(leaf.size * jnp.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(arrays))


def _working_bytes(compiled: Any) -> int:
    """The bytes that a program needs beside its arguments; 0 where the platform does not say."""
    found = compiled.memory_analysis()
    return 0 if found is None else found.temp_size_in_bytes + found.output_size_in_bytes
