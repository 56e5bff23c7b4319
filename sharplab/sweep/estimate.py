"""How long the groups of a sweep will take here, and how much memory, from a few steps of each compiled shape."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, pairwise
from threading import Event, Timer
from typing import Any

from rich.console import Console

from sharplab.core.settings import TrainingSettings, declarations
from sharplab.sweep.plan import Group
from sharplab.sweep.timing import Measured, measure
from sharplab.training.programs import choose_layout
from sharplab.training.recipe import Recipe
from sharplab.training.task import Task, find_recipe

QUIET_SECONDS = 1.0  # of measuring before the first line is printed
# Settings that neither time nor memory of a step or record depends on, at their defaults.
FREE: Mapping[str, Any] = {
    name: getattr(TrainingSettings, name) for name, each in declarations(TrainingSettings).items() if not each.costs
}


@dataclass(frozen=True)
class GroupEstimate:
    """The time and memory that one group will take."""

    seconds: float  # with the estimate's workers, compilation apart
    bytes: int  # of memory on each device


@dataclass(frozen=True)
class Estimated:
    """The time and memory that a sweep will take, in all and group by group.

    What Python and its libraries take, some 0.5 GB per process, comes on top.
    """

    groups: tuple[GroupEstimate, ...]  # in the order given
    compile_seconds: float  # the part of `seconds` in which programs are compiled, where none is cached yet
    seconds: float  # of wall time
    bytes: int  # of memory for data, weights and programs on all devices that train at once
    devices: int  # that train at once


def estimate(groups: Sequence[Group], *, workers: int | None = None) -> Estimated:
    """Time and memory of groups, from a few steps and a record of each compiled shape, made now on this machine.

    Shapes are measured once where only the parameterization, bases, exponents, schedule and number of steps differ.

    Args:
        workers: how many processes like this one, each with one device, share the work; this process alone with all
            its devices by default.

    Raises:
        ValueError: as training would, where a group cannot be trained; or for workers < 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}.")
    shapes = [_shape(group) for group in groups]
    found: dict[tuple[Task, int], Measured] = {}
    with _announcing(len(set(shapes))) as announce:
        for shape, group in zip(shapes, groups, strict=True):
            if shape not in found:
                announce(group.task)
                found[shape] = measure(group)
    of_groups = [found[shape] for shape in shapes]
    estimates = tuple(_of_group(group, measured, workers) for group, measured in zip(groups, of_groups, strict=True))
    programs = zip(map(_program, groups), of_groups, strict=True)
    compiling = sum({program: measured.compile_seconds for program, measured in programs}.values()) / (workers or 1)
    devices = workers or max((measured.devices for measured in of_groups), default=1)
    return Estimated(
        groups=estimates,
        compile_seconds=compiling,
        seconds=compiling + sum(each.seconds for each in estimates),
        bytes=devices * max((each.bytes for each in estimates), default=0),
        devices=devices,
    )


def _shape(group: Group) -> tuple[Task, int]:
    """A key that groups share whose steps, records and runs cost the same."""
    task = replace(group.task, **FREE, parameterization="mup", steps=1, record_steps=(0, 1))
    return task, choose_layout(find_recipe(group.task), len(group.runs)).size


def _program(group: Group) -> tuple[Recipe, int]:
    """A key that groups share that have the same compiled programs."""
    gaps = (stop - start for start, stop in pairwise(group.task.record_steps))
    return find_recipe(group.task), max(gaps)


def _of_group(group: Group, measured: Measured, workers: int | None) -> GroupEstimate:
    batches = -(-len(group.runs) // measured.runs)
    seconds = batches * measured.batch_seconds(group.task.steps, len(group.task.record_steps))
    if workers is not None:
        # Of a run batch, each device's part is a run batch for a worker with one.
        seconds *= measured.devices / workers
    return GroupEstimate(seconds, measured.bytes)


@contextmanager
def _announcing(shapes: int) -> Iterator[Callable[[Task], None]]:
    """A function that prints which shape is being measured: at once in a terminal, elsewhere where it takes long."""
    console, numbers, lines, late = Console(stderr=True), count(1), [""], Event()

    def show() -> None:
        late.set()
        if not console.is_terminal:
            console.print(lines[-1], highlight=False)

    def announce(task: Task) -> None:
        name = f"{task.model} width {task.width} depth {task.depth}"
        lines.append(f"  measuring shape {next(numbers)} of {shapes}: {name}")
        status.update(lines[-1])
        if late.is_set():
            show()

    timer = Timer(QUIET_SECONDS, show)
    with console.status("") as status:
        timer.start()
        try:
            yield announce
        finally:
            timer.cancel()
