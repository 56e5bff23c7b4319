"""Training of many (learning rate, seed) lanes of one compiled shape.

Lanes travel in companies of fixed size, so that one program serves any number of them: one lane per device,
one after another (bit-identical however many there are), or several per device, vectorised.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from sharplab.checkpoints import remove_checkpoint
from sharplab.course import Course, Pace, complete
from sharplab.data import AUGMENTATIONS, batch_indices, load_dataset
from sharplab.drivers import Driver, Formation, choose_driver, dispatch
from sharplab.losses import LOSSES
from sharplab.measurement import TrackerState
from sharplab.models import find_model
from sharplab.naming import lookup
from sharplab.optimizers import OPTIMIZERS
from sharplab.provenance import versions
from sharplab.recipe import LaneState, Recipe
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.schedules import find_schedule
from sharplab.tree import PyTree

ORDER_NUMBERS = 2**22  # of examples, whose batches to come are on a device at once


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
    seconds: float  # wall time, its share of the company it trained in, that before a resumption included
    # lane_mode, driver and device; and company, the number of lanes beside each other on one device, for vectorised
    # lanes differ with it by rounding
    setting: dict[str, str] = field(default_factory=dict)


class Stopped(Exception):
    """Training was asked to stop, and has."""


@dataclass(frozen=True)
class Watch:
    """What is told of training while it goes on, and what may end it.

    Attributes:
        progress: called with (steps done, steps in all), summed over lanes.
        record: called with a lane, a step and the observables there, as soon as they are known.
        stop: asked between pieces of training, which take 15 seconds at most where a step does not take longer.
        checkpoints: a folder, made where there is none, for the state of what is under way. Every minute of work, and
            when `stop` ends it, it is written there, and the same lanes on the same devices go on from it later, to
            the bit.
    """

    progress: Callable[[int, int], None] = lambda done, total: None
    record: Callable[[Lane, int, Mapping[str, float]], None] = lambda lane, step, values: None
    stop: Callable[[], bool] = lambda: False
    checkpoints: Path | None = None


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
    start = int(np.asarray(lanes.step)[0])
    if (np.asarray(lanes.diverged_step) >= 0).all():
        return lanes._replace(step=lanes.step + (stop - start))
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
    observed = []
    for i in range(formation.size):
        lane, tracker = formation.lane(i, (lanes, trackers))
        of_device = formation.copy_of(i, (probe, held_out))
        observed.append(recipe.observe(lane, tracker, seeds[i], *of_device, driver="dispatch"))
    return formation.company(observed)


def train_lanes(task: Task, lanes: Sequence[Lane], watch: Watch = Watch()) -> Iterator[tuple[LaneResult, ...]]:
    """Train every lane of a group and yield those of each company as soon as it is through.

    Lanes of one seed start from the same weights and see the same batches in the same order. A lane diverges
    when its loss is not finite or exceeds a hundred times its first, or its gradient is exactly 0 (all ReLUs are
    dead): it is frozen there, its later records are NaN, and it is a result like any other.

    A company's checkpoint is taken away when the next is asked for, or the end, after it was yielded: by then its
    results must be safe, or it must have been so short that doing it again does not matter.

    Args:
        task: what the lanes share.
        lanes: the (learning rate, seed) pairs.
        watch: what is told on the way, and what may end it.

    Raises:
        Stopped: when `watch.stop()` says so.
        ValueError: if a checkpoint cannot be written.
    """
    recipe = find_recipe(task)
    formation = choose_formation(recipe, len(lanes))
    arrays = _place_arrays(recipe, formation, task)
    driver = _driver(recipe, task, arrays.train)
    setting = {"lane_mode": formation.mode, "company": str(formation.per_device), "driver": driver}
    setting["device"] = formation.devices[0].device_kind
    pace = Pace()

    for first in range(0, len(lanes), formation.size):
        company = list(lanes[first : first + formation.size])
        checkpoint = None
        if watch.checkpoints is not None:
            checkpoint = watch.checkpoints / _checkpoint_name(task, company, setting, len(formation.devices))

        def progress(step: int, done: int = first, runs: int = len(company)) -> None:
            watch.progress(done * task.steps + step * runs, len(lanes) * task.steps)

        course = _course(recipe, formation, driver, task, company, arrays)
        results, pace = _train_company(course, task, company, setting, progress, watch, checkpoint, pace)
        yield results
        if checkpoint is not None:
            remove_checkpoint(checkpoint)


def _train_company(
    course: Course,
    task: Task,
    company: Sequence[Lane],
    setting: dict[str, str],
    progress: Callable[[int], None],
    watch: Watch,
    checkpoint: Path | None,
    pace: Pace,
) -> tuple[tuple[LaneResult, ...], Pace]:
    """What the lanes left behind, and the pace at which others may begin."""

    def record(step: int, row: Mapping[str, np.ndarray]) -> None:
        for i, lane in enumerate(company):
            watch.record(lane, step, {name: float(values[i]) for name, values in row.items()})

    outcome = complete(course, progress=progress, record=record, stop=watch.stop, checkpoint=checkpoint, pace=pace)
    if outcome is None:
        raise Stopped
    progress(task.steps)
    diverged = np.asarray(outcome.lanes.diverged_step)
    results = []
    for i, lane in enumerate(company):
        curves = {name: values[:, i] for name, values in outcome.curves.items()}
        curves["step"] = np.array(task.record_steps)
        seconds = outcome.seconds / len(company)
        results.append(LaneResult(lane, curves, bool(diverged[i] >= 0), int(diverged[i]), seconds, setting))
    # Lanes that have diverged take no time: what they show is no measure for others.
    return tuple(results), Pace() if (diverged >= 0).any() else outcome.pace


_versions = cache(versions)


def _checkpoint_name(task: Task, company: Sequence[Lane], setting: Mapping[str, str], devices: int) -> str:
    """Of a file, shared exactly by what goes on from one state to one result."""
    lanes = [(float(lane.learning_rate).hex(), int(lane.seed)) for lane in company]
    checksum = load_dataset(task.data).checksum
    precision = str(jax.config.jax_default_matmul_precision)  # type: ignore[attr-defined]  # jax adds it as it runs
    state = [asdict(task), checksum, lanes, setting, devices, precision, _versions()]
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:32]
    return f"{task.parameterization}-w{task.width}-d{task.depth}-{digest}.npz"


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


def _course(
    recipe: Recipe, formation: Formation, driver: Driver, task: Task, company: list[Lane], arrays: _Arrays
) -> Course:
    filled = company + [company[-1]] * (formation.size - len(company))
    absent = np.arange(formation.size) >= len(company)
    rates = np.array([lane.learning_rate for lane in filled], np.float32)
    seeds = jnp.array([lane.seed for lane in filled], jnp.int32)
    chunk = max(stop - start for start, stop in pairwise((0, *task.record_steps)))
    most_steps = max(1, min(chunk, ORDER_NUMBERS // (task.batch_size * formation.per_device)))
    step, look = (_advance, _observe) if driver == "loop" else (_advance_dispatched, _observe_dispatched)

    def advance(state: LaneState, start: int, stop: int) -> LaneState:
        examples = len(arrays.train[1])
        orders = (batch_indices(lane.seed, examples, task.batch_size, start, stop) for lane in filled)
        order = np.stack([_padded(rows, most_steps) for rows in orders])
        return step(recipe, formation, state, rates, order, arrays.train, np.int32(stop))

    def observe(state: LaneState, trackers: TrackerState) -> tuple[TrackerState, dict[str, jax.Array]]:
        return look(recipe, formation, state, trackers, seeds, arrays.probe, arrays.held_out)

    @cache
    def like() -> tuple[LaneState, TrackerState, dict[str, jax.Array]]:
        state, trackers = jax.eval_shape(partial(_begin, recipe, formation), seeds, absent, arrays.probe)
        looped = partial(_observe, recipe, formation)
        return state, trackers, jax.eval_shape(looped, state, trackers, seeds, arrays.probe, arrays.held_out)[1]

    return Course(
        begin=lambda: _begin(recipe, formation, seeds, absent, arrays.probe),
        advance=advance,
        observe=observe,
        like=like,
        place=partial(_stand, formation),
        record_steps=task.record_steps,
        most_steps=most_steps,
    )


@partial(jax.jit, static_argnums=0)
def _stand(formation: Formation, stacked: tuple[Any, ...]) -> Any:
    """Lanes from the host to where `_begin` has them."""
    return formation.each(lambda *lane: lane, stacked, ())


def _padded(order: np.ndarray, length: int) -> np.ndarray:
    # Pieces of one length share one program; the rows beyond a piece's end are never read.
    return np.pad(order, ((0, length - len(order)), (0, 0)))
