"""Training of many (learning rate, seed) lanes of one compiled shape.

Lanes travel in companies of fixed size, so that one program serves any number of them: one lane per device,
one after another (bit-identical however many there are), or several per device, vectorised.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from sharplab.data import AUGMENTATIONS, batch_indices, load_dataset
from sharplab.drivers import Driver, Formation, choose_driver, dispatch
from sharplab.losses import LOSSES
from sharplab.measurement import TrackerState
from sharplab.models import find_model
from sharplab.naming import lookup
from sharplab.optimizers import OPTIMIZERS
from sharplab.recipe import LaneState, Recipe
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.schedules import find_schedule
from sharplab.tree import PyTree


@dataclass(frozen=True)
class Task:
    """What all lanes of a group share: one compiled shape, one set of records."""

    model: str
    width: int
    depth: int
    parameterization: str
    base_width: int
    alpha: float
    gamma: float
    optimizer: str
    loss: str
    data: str
    steps: int
    batch_size: int
    probe_size: int
    observables: tuple[str, ...]
    record_steps: tuple[int, ...]
    base_depth: int = 1
    trainable: str = "all"
    augment: str = "none"
    schedule: str = "constant"


@dataclass(frozen=True)
class Lane:
    """One run within a group."""

    learning_rate: float
    seed: int


@dataclass(frozen=True)
class LaneResult:
    """What one lane left behind."""

    lane: Lane
    curves: dict[str, np.ndarray]  # per observable, shape (records,); "step" among them
    diverged: bool
    diverged_step: int  # -1 where it did not
    seconds: float  # wall time, its share of the company it trained in
    setting: dict[str, str] = field(default_factory=dict)  # lane mode, driver, device


@lru_cache(maxsize=64)
def find_recipe(task: Task) -> Recipe:
    """The functions that a task's names stand for."""
    dataset = load_dataset(task.data)
    return Recipe(
        find_model(task.model),
        Rule(
            parameterization(task.parameterization),
            task.width,
            task.base_width,
            task.gamma,
            DepthRule(task.depth, task.base_depth, task.alpha),
        ),
        dataset.train_inputs.shape[1:],
        dataset.classes,
        lookup("loss", task.loss, LOSSES),
        lookup("optimizer", task.optimizer, OPTIMIZERS),
        task.observables,
        task.batch_size,
        task.trainable,
        lookup("augmentation", task.augment, AUGMENTATIONS),
        find_schedule(task.schedule, task.steps),
    )


def choose_formation(recipe: Recipe, lanes: int) -> Formation:
    """One lane per device on CPUs, where wider products fill the cores by themselves; else all lanes at once."""
    devices = tuple(jax.local_devices())
    if devices[0].platform == "cpu":
        return Formation(devices, 1)
    return Formation(devices, -(-lanes // len(devices)))


@partial(jax.jit, static_argnums=(0, 1))
def _begin(
    recipe: Recipe, formation: Formation, seeds: jax.Array, absent: jax.Array, probe: PyTree
) -> tuple[LaneState, TrackerState]:
    def begin(seed: jax.Array, absent: jax.Array, probe: PyTree) -> tuple[LaneState, TrackerState]:
        lane = recipe.begin(seed)
        # A lane that only fills up the company counts as diverged from the start, and so costs nothing.
        filler = lane._replace(diverged_step=jnp.where(absent, 0, lane.diverged_step))
        return filler, recipe.measurement().init(lane.params, probe)

    return formation.each(begin, (seeds, absent), (probe,), one_by_one=True)


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    recipe: Recipe,
    formation: Formation,
    lanes: LaneState,
    rates: ArrayLike,
    order: np.ndarray,
    train: PyTree,
    stop: ArrayLike,
) -> LaneState:
    return formation.each(recipe.advance, (lanes, rates, order), (train, stop))


def _advance_dispatched(
    recipe: Recipe,
    formation: Formation,
    lanes: LaneState,
    rates: ArrayLike,
    order: np.ndarray,
    train: PyTree,
    stop: np.int32,
) -> LaneState:
    """As `_advance`, with each step a program of its own."""
    start = int(lanes.step[0])
    return dispatch(
        lambda state, i: _step(recipe, formation, state, rates, order[:, i], train), lanes, int(stop) - start
    )


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    recipe: Recipe, formation: Formation, lanes: LaneState, rates: ArrayLike, rows: ArrayLike, train: PyTree
) -> LaneState:
    def step(lane: LaneState, rate: jax.Array, rows: jax.Array, train: PyTree) -> LaneState:
        return recipe.step(lane, rate, jax.tree.map(lambda x: x[rows], train))

    return formation.each(step, (lanes, rates, rows), (train,))


