"""What to train next, from experiments and the rows of a store: pure, so that a sweep can be cut anywhere."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise, product
from statistics import median

import numpy as np
import pandas as pd

from sharplab.core.grid import rounded
from sharplab.core.settings import TrainingSettings
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.store.identity import run_id
from sharplab.sweep.store.rows import at_steps, one_per_run
from sharplab.training.task import Run, Task

MOST_EXTENSIONS = 6
FINE_RATIO = math.sqrt(2)
SLACK = 1 + 1e-6  # for the rounding of learning rates
GROUPS_PER_WORKER = 4  # at least, so that workers end at about one time


@dataclass(frozen=True)
class Group:
    """Runs of one compiled shape that have not been trained."""

    task: Task
    runs: tuple[Run, ...]

    @property
    def cost(self) -> float:
        """The work in arbitrary units: that of the first layer grows with the width, of others with its square."""
        per_step = self.task.width * (64 + self.task.depth * self.task.width)
        return per_step * self.task.steps * len(self.runs)

    @property
    def label(self) -> str:
        """A line that names the group: its model, parameterization, size and number of runs."""
        task = self.task
        runs = f"{len(self.runs)} run{'s' * (len(self.runs) > 1)}"
        return f"{task.model} {task.parameterization} width {task.width} depth {task.depth}, {runs}"

    @property
    def first_id(self) -> str:
        """The identity of the first run, which names the group among others of one plan."""
        return run_id(self.task, self.runs[0])

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The identities of the runs, in their order."""
        return tuple(run_id(self.task, run) for run in self.runs)

    def parts(self, most_runs: int) -> "tuple[Group, ...]":
        """The group divided into groups of at most so many runs, as even as can be."""
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


def wanted_runs(experiment: Experiment, task: Task, losses: Mapping[str, float]) -> tuple[Run, ...]:
    """The runs that an experiment wants of a task, given the final train losses known so far, by run identity.

    With `refine`, learning rates are added by this rule, on the final train losses of the seeds, in which a diverged
    run counts as infinite:

    1. the experiment's own grid;
    2. while the mean or the median over seeds is best at the lowest or highest learning rate of the grid (the lowest,
       where all diverge), another one beyond it, at the ratio of the two rates that end the experiment's own grid on
       that side, at most six times per side. The mean ends where the first seed diverges; the optimum of most seeds
       may lie beyond;
    3. once both are inside, the geometric mean of the mean's best and a neighbour, wherever their ratio exceeds √2,
       until it has both neighbours within √2.

    Rates whose runs are not all known are waited for.
    """
    seeds = experiment.seeds_of(task.width)
    rates = list(experiment.rates_of(task.parameterization))
    own = tuple(rates)
    while experiment.refine:
        found = [[losses.get(run_id(task, Run(rate, seed))) for seed in seeds] for rate in rates]
        if any(None in of_rate for of_rate in found):
            break
        added = refined(rates, found, own)  # type: ignore[arg-type]
        if not added:
            break
        rates = sorted({*rates, *added})
    return tuple(Run(rate, seed) for rate in rates for seed in seeds)


def refined(rates: Sequence[float], losses: Sequence[Sequence[float]], own: Sequence[float]) -> list[float]:
    """The learning rates to add, ascending; none when the optimum is bracketed within √2. Losses are by rate and seed.

    >>> refined([1.0, 2.0, 4.0], [[0.9, 0.9, 0.9], [0.8, 0.8, 0.8], [0.7, 0.7, float("inf")]], [1.0, 2.0, 4.0])
    [8.0]
    """
    if len(own) == 1:
        return []
    finite = [[x if math.isfinite(x) else math.inf for x in of_rate] for of_rate in losses]
    best, of_most = _lowest([_mean(of_rate) for of_rate in finite]), _lowest([median(of_rate) for of_rate in finite])
    last, beyond = len(rates) - 1, []
    if 0 in (best, of_most):
        ratio = own[1] / own[0]
        lower = rounded(rates[0] / ratio)
        beyond += [lower] if own[0] / lower <= ratio**MOST_EXTENSIONS * SLACK else []
    if last in (best, of_most):
        ratio = own[-1] / own[-2]
        higher = rounded(rates[-1] * ratio)
        beyond += [higher] if higher / own[-1] <= ratio**MOST_EXTENSIONS * SLACK else []
    if beyond or best in (0, last):
        return beyond
    neighbours = (rates[best - 1], rates[best + 1])
    apart = [n for n in neighbours if max(n / rates[best], rates[best] / n) > FINE_RATIO * SLACK]
    return sorted(rounded(math.sqrt(n * rates[best])) for n in apart)


def _lowest(values: Sequence[float]) -> int:
    return min(range(len(values)), key=lambda i: values[i])  # the first of equals, which is the lowest rate


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)  # statistics.mean is exact, and slow


