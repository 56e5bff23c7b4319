"""From an experiment and what is known already, what to train next: pure, so that a sweep can be cut anywhere."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise, product

import numpy as np
import pandas as pd

from sharplab.core.grid import rounded
from sharplab.core.settings import TrainingSettings
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.store.identity import run_id
from sharplab.training.task import Run, Task

MOST_EXTENSIONS = 6
FINE_RATIO = math.sqrt(2)
SLACK = 1 + 1e-6  # for the rounding of learning rates


@dataclass(frozen=True)
class Group:
    """Runs of one compiled shape that have not been trained."""

    task: Task
    runs: tuple[Run, ...]

    @property
    def cost(self) -> float:
        """In arbitrary units: the first layer's work grows with the width, the others' with its square."""
        per_step = self.task.width * (64 + self.task.depth * self.task.width)
        return per_step * self.task.steps * len(self.runs)

    @property
    def label(self) -> str:
        """For people."""
        task = self.task
        runs = f"{len(self.runs)} run{'s' * (len(self.runs) > 1)}"
        return f"{task.model} {task.parameterization} width {task.width} depth {task.depth}, {runs}"

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Of the runs, in their order."""
        return tuple(run_id(self.task, run) for run in self.runs)

    def parts(self, most_runs: int) -> "tuple[Group, ...]":
        """Groups of at most so many runs, as even as can be."""
        count = -(-len(self.runs) // most_runs)
        bounds = np.linspace(0, len(self.runs), count + 1).astype(int)
        return tuple(Group(self.task, self.runs[low:high]) for low, high in pairwise(bounds))


def tasks(experiment: Experiment) -> Iterator[Task]:
    """One task per parameterization, width and depth."""
    shared = {field.name: getattr(experiment, field.name) for field in fields(TrainingSettings)}
    record_steps = experiment.record_steps()
    for place in product(experiment.parameterizations, experiment.widths, experiment.depths):
        parameterization, width, depth = place
        yield Task(**shared, parameterization=parameterization, width=width, depth=depth, record_steps=record_steps)


def cells(experiment: Experiment, task: Task, losses: Mapping[str, float]) -> tuple[Run, ...]:
    """Every run that the experiment wants of a task, given the final train losses known so far, by run identity.

    With `refine`, learning rates are added by this rule, on the mean over seeds of the final train loss, in
    which a diverged run counts as infinite:

    1. the experiment's own grid;
    2. while the best learning rate is the lowest or highest of the grid (the lowest, where all diverge), another
       one beyond it, at the ratio of the two rates that end the experiment's own grid on that side, at most six
       times per side;
    3. once it is inside, the geometric mean of it and a neighbour, wherever their ratio exceeds √2, until the
       best has both neighbours within √2.

    Rates whose runs are not all known are waited for.
    """
    seeds = experiment.seeds_of(task.width)
    rates = list(experiment.rates_of(task.parameterization))
    own = tuple(rates)
    while experiment.refine:
        means = _mean_losses(task, rates, seeds, losses)
        if means is None:
            break
        added = refined(rates, means, own)
        if not added:
            break
        rates = sorted({*rates, *added})
    return tuple(Run(rate, seed) for rate in rates for seed in seeds)


def _mean_losses(
    task: Task, rates: Sequence[float], seeds: Sequence[int], losses: Mapping[str, float]
) -> list[float] | None:
    means = []
    for rate in rates:
        found = [losses.get(run_id(task, Run(rate, seed))) for seed in seeds]
        if None in found:
            return None
        mean = sum(found) / len(found)  # type: ignore[arg-type]
        means.append(mean if math.isfinite(mean) else math.inf)
    return means


def refined(rates: Sequence[float], means: Sequence[float], own: Sequence[float]) -> list[float]:
    """The learning rates to add, ascending; none when the optimum is bracketed within √2."""
    best = min(range(len(rates)), key=lambda i: (means[i], rates[i]))
    if len(own) == 1:
        return []
    if best == 0:
        ratio = own[1] / own[0]
        lower = rounded(rates[0] / ratio)
        return [lower] if own[0] / lower <= ratio**MOST_EXTENSIONS * SLACK else []
    if best == len(rates) - 1:
        ratio = own[-1] / own[-2]
        higher = rounded(rates[-1] * ratio)
        return [higher] if higher / own[-1] <= ratio**MOST_EXTENSIONS * SLACK else []
    neighbours = (rates[best - 1], rates[best + 1])
    apart = [n for n in neighbours if max(n / rates[best], rates[best] / n) > FINE_RATIO * SLACK]
    return sorted(rounded(math.sqrt(n * rates[best])) for n in apart)


def serving_rows(observables: Collection[str], record_steps: Collection[int], known: pd.DataFrame) -> pd.DataFrame:
    """The rows whose run was observed at least so.

    `known` is the store's table: run_id, train_loss, diverged, observables and record_steps (sequences). One run
    may have several rows: of two that were observed differently, neither need hold all of the other.
    """
    wanted, steps = set(observables), set(record_steps)
    serves = [
        wanted.issubset(seen) and steps.issubset(at)
        for seen, at in zip(known["observables"], known["record_steps"], strict=True)
    ]
    return known[np.array(serves, bool)]


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` of a sweep: the parts are disjoint, and together they are the sweep."""

    index: int
    count: int

    def __str__(self) -> str:
        """As "i/n", counted from 1."""
        return f"{self.index or self.count}/{self.count}"

    def cells(self, experiment: Experiment, known: pd.DataFrame) -> Iterator[tuple[Task, Run]]:
        """The tasks and runs of this part, dealt out like cards, from the most expensive on.

        `known` has the columns run_id, train_loss, diverged.

        What is dealt is single runs; with `refine`, whose next learning rates hang on all runs of a task, whole tasks.
        """
        by_cost = sorted(tasks(experiment), key=lambda task: -Group(task, (Run(1.0, 0),)).cost)
        losses: dict[str, float] = {}
        if experiment.refine:  # else nothing hangs on them
            finals = known["train_loss"].where(~known["diverged"], math.inf)
            losses = dict(zip(known["run_id"], finals, strict=True))
        dealt = 0
        for task in by_cost:
            runs = cells(experiment, task, losses)
            for run in runs:
                if dealt % self.count == self.index:
                    yield task, run
                dealt += not experiment.refine
            dealt += experiment.refine


WHOLE = Shard(0, 1)


def missing_groups(
    experiment: Experiment,
    known: pd.DataFrame,
    *,
    shard: Shard = WHOLE,
    apart_from: Collection[str] = (),
) -> tuple[Group, ...]:
    """What to train now, given the rows that serve, cheapest first; empty when the experiment is complete.

    Args:
        experiment: what is wanted.
        known: `serving_rows`, one per run.
        shard: the part of it that is looked at.
        apart_from: identities of runs to leave out.
    """
    left_out = {*known["run_id"], *apart_from}
    missing: dict[Task, list[Run]] = {}
    for task, run in shard.cells(experiment, known):
        if run_id(task, run) not in left_out:
            missing.setdefault(task, []).append(run)
    groups = (Group(task, tuple(runs)) for task, runs in missing.items())
    return tuple(sorted(groups, key=lambda group: group.cost))


def wanted_ids(experiment: Experiment, known: pd.DataFrame, shard: Shard = WHOLE) -> set[str]:
    """The identities of all runs of the experiment, refinement included."""
    return {run_id(task, run) for task, run in shard.cells(experiment, known)}