@partial(jax.jit, static_argnums=(0, 1))
def _observe(
    recipe: Recipe,
    formation: Formation,
    lanes: LaneState,
    trackers: TrackerState,
    seeds: jax.Array,
    probe: PyTree,
    held_out: PyTree,
) -> tuple[TrackerState, dict[str, jax.Array]]:
    # Spectra one by one: vectorised, each lane would wait for the slowest and copy its whole basis per step.
    return formation.each(recipe.observe, (lanes, trackers, seeds), (probe, held_out), one_by_one=True)


def _observe_dispatched(
    recipe: Recipe,
    formation: Formation,
    lanes: LaneState,
    trackers: TrackerState,
    seeds: jax.Array,
    probe: PyTree,
    held_out: PyTree,
) -> tuple[TrackerState, dict[str, jax.Array]]:
    """As `_observe`, with each curvature product a program of its own."""
    records = []
    for i in range(formation.size):
        lane, tracker, seed = jax.tree.map(lambda x, i=i: x[i], (lanes, trackers, seeds))
        records.append(recipe.observe(lane, tracker, seed, probe, held_out, driver="dispatch"))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)


def train_lanes(
    task: Task, lanes: Sequence[Lane], *, progress: Callable[[int, int], None] | None = None
) -> Iterator[LaneResult]:
    """Train every lane of a group and yield each as soon as its company is through.

    Lanes of one seed start from the same weights and see the same batches in the same order. A lane diverges
    when its loss is not finite or exceeds a hundred times its first, or its gradient is exactly 0 (all ReLUs are
    dead): it is frozen there, its later records are NaN, and it is a result like any other.

    Args:
        task: what the lanes share.
        lanes: the (learning rate, seed) pairs.
        progress: called with (steps done, steps in all), summed over lanes.
    """
    recipe = find_recipe(task)
    formation = choose_formation(recipe, len(lanes))
    arrays = _place_arrays(recipe, formation, task)
    driver = _driver(recipe, task, arrays.train)

    for first in range(0, len(lanes), formation.size):
        company = list(lanes[first : first + formation.size])
        began = time.perf_counter()

        def report(step: int, done: int = first, company: list[Lane] = company) -> None:
            if progress is not None:
                progress(done * task.steps + step * len(company), len(lanes) * task.steps)

        curves, diverged = _train_company(recipe, formation, driver, task, company, arrays, report)
        seconds = (time.perf_counter() - began) / len(company)
        setting = {"lane_mode": formation.mode, "driver": driver, "device": formation.devices[0].device_kind}
        for i, lane in enumerate(company):
            curve = {name: values[i] for name, values in curves.items()}
            yield LaneResult(lane, curve, bool(diverged[i] >= 0), int(diverged[i]), seconds, setting)


def _driver(recipe: Recipe, task: Task, train: PyTree) -> Driver:
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((task.batch_size, *x.shape[1:]), x.dtype), train)
    return choose_driver(jax.grad(recipe.objective), nnx.eval_shape(recipe.init_params, 0), batch)


