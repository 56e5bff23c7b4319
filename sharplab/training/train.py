"""Training of many (learning rate, seed) runs of one compiled shape.

Runs train in batches of fixed size, so that one program serves any number of them: one run per device,
one after another (bit-identical however many there are), or several per device, vectorised.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.loops import Loop
from sharplab.core.provenance import versions
from sharplab.data import batch_indices, load_dataset
from sharplab.tracking.measurement import TrackerState
from sharplab.training import programs
from sharplab.training.checkpoints import remove_checkpoint
from sharplab.training.layout import DeviceLayout
from sharplab.training.loop import BatchProgram, StepTiming, train_batch
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import Run, Task, find_recipe

ORDER_NUMBERS = 2**22  # of examples, whose batches to come are on a device at once
# At least, so that short runs share a program however long they are.
ORDER_STEPS = 2**8


@dataclass(frozen=True)
class RunResult:
    """What one run left behind."""

    run: Run
    curves: dict[str, np.ndarray]  # per observable, shape (records,); "step" among them
    diverged: bool
    diverged_step: int  # -1 where it did not
    seconds: float  # wall time, its share of the run batch it trained in, that before a resumption included
    # batching, loop and device; and runs_per_device, the number of runs beside each other on one device, for vectorised
    # runs differ with it by rounding
    setting: dict[str, str] = field(default_factory=dict)


class Stopped(Exception):
    """Training was asked to stop, and has."""


@dataclass(frozen=True)
class Watch:
    """What is told of training while it goes on, and what may end it.

    Attributes:
        progress: called with (steps done, steps in all), summed over runs.
        record: called with a run, a step and the observables there, as soon as they are known.
        stop: asked between segments of training, which take 15 seconds at most where a step does not take longer.
        checkpoints: a folder, made where there is none, for the state of what is under way. Every minute of work, and
            when `stop` ends it, it is written there, and the same runs on the same devices go on from it later, to
            the bit.
    """

    progress: Callable[[int, int], None] = lambda done, total: None
    record: Callable[[Run, int, Mapping[str, float]], None] = lambda run, step, values: None
    stop: Callable[[], bool] = lambda: False
    checkpoints: Path | None = None


def train_runs(task: Task, runs: Sequence[Run], watch: Watch = Watch()) -> Iterator[tuple[RunResult, ...]]:
    """Train every run of a group and yield those of each run batch as soon as it is through.

    Runs of one seed start from the same weights and see the same batches in the same order. A run diverges when its
    loss is not finite or exceeds a hundred times its first, or its gradient is exactly 0 on 64 examples in a row, or on
    one batch of more, at more than a thousandth of its first loss (all ReLUs are dead): it is frozen there, its later
    records are NaN, and it is a result like any other.

    A run batch's checkpoint is taken away when the next is asked for, or the end, after it was yielded: by then its
    results must be safe, or it must have been so short that doing it again does not matter.

    Args:
        task: what the runs share.
        runs: the (learning rate, seed) pairs.
        watch: what is told on the way, and what may end it.

    Raises:
        Stopped: when `watch.stop()` says so.
        ValueError: if a checkpoint cannot be written.
    """
    recipe = find_recipe(task)
    layout = programs.choose_layout(recipe, len(runs))
    arrays = programs.place_arrays(recipe, layout, task)
    loop = programs.find_loop(recipe, task, arrays.train)
    recipe = layout.replicate(recipe)
    setting = {"batching": layout.mode, "runs_per_device": str(layout.per_device), "loop": loop}
    setting["device"] = layout.devices[0].device_kind
    timing = StepTiming()

    for first in range(0, len(runs), layout.size):
        run_batch = list(runs[first : first + layout.size])
        checkpoint = None
        if watch.checkpoints is not None:
            checkpoint = watch.checkpoints / _checkpoint_name(task, run_batch, setting, len(layout.devices))

        def progress(step: int, done: int = first, count: int = len(run_batch)) -> None:
            watch.progress(done * task.steps + step * count, len(runs) * task.steps)

        program = _batch_program(recipe, layout, loop, task, run_batch, arrays)
        results, timing = _train_run_batch(program, task, run_batch, setting, progress, watch, checkpoint, timing)
        yield results
        if checkpoint is not None:
            remove_checkpoint(checkpoint)


def _train_run_batch(
    program: BatchProgram,
    task: Task,
    run_batch: Sequence[Run],
    setting: dict[str, str],
    progress: Callable[[int], None],
    watch: Watch,
    checkpoint: Path | None,
    timing: StepTiming,
) -> tuple[tuple[RunResult, ...], StepTiming]:
    """The results of a batch, and the timing with which the next may begin."""

    def record(step: int, row: Mapping[str, np.ndarray]) -> None:
        for i, run in enumerate(run_batch):
            watch.record(run, step, {name: float(values[i]) for name, values in row.items()})

    trained = train_batch(
        program, progress=progress, record=record, stop=watch.stop, checkpoint=checkpoint, timing=timing
    )
    if trained is None:
        raise Stopped
    progress(task.steps)
    diverged = np.asarray(trained.runs.diverged_step)
    results = []
    for i, run in enumerate(run_batch):
        curves = {name: values[:, i] for name, values in trained.curves.items()}
        curves["step"] = np.array(task.record_steps)
        seconds = trained.seconds / len(run_batch)
        results.append(RunResult(run, curves, bool(diverged[i] >= 0), int(diverged[i]), seconds, setting))
    # Runs that have diverged take no time: what they show is no measure for others.
    return tuple(results), StepTiming() if (diverged >= 0).any() else trained.timing


_versions = cache(versions)


def _checkpoint_name(task: Task, run_batch: Sequence[Run], setting: Mapping[str, str], devices: int) -> str:
    """The name of a checkpoint file, shared exactly by what goes on from one state to one result."""
    runs = [(float(run.learning_rate).hex(), int(run.seed)) for run in run_batch]
    checksum = load_dataset(task.data).checksum
    precision = str(jax.config.jax_default_matmul_precision)  # type: ignore[attr-defined]  # jax adds it as it runs
    state = [asdict(task), checksum, runs, setting, devices, precision, _versions()]
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:32]
    return f"{task.parameterization}-w{task.width}-d{task.depth}-{digest}.npz"


def _batch_program(
    recipe: Recipe, layout: DeviceLayout, loop: Loop, task: Task, run_batch: list[Run], arrays: programs.Arrays
) -> BatchProgram:
    filled = run_batch + [run_batch[-1]] * (layout.size - len(run_batch))
    absent = np.arange(layout.size) >= len(run_batch)
    rates = np.array([run.learning_rate for run in filled], np.float32)
    seeds = jnp.array([run.seed for run in filled], jnp.int32)
    most_steps = _order_steps(task, layout)
    compiled = loop == "compiled"
    step = programs.advance if compiled else programs.advance_dispatched
    record = programs.observe if compiled else programs.observe_dispatched
    training = replace(recipe, observables=())  # tasks that differ in their records train by one program

    @lru_cache(maxsize=1)
    def order(first: int) -> Any:
        examples, stop = len(jax.tree.leaves(arrays.train)[0]), min(first + most_steps, task.steps)
        orders = (batch_indices(run.seed, examples, task.batch_size, first, stop) for run in filled)
        stacked = np.stack([_padded(rows, most_steps) for rows in orders])
        return layout.spread(stacked) if compiled else stacked

    def begin() -> tuple[RunState, TrackerState]:
        state = programs.begin(training, layout, seeds, absent)
        return state, programs.init_trackers(recipe, layout, state, arrays.probe)

    def advance(state: RunState, start: int, stop: int) -> RunState:
        first = start // most_steps * most_steps
        return step(training, layout, state, rates, order(first), np.int32(first), arrays.train, np.int32(stop))

    def observe(state: RunState, trackers: TrackerState) -> tuple[TrackerState, dict[str, jax.Array]]:
        return record(recipe, layout, state, trackers, seeds, rates, arrays.probe, arrays.held_out)

    @cache
    def like() -> tuple[RunState, TrackerState, dict[str, jax.Array]]:
        def record(training: Recipe, recipe: Recipe) -> tuple[RunState, TrackerState, dict[str, jax.Array]]:
            state = programs.begin(training, layout, seeds, absent)
            trackers = programs.init_trackers(recipe, layout, state, arrays.probe)
            observed = programs.observe(recipe, layout, state, trackers, seeds, rates, arrays.probe, arrays.held_out)
            return state, trackers, observed[1]

        return jax.eval_shape(record, training, recipe)

    return BatchProgram(
        begin=begin,
        advance=advance,
        observe=observe,
        like=like,
        place=partial(programs.place_runs, layout),
        record_steps=task.record_steps,
        most_steps=most_steps,
    )


def _order_steps(task: Task, layout: DeviceLayout) -> int:
    """How many steps' batches are on a device at once, a power of two: few lengths make few programs."""
    most = max(1, ORDER_NUMBERS // (task.batch_size * layout.per_device))
    return min(max(ORDER_STEPS, 1 << (task.steps - 1).bit_length()), 1 << (most.bit_length() - 1))


def _padded(order: np.ndarray, length: int) -> np.ndarray:
    # The rows beyond the end of the run are never read.
    return np.pad(order, ((0, length - len(order)), (0, 0)))
