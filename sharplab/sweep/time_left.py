"""How long the groups that are left will take, from what others took.

A step of a run takes about a + b c seconds, where c is its part of `Group.cost` and a, which small networks are ruled
by, does not depend on the size. a and b are those of runs of one kind, whose records are equally dense, so that they
hold the time of records too. Compilation comes once per kind and size, apart.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
import pandas as pd

from sharplab.core.settings import TrainingSettings, declarations
from sharplab.sweep.claims import Claim
from sharplab.sweep.plan import Group
from sharplab.training.task import Task

# Numbers that are arguments of the programs, and lengths.
FREE = {"base_width", "base_depth", "alpha", "gamma", "steps"}
SETTINGS = [name for name, each in declarations(TrainingSettings).items() if name not in FREE and not each.observation]
TYPICAL = 2.0**14  # a/b of small networks on a processor
DOUBLINGS = 3.0  # by which a/b usually lies above or below
NOISE = 0.1  # of the logarithm of measured seconds
RATIOS = TYPICAL * 2 ** np.linspace(-24, 24, 769)

Kind = tuple[Hashable, ...]


class Size(NamedTuple):
    """What runs have in common whose programs are the same and whose steps take the same time."""

    kind: Kind
    width: int
    depth: int


@dataclass(frozen=True)
class Spent:
    """The time that a worker spent on a group."""

    runs: int = 0  # that it trained; others were in the store already
    seconds: float = 0.0  # compilation apart
    compiling: float = 0.0


NOTHING = Spent()


@dataclass(frozen=True)
class Timing:
    """The time that runs of one size took."""

    size: Size
    cost: float  # `Group.cost` of a step of a run
    seconds: float  # per step of a run
    compiling: float  # in all


class Left(NamedTuple):
    """The time that a group will take."""

    first: str  # the identity of the group's first run
    seconds: float  # compilation apart
    compiling: float


@lru_cache(maxsize=2**12)
def size_of(task: Task) -> Size:
    """The size of a task's runs."""
    shared = tuple(getattr(task, name) for name in SETTINGS)
    kind = (*shared, tuple(sorted(task.observables)), task.steps / len(task.record_steps))
    return Size(kind, task.width, task.depth)


def timing(group: Group, spent: Spent) -> Timing | None:
    """The timing of a group that is done; None where nothing was trained."""
    steps = spent.runs * group.task.steps
    if not steps or spent.seconds <= 0:
        return None
    return Timing(size_of(group.task), step_cost(group), spent.seconds / steps, spent.compiling)


def step_cost(group: Group) -> float:
    """The cost of a step of a run."""
    return group.cost / (group.task.steps * len(group.runs))


def stored_timings(rows: pd.DataFrame) -> list[Timing]:
    """The timings of a store's runs, of each kind those with the device and loop of the latest.

    The run of a size that took longest is taken to have held the compilation.
    """
    columns = [*SETTINGS, "width", "depth", "steps", "seconds", "written", "device", "loop"]
    if rows.empty or not set(columns).issubset(rows):
        return []
    table = rows[columns].assign(
        observables=rows["observables"].map(lambda names: tuple(sorted(names))),
        gap=rows["steps"] / rows["record_steps"].str.len(),
        cost=rows["width"] * (64.0 + rows["depth"] * rows["width"]),
        step_seconds=rows["seconds"] / rows["steps"],
    )
    table = table[table["seconds"] > 0].sort_values("written").reset_index(drop=True)
    kind, place = [*SETTINGS, "observables", "gap"], ["device", "loop"]
    latest = table.groupby(kind, sort=False)[place].transform("last")
    table = table[(table[place] == latest).all(axis=1)]
    return [
        Timing(
            size=Size(tuple(key[:-2]), *key[-2:]),
            cost=runs["cost"].iloc[0],
            seconds=runs["step_seconds"].median(),
            compiling=runs["seconds"].max() - runs["seconds"].median(),
        )
        for key, runs in table.groupby([*kind, "width", "depth"], sort=False)
    ]


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The a and b > 0 of a step's seconds a + b c, from pairs of a cost c and seconds.

    Errors are relative. How a compares with b is not known of one size, and hardly of two that are near each other:
    a/b is taken to be `TYPICAL` within `DOUBLINGS`, as far as the pairs do not tell better.
    """
    costs, seconds = np.array(points).T
    logs = np.log(seconds) - np.log(RATIOS[:, None] + costs)
    scales = logs.mean(axis=1)
    misfits = np.sum((logs - scales[:, None]) ** 2, axis=1) / NOISE**2 + (np.log2(RATIOS / TYPICAL) / DOUBLINGS) ** 2
    best = np.argmin(misfits)
    b = math.exp(scales[best])
    return float(RATIOS[best]) * b, b


def predict(groups: Sequence[Group], measured: Iterable[Timing], stored: Iterable[Timing]) -> tuple[Left, ...] | None:
    """The time that each group will take; None where nothing is known of the kind of one.

    `measured` timings are of this call's groups. Sizes that it has not met are taken from those `stored`, whose
    programs are kept on the machine. A size of neither is compiled by the first of its groups, for as long as others.
    """
    of_call, of_store = _by_size(measured), _by_size(stored)
    known = of_store | of_call
    points: dict[Kind, list[tuple[float, float]]] = defaultdict(list)
    for size, timings in known.items():
        points[size.kind].append((timings[0].cost, median(each.seconds for each in timings)))
    laws = {kind: fit(pairs) for kind, pairs in points.items()}
    compilations = [sum(each.compiling for each in timings) for timings in (of_call or of_store).values()]
    met, left = set(known), []
    for group in groups:
        size = size_of(group.task)
        if size.kind not in laws:
            return None
        a, b = laws[size.kind]
        seconds = a * group.task.steps * len(group.runs) + b * group.cost
        left.append(Left(group.first_id, seconds, 0.0 if size in met else fmean(compilations)))
        met.add(size)
    return tuple(left)


def _by_size(timings: Iterable[Timing]) -> dict[Size, list[Timing]]:
    found: dict[Size, list[Timing]] = defaultdict(list)
    for each in timings:
        found[each.size].append(each)
    return found


def still_left(left: Iterable[Left], claims: Sequence[Claim]) -> list[float]:
    """The seconds that are left of each group, given the claims of those under way."""
    shares = {claim.run_ids[0]: claim.done / claim.total for claim in claims if claim.total}
    made = [shares.get(group.first, 0.0) for group in left]
    return [
        group.seconds * (1 - share) + group.compiling * (share == 0) for group, share in zip(left, made, strict=True)
    ]
