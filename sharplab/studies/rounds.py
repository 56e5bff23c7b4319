"""Rounds of seeds until a verdict: pure, so that a decision follows from the rows of a store, however they came there.

Look k sees the runs of round k's plan alone, though the store may hold more: a call that is killed and made again, and
one that finds further seeds, look at the same runs and decide the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import pandas as pd

from sharplab.analysis import Transfer, transfer
from sharplab.analysis.seed_optima import slope_weights
from sharplab.analysis.sequential import Rules
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import known_runs, missing_groups, tasks, wanted_ids
from sharplab.sweep.store.rows import as_records
from sharplab.training.flops import training_flops

LEAST_WEIGHT = 1e-9  # rounding aside, that of a size which the slope depends on

Seeds = tuple[int, ...]  # how many, per size


@dataclass(frozen=True)
class Design:
    """What is to be decided, and within which limits.

    Attributes:
        experiment: the sweep with the seeds of the first look.
        over: "width" or "depth".
        seeds: per size, the most.
        flops: of training in all, the most, for rounds beyond the first.
        confidence: of all looks together.
    """

    experiment: Experiment
    over: str
    metric: str
    tolerance: float
    seeds: int
    flops: float
    confidence: float

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that are compared, ascending."""
        return tuple(sorted(getattr(self.experiment, f"{self.over}s")))

    @property
    def first(self) -> Seeds:
        """The seeds of the first look."""
        return tuple(len(self._own(size)) for size in self.sizes)

    @property
    def rules(self) -> Rules:
        """The rules of its rounds; a size in the middle, of which the slope takes nothing, keeps its first seeds."""
        _, weights = slope_weights(self.sizes)
        most = (
            max(self.seeds, own) if abs(weight) > LEAST_WEIGHT else own
            for own, weight in zip(self.first, weights, strict=True)
        )
        return Rules(tuple(most), self.tolerance, self.confidence)

    def experiments(self, name: str, seeds: Seeds) -> Iterator[Experiment]:
        """One parameterization's sweep with so many seeds, an experiment per size."""
        for size, many in zip(self.sizes, seeds, strict=True):
            own = self._own(size)
            more = islice((seed for seed in count() if seed not in own), max(many - len(own), 0))
            changes: dict[str, Any] = {f"{self.over}s": (size,), "seeds": (*own, *more)}
            yield replace(self.experiment, parameterizations=(name,), **changes)

    def run_flops(self, name: str) -> tuple[int, ...]:
        """The floating-point operations of a run at each size."""
        return tuple(training_flops(*tasks(each)) for each in self.experiments(name, self.first))

    def _own(self, size: int) -> tuple[int, ...]:
        return self.experiment.seeds_of(size if self.over == "width" else self.experiment.widths[0])


@dataclass(frozen=True)
class Look:
    """What one look at one parameterization shows.

    Attributes:
        seeds: per size.
        found: with the confidence that this look has.
        costs: of one more seed at each size: of its runs, in FLOPs.
        run_ids: of the runs so far, and the FLOPs of each.
        ended: why no round follows; "" where one would.
    """

    seeds: Seeds
    found: Transfer
    costs: tuple[int, ...]
    run_ids: Mapping[str, int]
    ended: str

    @property
    def flops(self) -> int:
        """The FLOPs of the runs so far."""
        return sum(self.run_ids.values())


@dataclass(frozen=True)
class Rounds:
    """What the rows of a store show.

    Attributes:
        looks: of each parameterization, one after another.
        rows: of the runs that were looked at.
        missing: the experiments of the next round, of which the store lacks runs; none where all has ended.
    """

    looks: Mapping[str, Sequence[Look]]
    rows: pd.DataFrame
    missing: tuple[Experiment, ...]


def follow(design: Design, rows: pd.DataFrame) -> Rounds:
    """The looks that the rows of a store allow, and the round that comes next."""
    known = known_runs(design.experiment, rows)  # of every round, since all are recorded alike
    looks: dict[str, list[Look]] = {name: [] for name in design.experiment.parameterizations}
    plans = dict.fromkeys(looks, design.first)
    every: tuple[Experiment, ...] = ()
    while plans:
        round_ = {name: tuple(design.experiments(name, seeds)) for name, seeds in plans.items()}
        every = tuple(each for several in round_.values() for each in several)
        if any(missing_groups(each, known) for each in every):
            break
        for name, several in round_.items():
            seen = set[str]().union(*(wanted_ids(each, known) for each in several))
            looks[name].append(_look(design, name, plans[name], known[known["run_id"].isin(seen)], looks[name]))
        plans = _next_round(design, looks, plans)
    used = set[str]().union(*(of_name[-1].run_ids for of_name in looks.values() if of_name))
    return Rounds(looks, known[known["run_id"].isin(used)], every if plans else ())


def _look(design: Design, name: str, seeds: Seeds, rows: pd.DataFrame, before: Sequence[Look]) -> Look:
    earlier, records = before[-1] if before else None, as_records(rows)
    confidence = design.rules.look_confidence(earlier.seeds if earlier else (), seeds)
    options: dict[str, Any] = {"over": design.over, "metric": design.metric, "tolerance": design.tolerance}
    (found,) = transfer(records, **options, confidence=confidence).values()
    of_size, runs = dict(zip(design.sizes, design.run_flops(name), strict=True)), records.runs
    rates = runs.groupby(design.over)["learning_rate"].nunique()
    run_ids = dict(zip(runs["run_id"], (of_size[size] for size in runs[design.over]), strict=True))
    return Look(
        seeds=seeds,
        found=found,
        costs=tuple(int(rates[size]) * of_size[size] for size in design.sizes),
        run_ids={**(earlier.run_ids if earlier else {}), **run_ids},
        ended=_ended(design, found, seeds),
    )


def _ended(design: Design, found: Transfer, seeds: Seeds) -> str:
    if found.verdict != "inconclusive":
        return "decided"
    if any(found.at_grid_edge):
        return "grid"
    if sum(seeds) >= sum(design.rules.most):
        return "seeds"
    return "hopeless" if design.rules.hopeless(found.sampling, found.shift) else ""


def _next_round(design: Design, looks: dict[str, list[Look]], plans: Mapping[str, Seeds]) -> dict[str, Seeds]:
    """The seeds of the next round, of the parameterizations that are open and whose round is within the cost."""
    spent = sum(of_name[-1].flops for of_name in looks.values())
    following = {}
    for name in plans:
        last = looks[name][-1]
        if last.ended:
            continue
        seeds = design.rules.next_seeds(replace(last.found.sampling, seeds=last.seeds), last.costs)
        cost = sum((then - now) * each for then, now, each in zip(seeds, last.seeds, last.costs, strict=True))
        if spent + cost > design.flops:
            looks[name][-1] = replace(last, ended="flops")
            continue
        spent += cost
        following[name] = seeds
    return following
