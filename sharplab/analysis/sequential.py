"""Verdicts in rounds of seeds: the error that a look may spend, where seeds go next, and whether more would decide.

A verdict that is looked at again and again errs more often than at one look. So look k has its share of the error,
α (n_k − n_(k−1)) / n_max of all seeds, and its interval the confidence 1 minus that share: together they err in at most
α of cases, however the looks depend on each other (Bonferroni). Seeds may go to any size meanwhile, since which ones
get them depends on the noise alone, and how many a round adds on nothing.

The interval of a look is that of `sharplab.transfer`, whose slope is guarded against one size that lies off the line
(`sharplab.analysis.seed_optima.shift`). With seeds of a real sweep the plain slope decided 0 to 4 % more often and at
up to a tenth less cost; but where one size lies off by 0.5 octaves, it missed the shift of the others in half of the
sweeps, and the guarded one in 1 % (docs/statistics.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

GROWTH = 0.5  # of the seeds there are: how many the next round adds
HOPELESS = 0.05  # chance of a verdict from the most seeds below which there are no further rounds
MOST_SEEDS = 64  # per size, up to which it is asked how many would decide


@dataclass(frozen=True)
class Sampling:
    """How the variance of a shift depends on the seeds of each size; all are tuples over the sizes.

    Attributes:
        seeds: how many there are.
        weights: of the sizes' optima in the shift.
        variances: of a single seed's optimum, octaves².
        doubts: variances of the optima in differences that no seeds lessen, octaves².
        excess: of the shift's variance over that of the plain slope: what lies off the line is no noise of seeds.
    """

    seeds: tuple[int, ...]
    weights: tuple[float, ...]
    variances: tuple[float, ...]
    doubts: tuple[float, ...]
    excess: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything is known of the noise."""
        return bool(self.seeds) and bool(np.isfinite([*self.variances, *self.doubts, self.excess]).all())

    @property
    def fixed(self) -> float:
        """The part of the shift's variance that no seeds lessen."""
        return self.excess + float(np.square(self.weights) @ self.doubts)

    def by_seeds(self, seeds: Sequence[int]) -> float:
        """The part of the shift's variance that is the seeds'."""
        return float(np.square(self.weights) @ (np.array(self.variances) / seeds))

    def half_width(self, seeds: Sequence[int], confidence: float) -> float:
        """The expected half width of the shift's interval, in octaves per doubling."""
        df = sum(seeds) - len(seeds)
        return float(stats.t.ppf((1 + confidence) / 2, df) * np.sqrt(self.by_seeds(seeds) + self.fixed))

    def chance(self, shift: float, tolerance: float, seeds: Sequence[int], confidence: float) -> float:
        """The chance that so many seeds will decide, given the shift found with those there are.

        The shift then is normal about the one now, with the variance that the seeds take away.
        """
        half = self.half_width(seeds, confidence)
        later = stats.norm(shift, np.sqrt(max(self.by_seeds(self.seeds) - self.by_seeds(seeds), 1e-12)))
        outside = later.sf(tolerance + half) + later.cdf(-tolerance - half)
        within = later.cdf(tolerance - half) - later.cdf(half - tolerance) if half < tolerance else 0.0
        return float(outside + within)


@dataclass(frozen=True)
class Rules:
    """The rules of rounds: which confidence a look has, whether another round follows, and with which seeds.

    Attributes:
        most: seeds per size.
        tolerance: octaves per doubling.
        confidence: of all looks together.
    """

    most: tuple[int, ...]
    tolerance: float
    confidence: float

    def look_confidence(self, before: Sequence[int], now: Sequence[int]) -> float:
        """The confidence of a look's interval, given the seeds before, none at first, and now."""
        return 1 - (1 - self.confidence) * (sum(now) - sum(before)) / sum(self.most)

    def hopeless(self, sampling: Sampling, shift: float) -> bool:
        """Whether the most seeds would hardly decide, had their interval all of the error to itself.

        Sizes that lie off the line, as by chance they may with few seeds, are taken to lie on it later.
        """
        if not sampling.known or not np.isfinite(shift):
            return False
        return replace(sampling, excess=0.0).chance(shift, self.tolerance, self.most, self.confidence) < HOPELESS

    def next_total(self, total: int) -> int:
        """The seeds of all sizes after one round more: half as many again, one per size at least.

        A last round that would be small is joined to the one before, lest its interval have hardly any error to spend.

        >>> rules, totals = Rules((16,) * 4, 0.25, 0.95), [12]
        >>> while totals[-1] < 64:
        ...     totals.append(rules.next_total(totals[-1]))
        >>> totals
        [12, 18, 27, 40, 64]
        """
        added, most = max(len(self.most), int(GROWTH * total)), sum(self.most)
        return most if total + added + added // 2 >= most else total + added

    def next_seeds(self, sampling: Sampling, costs: Sequence[float]) -> tuple[int, ...]:
        """The seeds of the next round, given what one more costs at each size; those there are where none is left."""
        now = sum(sampling.seeds)
        return allocate(sampling, self.next_total(now) - now, self.most, costs)