def serving_rows(observables: Collection[str], record_steps: Collection[int], known: pd.DataFrame) -> pd.DataFrame:
    """The rows whose run was recorded with these observables at these steps, and maybe more.

    `known` is the store's table: run_id, train_loss, diverged, observables and record_steps (sequences). One run
    may have several rows: of two that were recorded differently, neither need hold all of the other.
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
        """The part as "i/n", counted from 1."""
        return f"{self.index or self.count}/{self.count}"

    def runs(self, experiment: Experiment, known: pd.DataFrame) -> Iterator[tuple[Task, Run]]:
        """The tasks and runs of this part, dealt out in turn, from the most expensive on.

        Single runs are dealt out; with `refine`, whose next learning rates depend on all runs of a task, whole tasks.
        `known` has the columns run_id, train_loss, diverged.
        """
        by_cost = sorted(tasks(experiment), key=lambda task: -Group(task, (Run(1.0, 0),)).cost)
        losses: dict[str, float] = {}
        if experiment.refine:  # else nothing depends on them
            finals = known["train_loss"].where(~known["diverged"], math.inf)
            losses = dict(zip(known["run_id"], finals, strict=True))
        dealt = 0
        for task in by_cost:
            for run in wanted_runs(experiment, task, losses):
                if dealt % self.count == self.index:
                    yield task, run
                dealt += not experiment.refine
            dealt += experiment.refine


WHOLE = Shard(0, 1)


def known_runs(experiment: Experiment, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a store that serve an experiment, one per run."""
    return one_per_run(serving_rows(experiment.observables, experiment.record_steps(), rows))


def missing_groups(
    experiment: Experiment, known: pd.DataFrame, *, shard: Shard = WHOLE, apart_from: Collection[str] = ()
) -> tuple[Group, ...]:
    """What to train now, given the experiment's `known_runs`, cheapest first; empty when it is complete.

    Runs whose identities are in `apart_from` are left out.
    """
    left_out = {*known["run_id"], *apart_from}
    missing: dict[Task, list[Run]] = {}
    for task, run in shard.runs(experiment, known):
        if run_id(task, run) not in left_out:
            missing.setdefault(task, []).append(run)
    groups = (Group(task, tuple(runs)) for task, runs in missing.items())
    return tuple(sorted(groups, key=lambda group: group.cost))


def wanted_ids(experiment: Experiment, known: pd.DataFrame, shard: Shard = WHOLE) -> set[str]:
    """The identities of all runs of the experiment, refinement included."""
    return {run_id(task, run) for task, run in shard.runs(experiment, known)}


@dataclass(frozen=True)
class Plan:
    """What several experiments want and lack."""

    runs: int  # how many they want, refinement included as far as it is known
    stored: int  # how many of these are known
    groups: tuple[Group, ...]  # what is to be trained now; a run that several experiments want is in one group alone


def make_plan(
    experiments: Sequence[Experiment], rows: pd.DataFrame, *, shard: Shard = WHOLE, apart_from: Collection[str] = ()
) -> Plan:
    """The plan of experiments, given the rows of a store; runs whose identities are in `apart_from` are left out."""
    planned = set(apart_from)
    runs = stored = 0
    groups: list[Group] = []
    for experiment in experiments:
        known = known_runs(experiment, rows)
        wanted = wanted_ids(experiment, known, shard)
        runs, stored = runs + len(wanted), stored + len(wanted.intersection(known["run_id"]))
        missing = missing_groups(experiment, known, shard=shard, apart_from=planned)
        planned.update(*(group.run_ids for group in missing))
        groups.extend(missing)
    return Plan(runs, stored, tuple(groups))


def wanted_rows(experiments: Sequence[Experiment], rows: pd.DataFrame, shard: Shard = WHOLE) -> pd.DataFrame:
    """The rows of a store that experiments want, one per run, with the records that they ask for.

    Of a run that was recorded at further steps these are left out: means over records are the same whatever else a
    store holds.
    """
    wanted, steps = [], dict[str, frozenset[int]]()
    for experiment in experiments:
        known = known_runs(experiment, rows)
        own = known[known["run_id"].isin(wanted_ids(experiment, known, shard))]
        asked = frozenset(experiment.record_steps())
        steps |= {run: steps.get(run, frozenset()) | asked for run in own["run_id"]}
        wanted.append(own)
    return at_steps(one_per_run(pd.concat(wanted, ignore_index=True)), steps)


def divide(groups: Sequence[Group], workers: int) -> list[Group]:
    """Groups in the order in which workers take them.

    One worker takes the cheapest first. For several the groups are divided, and the most expensive come first, so that
    all end at about one time.
    """
    if workers == 1:
        return sorted(groups, key=lambda group: group.cost)
    most = max(1, sum(len(group.runs) for group in groups) // (GROUPS_PER_WORKER * workers))
    return sorted((part for group in groups for part in group.parts(most)), key=lambda group: -group.cost)
