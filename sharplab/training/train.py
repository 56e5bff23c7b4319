"""Training of many (learning rate, seed) lanes of one compiled shape.

Lanes travel in companies of fixed size, so that one program serves any number of them: one lane per device,
one after another (bit-identical however many there are), or several per device, vectorised.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.loops import Driver
from sharplab.core.provenance import versions
from sharplab.data import batch_indices, load_dataset
from sharplab.tracking.measurement import TrackerState
from sharplab.training import programs
from sharplab.training.checkpoints import remove_checkpoint
from sharplab.training.layout import Formation
from sharplab.training.loop import Course, Pace, complete
from sharplab.training.recipe import LaneState, Recipe
from sharplab.training.task import Lane, Task, find_recipe

ORDER_NUMBERS = 2**22  # of examples, whose batches to come are on a device at once


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
    formation = programs.choose_formation(recipe, len(lanes))
    arrays = programs.place_arrays(recipe, formation, task)
    driver = programs.find_driver(recipe, task, arrays.train)
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


def _course(
    recipe: Recipe, formation: Formation, driver: Driver, task: Task, company: list[Lane], arrays: programs.Arrays
) -> Course:
    filled = company + [company[-1]] * (formation.size - len(company))
    absent = np.arange(formation.size) >= len(company)
    rates = np.array([lane.learning_rate for lane in filled], np.float32)
    seeds = jnp.array([lane.seed for lane in filled], jnp.int32)
    chunk = max(stop - start for start, stop in pairwise((0, *task.record_steps)))
    most_steps = max(1, min(chunk, ORDER_NUMBERS // (task.batch_size * formation.per_device)))
    looped = driver == "loop"
    step = programs.advance if looped else programs.advance_dispatched
    look = programs.observe if looped else programs.observe_dispatched

    def advance(state: LaneState, start: int, stop: int) -> LaneState:
        examples = len(arrays.train[1])
        orders = (batch_indices(lane.seed, examples, task.batch_size, start, stop) for lane in filled)
        order = np.stack([_padded(rows, most_steps) for rows in orders])
        return step(recipe, formation, state, rates, order, arrays.train, np.int32(stop))

    def observe(state: LaneState, trackers: TrackerState) -> tuple[TrackerState, dict[str, jax.Array]]:
        return look(recipe, formation, state, trackers, seeds, arrays.probe, arrays.held_out)

    @cache
    def like() -> tuple[LaneState, TrackerState, dict[str, jax.Array]]:
        state, trackers = jax.eval_shape(partial(programs.begin, recipe, formation), seeds, absent, arrays.probe)
        look_at = partial(programs.observe, recipe, formation)
        return state, trackers, jax.eval_shape(look_at, state, trackers, seeds, arrays.probe, arrays.held_out)[1]

    return Course(
        begin=lambda: programs.begin(recipe, formation, seeds, absent, arrays.probe),
        advance=advance,
        observe=observe,
        like=like,
        place=partial(programs.stand, formation),
        record_steps=task.record_steps,
        most_steps=most_steps,
    )


def _padded(order: np.ndarray, length: int) -> np.ndarray:
    # Pieces of one length share one program; the rows beyond a piece's end are never read.
    return np.pad(order, ((0, length - len(order)), (0, 0)))