class _Arrays(NamedTuple):
    """(prepared inputs, targets) on every device."""

    train: tuple[jax.Array, jax.Array]
    probe: tuple[jax.Array, jax.Array]
    held_out: tuple[jax.Array, jax.Array]


def _place_arrays(recipe: Recipe, formation: Formation, task: Task) -> _Arrays:
    dataset = load_dataset(task.data)
    if task.probe_size > len(dataset.train_targets):
        raise ValueError(f"probe_size is {task.probe_size}: {task.data} has {len(dataset.train_targets)} examples.")
    inputs, targets = recipe.prepare(dataset.train_inputs), jnp.asarray(dataset.train_targets)
    probe = (inputs[: task.probe_size], targets[: task.probe_size])
    _require_fit(recipe, task, probe)
    if recipe.augment is not None:
        inputs = jnp.asarray(dataset.train_inputs)  # each batch is prepared after it is augmented
    held_out = (recipe.prepare(dataset.eval_inputs), jnp.asarray(dataset.eval_targets))
    return formation.place(_Arrays((inputs, targets), probe, held_out))


def _require_fit(recipe: Recipe, task: Task, batch: PyTree) -> None:
    """ValueError unless the network's outputs are what the data's targets and the loss ask for."""
    inputs, targets = batch
    numbers = jnp.issubdtype(targets.dtype, jnp.floating)
    if numbers and task.loss == "cross_entropy":
        raise ValueError(f"loss 'cross_entropy' needs classes, and the targets of {task.data} are numbers.")
    outputs = jax.eval_shape(recipe.forward, nnx.eval_shape(recipe.init_params, 0), inputs)
    predictions = outputs.shape if numbers else outputs.shape[:-1]
    if predictions != targets.shape:
        raise ValueError(
            f"model {task.model!r} makes outputs of shape {outputs.shape} where {task.data} has targets of shape "
            f"{targets.shape}: choose a model for such data."
        )


def _train_company(
    recipe: Recipe,
    formation: Formation,
    driver: Driver,
    task: Task,
    company: list[Lane],
    arrays: _Arrays,
    report: Callable[[int], None],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The company's curves, each (lanes, records), and the step at which each lane diverged, or -1."""
    filler = [company[-1]] * (formation.size - len(company))
    rates = np.array([lane.learning_rate for lane in company + filler], np.float32)
    seeds = jnp.array([lane.seed for lane in company + filler], jnp.int32)
    state, trackers = _begin(recipe, formation, seeds, np.arange(formation.size) >= len(company), arrays.probe)

    advance, observe = (_advance, _observe) if driver == "loop" else (_advance_dispatched, _observe_dispatched)
    chunk = max(stop - start for start, stop in pairwise(task.record_steps))
    rows = []
    for start, stop in zip((0, *task.record_steps), task.record_steps, strict=False):
        if stop > start:
            examples = len(arrays.train[1])
            order = np.stack(
                [
                    _padded(batch_indices(lane.seed, examples, task.batch_size, start, stop), chunk)
                    for lane in company + filler
                ]
            )
            state = advance(recipe, formation, state, rates, order, arrays.train, np.int32(stop))
        trackers, row = observe(recipe, formation, state, trackers, seeds, arrays.probe, arrays.held_out)
        rows.append(row)
        if len(rows) > 1:
            # One chunk runs while the next is prepared; the host never runs further ahead.
            jax.block_until_ready(rows[-2])
            report(start)
    curves = {name: np.stack([row[name] for row in jax.device_get(rows)], axis=1) for name in rows[0]}
    curves["step"] = np.broadcast_to(np.array(task.record_steps), (formation.size, len(rows)))
    report(task.steps)
    return curves, np.asarray(state.diverged_step)


def _padded(order: np.ndarray, length: int) -> np.ndarray:
    # Chunks of one length share one program; the rows beyond a chunk's end are never read.
    return np.pad(order, ((0, length - len(order)), (0, 0)))
