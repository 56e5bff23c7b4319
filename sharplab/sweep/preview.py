"""What a sweep would do: its plan against what the store holds, with time and memory, and nothing trained."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import jax
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from sharplab.sweep.estimate import Estimated, estimate
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import FINE_RATIO, MOST_EXTENSIONS, WHOLE, Group, Shard, known_runs, tasks
from sharplab.sweep.store.directory import MARKER, open_store, read_rows
from sharplab.sweep.store.identity import OBSERVATION, run_id
from sharplab.training.task import Run, Task

ALWAYS = ("parameterization", "width", "depth")


@dataclass(frozen=True)
class PlannedTask:
    """What a sweep has and lacks of one task."""

    task: Task  # what its runs share
    rates: tuple[float, ...]  # learning rates, ascending
    seeds: int  # how many
    stored: int  # how many of its runs the store holds
    missing: tuple[Run, ...]  # the runs that are to be trained
    inside: int  # how many runs refinement adds to those planned, where the best learning rate lies inside the grid
    further: int  # how many it adds at most


def plan_tasks(experiments: Sequence[Experiment], store: Path, shard: Shard = WHOLE) -> tuple[PlannedTask, ...]:
    """The tasks of experiments, in their order; a run that several want is planned for the first of them alone.

    The store is read and not made; a directory that is none counts as an empty one if the sweep would make it one.

    Raises:
        ValueError: for a directory that cannot become a store.
    """
    if (store / MARKER).exists() or (store.exists() and any(store.iterdir())):
        open_store(store)
    rows, planned = read_rows(store), set[str]()
    found: list[PlannedTask] = []
    for experiment in experiments:
        found.extend(_tasks(experiment, known_runs(experiment, rows), shard, planned))
    return tuple(found)


def _tasks(experiment: Experiment, known: pd.DataFrame, shard: Shard, planned: set[str]) -> Iterator[PlannedTask]:
    runs: dict[Task, list[Run]] = {}
    for task, run in shard.runs(experiment, known):
        runs.setdefault(task, []).append(run)
    stored = set(known["run_id"])
    for task in filter(runs.__contains__, tasks(experiment)):
        own = [run for run in runs[task] if run_id(task, run) not in planned]
        missing = tuple(run for run in own if run_id(task, run) not in stored)
        planned.update(run_id(task, run) for run in own)
        rates = tuple(sorted({run.learning_rate for run in runs[task]}))
        inside, further = _refinement(experiment, task, len(rates)) if experiment.refine and missing else (0, 0)
        seeds = len({run.seed for run in runs[task]})
        yield PlannedTask(task, rates, seeds, len(own) - len(missing), missing, inside, further)


def _refinement(experiment: Experiment, task: Task, planned: int) -> tuple[int, int]:
    """How many runs refinement adds where the best rate lies inside the grid, and how many at most."""
    own = experiment.rates_of(task.parameterization)
    if len(own) == 1:
        return 0, 0
    octaves = max(math.log2(high / low) for low, high in pairwise(own))
    halvings = max(0, math.ceil(math.log2(octaves / math.log2(FINE_RATIO)) - 1e-9))
    inside = len(own) + 2 * halvings
    seeds = len(experiment.seeds_of(task.width))
    return max(0, inside - planned) * seeds, max(0, inside + 2 * MOST_EXTENSIONS - planned) * seeds


def estimate_tasks(planned: Sequence[PlannedTask], *, workers: int | None = None) -> Estimated:
    """The time and memory of what is missing; see `estimate`."""
    return estimate([Group(each.task, each.missing) for each in planned if each.missing], workers=workers)


def print_plan(planned: Sequence[PlannedTask], estimated: Estimated, console: Console) -> None:
    """Print the plan as a table with its totals."""
    varying = [
        name
        for name in (field.name for field in fields(Task))
        if name not in (*ALWAYS, *OBSERVATION) and len({getattr(each.task, name) for each in planned}) > 1
    ]
    table = Table(box=box.SIMPLE, show_footer=True)
    runs, stored = sum(len(each.missing) for each in planned), sum(each.stored for each in planned)
    table.add_column("parameterization", footer="in all", no_wrap=True)
    for name in (*ALWAYS[1:], *varying):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    table.add_column("learning rates", no_wrap=True)
    table.add_column("seeds", justify="right")
    table.add_column("stored", footer=str(stored), justify="right")
    table.add_column("to train", footer=str(runs), justify="right")
    table.add_column("time", footer=duration(estimated.seconds), justify="right", no_wrap=True)
    table.add_column("memory", footer=amount(estimated.bytes), justify="right", no_wrap=True)
    taken = iter(estimated.groups)
    for each in planned:
        group = next(taken) if each.missing else None
        settings = [str(getattr(each.task, name)) for name in (*ALWAYS, *varying)]
        counts = [_grid(each.rates), str(each.seeds), str(each.stored), str(len(each.missing))]
        costs = [duration(group.seconds), amount(group.bytes)] if group else ["", ""]
        table.add_row(*settings, *counts, *costs)
    console.print(table)
    for line in _remarks(planned, estimated):
        console.print(line, highlight=False, soft_wrap=True)


def _remarks(planned: Sequence[PlannedTask], estimated: Estimated) -> Iterator[str]:
    if estimated.groups:
        devices = f"{estimated.devices} device{'s' * (estimated.devices > 1)}"
        yield (
            f"Time and memory were measured on this machine, with {devices} (CPU cores or GPUs) at once. The time in "
            f"all includes {duration(estimated.compile_seconds)} to compile; the memory of each task is on one device, "
            "in all on all of them, and each process takes about 0.5 GB for its libraries besides."
        )
    free = free_bytes()
    if free is not None and estimated.bytes > free:
        fitting = max((each.bytes for each in estimated.groups if estimated.devices * each.bytes <= free), default=0)
        smaller = f" Tasks of up to {amount(fitting)} each fit" if fitting else " None of the tasks fits"
        yield (
            f"This machine has {amount(free)} of memory free, less than {amount(estimated.bytes)} in all.{smaller}: "
            "train with fewer workers, or record fewer eigenvalues on a smaller probe."
        )
    inside, further = sum(each.inside for each in planned), sum(each.further for each in planned)
    if further:
        yield (
            f"Refinement follows: {inside} further runs where the best learning rates lie inside their grids, up to "
            f"{further} where they lie at an edge (--no-refine: none)."
        )
    yield "Nothing was trained."


def free_bytes() -> int | None:
    """The memory of this machine that is free; None where the system does not say, and for accelerators."""
    if jax.default_backend() != "cpu":
        return None
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _grid(rates: Sequence[float]) -> str:
    ends = _power(rates[0]) if len(rates) == 1 else f"{_power(rates[0])} … {_power(rates[-1])}"
    return f"{ends} ({len(rates)})"


def _power(rate: float) -> str:
    exponent = math.log2(rate)
    return f"2^{exponent:g}" if (2 * exponent).is_integer() else f"{rate:.4g}"


def duration(seconds: float) -> str:
    """A length of time as people read it.

    >>> [duration(s) for s in (0.04, 7.3, 90, 7000, 300000)]
    ['0.04 s', '7 s', '2 min', '1.9 h', '3.5 days']
    """
    for unit, length, least in (("days", 86400, 2), ("h", 3600, 1.5), ("min", 60, 1.5)):
        if seconds >= least * length:
            return f"{seconds / length:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"


def amount(count: float) -> str:
    """A number of bytes as people read it.

    >>> [amount(b) for b in (512, 20_000, 3_400_000, 12e9)]
    ['512 B', '20 kB', '3.4 MB', '12 GB']
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.{0 if count >= 10 or unit == 'B' else 1}f} {unit}"
        count /= 1000
    return f"{count:.{0 if count >= 10 else 1}f} GB"