def allocate(sampling: Sampling, added: int, most: Sequence[int], costs: Sequence[float]) -> tuple[int, ...]:
    """The seeds per size after so many more, each put where it lessens the shift's variance most per cost.

    A seed at size w takes c² s² (1/n − 1/(n + 1)) off the variance; the noise unknown, all sizes have the same s.
    `most` are the seeds that a size may have, `costs` what one more costs at each.

    >>> allocate(Sampling((2, 2, 2), (-0.5, 0.0, 0.5), (0.1, 0.1, 0.1), (0, 0, 0)), 3, (4, 4, 4), (1, 2, 4))
    (4, 2, 3)
    """
    seeds, caps = np.array(sampling.seeds), np.array(most)
    variances = np.array(sampling.variances) if sampling.known else np.ones(len(seeds))
    worth = np.square(sampling.weights) * variances / np.array(costs, float)
    for _ in range(added):
        gains = np.where(seeds < caps, worth * (1 / seeds - 1 / (seeds + 1)), -1.0)
        seeds[np.argmax(gains)] += 1
    return tuple(map(int, seeds))


@dataclass(frozen=True)
class Wanted:
    """What would decide a verdict that is inconclusive.

    Attributes:
        seeds: per size, in their order, with which the interval is expected to decide, were the shift as it was found;
            None where no number of seeds would.
        says: the same in words.
    """

    seeds: tuple[int, ...] | None
    says: str


def wanted(
    sampling: Sampling,
    shift: float,
    *,
    tolerance: float,
    confidence: float,
    sizes: Sequence[float],
    over: str,
    costs: Sequence[float] | None = None,
) -> Wanted:
    """What would decide: equally many seeds at each size, or where `costs` of one more are given, the cheapest."""
    if len(sizes) < 2:
        return Wanted(None, f"one {over} shows no shift: train another")
    if not sampling.known or not np.isfinite(shift):
        return Wanted(None, f"the noise is not known: train two seeds or more at each {over}")
    beyond = abs(abs(shift) - tolerance)
    line = " and the optima on a line" if sampling.excess > 0 else ""
    sampling = replace(sampling, excess=0.0)
    for seeds in _designs(sampling, costs):
        if sampling.half_width(seeds, confidence) < beyond:
            return Wanted(seeds, f"{_listed(seeds, sizes, over)} would decide, were the shift as found{line}")
    of_seeds = replace(sampling, doubts=(0.0,) * len(sizes))
    if of_seeds.half_width((MOST_SEEDS,) * len(sizes), confidence) >= beyond:
        return Wanted(None, f"no number of seeds up to {MOST_SEEDS} would, were the shift as found: at the tolerance")
    return Wanted(None, "no number of seeds would decide: the grid shows too little of the valleys, refine it")


def _designs(sampling: Sampling, costs: Sequence[float] | None) -> Iterator[tuple[int, ...]]:
    """Seeds per size, ever more, until there are `MOST_SEEDS` everywhere."""
    most = tuple(max(MOST_SEEDS, now) for now in sampling.seeds)
    if costs is None:
        yield from (
            tuple(max(n, now) for now in sampling.seeds) for n in range(min(sampling.seeds) + 1, MOST_SEEDS + 1)
        )
        return
    while sampling.seeds != most:
        sampling = replace(sampling, seeds=allocate(sampling, 1, most, costs))
        yield sampling.seeds


def _listed(seeds: Sequence[int], sizes: Sequence[float], over: str) -> str:
    if len(set(seeds)) == 1:
        return f"{seeds[0]} seeds at each {over}"
    return f"{', '.join(map(str, seeds))} seeds at {over} {', '.join(map(str, sizes))}"
