"""The optimal learning rate of each size, how sure it is, and whether it moves with size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sharplab.analysis.curves import with_metric
from sharplab.analysis.edges import find_edges
from sharplab.analysis.grids import check_runs, grids_over, runs_by_name
from sharplab.analysis.parts import Part, PartOfEach
from sharplab.analysis.regrets import Regret, find_regrets
from sharplab.analysis.seed_optima import SizeOptimum, distance, find_optima, in_curves, sampling, shift
from sharplab.analysis.sequential import Sampling, Wanted, wanted
from sharplab.analysis.single_seeds import FEWEST_SIZES, single_seed_optima
from sharplab.analysis.trend import Measured, Trend, lies_outside, lies_within
from sharplab.analysis.valley import Losses
from sharplab.core.arguments import checked, of, text
from sharplab.core.statistics import OPEN, Interval
from sharplab.records import Records, join_rates, some_records

Verdict = Literal["transfers", "shifts", "inconclusive"]
PLATEAU = 0.5  # octaves from the largest size's optimum: there a parabola loses a quarter of what half the best loses


@dataclass(frozen=True)
class SizeResult:
    """The results of a sweep at one size; learning rates are base learning rates.

    Attributes:
        optimum: the best learning rate. An interval open on one side (0 or inf) says that it lies at the edge of the
            grid; (0, inf) that the noise is not known.
        at_grid_edge: whether the best learning rate is the lowest or highest of the grid: extend it.
        edge: where stability ends: the geometric middle of the largest learning rate below which no run diverged and
            the next one of the grid, averaged over seeds, with the interval of these brackets and the seeds' noise.
        regret: of the smallest size's optimum: how much higher the mean loss is there than at this size's own, in
            units of the metric, and as a share of how much higher it is at half this size's own (of a parabola missed
            by d octaves: d²). inf where runs diverge, nan where the grid does not reach; the intervals are (0, inf)
            where nothing is known.
        local_shift: of the optimum from the next smaller size to this one, in octaves per doubling, with Welch's
            interval; nan at the smallest.
        carried: the regret of this size's optimum at the largest size.
        distance: of this size's optimum from the largest's, in octaves, with Welch's interval; 0 at the largest.
    """

    size: float
    optimum: Measured
    at_grid_edge: bool
    edge: Measured
    regret: Regret
    local_shift: Measured
    carried: Regret
    distance: Measured


@dataclass(frozen=True)
class Transfer:
    """The results of a sweep of one parameterization, by size and as trends over size.

    Attributes:
        by_size: the sizes, ascending, each with its optimum, edge of stability and regret. `sizes`, `optimum`,
            `optimum_interval`, `at_grid_edge`, `edge`, `edge_interval` and `regrets` give one of these for all sizes;
            `regret`, `regret_interval`, `regret_fraction` and `regret_fraction_interval` are those of the largest.
            `carried` gives the regret at the largest size of carrying each smaller size's optimum there, `distances`
            how far these lie from the largest's, and `local_shifts` the shift between each two neighbours.
        trend: the slope of log₂ optimum per doubling of size, `shift`, with its noise.
        edge_trend: the same for the edge, `edge_shift`.
        tolerance: octaves per doubling within which the optimum counts as staying.
        from_size: the smallest size from which on every optimum surely lies within half an octave of the largest
            size's, so that a network of that size is a proxy for the largest; None if there is none.
        confidence: of all intervals.
        sampling: how the variance of the shift depends on the seeds of each size.
    """

    name: str
    over: str
    metric: str
    by_size: tuple[SizeResult, ...]
    trend: Trend
    from_size: float | None
    edge_trend: Trend
    tolerance: float
    confidence: float
    sampling: Sampling

    sizes = PartOfEach[int]("by_size", "size")
    optimum = PartOfEach[float]("by_size", "optimum.value")
    optimum_interval = PartOfEach[Interval]("by_size", "optimum.interval")
    at_grid_edge = PartOfEach[bool]("by_size", "at_grid_edge")
    edge = PartOfEach[float]("by_size", "edge.value")
    edge_interval = PartOfEach[Interval]("by_size", "edge.interval")
    regrets = PartOfEach[Regret]("by_size", "regret")
    regret = Part[float]("largest.regret.loss.value")
    regret_interval = Part[Interval]("largest.regret.loss.interval")
    regret_fraction = Part[float]("largest.regret.share.value")
    regret_fraction_interval = Part[Interval]("largest.regret.share.interval")
    carried = PartOfEach[Regret]("smaller", "carried")
    distances = PartOfEach[Measured]("smaller", "distance")
    local_shifts = PartOfEach[Measured]("larger", "local_shift")
    shift = Part[float]("trend.slope")
    edge_shift = Part[float]("edge_trend.slope")

    @property
    def largest(self) -> SizeResult:
        """The results at the largest size."""
        return self.by_size[-1]

    @property
    def smaller(self) -> tuple[SizeResult, ...]:
        """The results at all sizes but the largest."""
        return self.by_size[:-1]

    @property
    def larger(self) -> tuple[SizeResult, ...]:
        """The results at all sizes but the smallest."""
        return self.by_size[1:]

    @property
    def shift_interval(self) -> Interval:
        """The interval of the shift, open where an optimum lies at the edge of its grid."""
        return OPEN if any(self.at_grid_edge) else self.trend.interval(self.confidence)

    @property
    def edge_shift_interval(self) -> Interval:
        return self.edge_trend.interval(self.confidence)

    @property
    def strays(self) -> tuple[float, ...]:
        """The smaller sizes whose optimum surely lies further from the largest's than `tolerance` allows.

        Half an octave is always allowed. The slope of the shift takes one size off the line of the others for an
        outlier; carried from it, a learning rate is wrong all the same.
        """
        return tuple(
            one.size
            for one in self.smaller
            if lies_outside(one.distance.interval, max(PLATEAU, self.tolerance * np.log2(self.largest.size / one.size)))
        )

    @property
    def verdict(self) -> Verdict:
        """The verdict: "transfers" where the shift's interval lies within ±tolerance, "shifts" where outside of it.

        It is "inconclusive", too, where it is the largest size that lies off the line: most others are `strays`.
        """
        if lies_within(self.shift_interval, self.tolerance):
            return "inconclusive" if self._ends_off_the_line else "transfers"
        return "shifts" if lies_outside(self.shift_interval, self.tolerance) else "inconclusive"

    @property
    def _ends_off_the_line(self) -> bool:
        return len(self.strays) > len(self.smaller) / 2

    @property
    def advice(self) -> str:
        """The sentence that says from which size to carry the learning rate, and what that loses at the largest.

        It is carried from `from_size`, or else from the smallest. Where the verdict is "shifts" and there is no
        `from_size`, the sentence says what carrying would lose; where it is "inconclusive", that it is open.
        """
        over, last = self.over, self.largest.size
        if len(self.sizes) < 2:
            return f"one {over} says nothing of transfer: train others"
        if any(self.at_grid_edge):
            bare = ", ".join(str(one.size) for one in self.by_size if one.at_grid_edge)
            return f"the best learning rate is the last of the grid at {over} {bare}: extend the grid there"
        source = self.sizes[0] if self.from_size is None else self.from_size
        loss = self.carried[self.sizes.index(source)].loss
        there = f"nothing can be carried from {over} {source}: at {last} "
        if np.isnan(loss.value) and loss.low > 0:
            far = f"no run came near its best learning rate, and it loses {loss.low:.2g} of {self.metric} at least"
            return f"do not carry the best learning rate of {over} {source} as it is: at {last} {far}"
        if np.isnan(loss.value):
            return f"{there}no run came near its best learning rate"
        if np.isinf(loss.value):
            return f"{there}runs diverge at its best learning rate"
        known = np.isfinite(loss.high)
        least = known and loss.value < loss.high / 100
        worst = f"at most {loss.high:.2g}" if known else "how much at most is not known"
        lost = f"{'next to nothing' if least else f'{loss.value:.2g}'} of {self.metric}, {worst}"
        if self.from_size is None and (self.verdict == "shifts" or source in self.strays):
            return f"do not carry the best learning rate of {over} {source} as it is: at {last} it loses {lost}"
        if self.from_size is not None or self.verdict == "transfers":
            return f"tune at {over} {source}: at {last} that loses {lost}"
        return f"{over} {source} may or may not do to tune at: at {last} that loses {lost}"

    @property
    def wanted(self) -> Wanted | None:
        """What would decide the verdict; None where it is decided."""
        return self.wanted_at(None) if self.verdict == "inconclusive" else None

    def wanted_at(self, costs: Sequence[float] | None) -> Wanted:
        """What would decide, given the costs of one more seed at each size."""
        if bare := [str(one.size) for one in self.by_size if one.at_grid_edge]:
            return Wanted(None, f"the best is the last of the grid at {self.over} {', '.join(bare)}: extend the grid")
        if self._ends_off_the_line and lies_within(self.shift_interval, self.tolerance):
            off = f"{self.over} {self.largest.size} lies off the line of the others"
            return Wanted(None, f"{off}, and no number of seeds would decide: see whether its runs are like theirs")
        limits = {"tolerance": self.tolerance, "confidence": self.confidence}
        return wanted(self.sampling, self.shift, **limits, sizes=self.sizes, over=self.over, costs=costs)

    def table(self) -> pd.DataFrame:
        """The results as a table, one row per size."""
        return pd.DataFrame(
            {self.over: one.size}
            | one.optimum.columns("optimum")
            | one.local_shift.columns("local_shift")
            | one.edge.columns("edge")
            | one.regret.loss.columns("regret")
            | one.regret.share.columns("regret_fraction")
            | one.carried.loss.columns("carried")
            for one in self.by_size
        )

    def __str__(self) -> str:
        said = "may transfer or shift (inconclusive)" if self.verdict == "inconclusive" else self.verdict
        lines = [f"{self.name}: the optimal learning rate {said} over {self.over}"]
        for one in self.by_size:
            lines.append(f"  {self.over} {one.size:>5}: best {one.optimum:.3g}, stable up to {one.edge:.3g}")
        low, high = self.shift_interval
        lines.append(
            f"  shift {self.shift:+.2f} octaves per doubling, {self.confidence:.0%} interval [{low:+.2f}, {high:+.2f}] "
            f"(transfers within ±{self.tolerance:g})"
        )
        if len(self.sizes) > 2:
            lines.append(f"  from size to size {', '.join(f'{shift.value:+.2f}' for shift in self.local_shifts)}")
        if self.strays and self.verdict != "shifts":
            far = f"{self.over} {', '.join(map(str, self.strays))}"
            lines.append(f"  the optimum at {far} surely lies further from the largest's than the tolerance allows")
        if self.wanted is not None and not any(self.at_grid_edge):
            lines.append(f"  undecided: {self.wanted.says}")
        if len(self.sizes) > 1:
            lines.append(
                f"  from {self.over} {self.from_size} on it stays within half an octave of the largest's"
                if self.from_size is not None
                else "  no smaller size is sure to be within half an octave of the largest's"
            )
        return "\n".join([*lines, f"  {self.advice}"])


@checked(records=some_records, metric=text)
def transfer(
    records: Records,
    *,
    over: str = "width",
    metric: str = "eval_loss",
    tolerance: float = 0.25,
    confidence: float = 0.95,
) -> dict[str, Transfer]:
    """The shift of the optimal learning rate as `over` grows: a `Transfer` per parameterization.

    `over` is "width", "depth" or any other column of positive numbers, such as parameters, tokens or the batch size.
    `metric` is a column of final losses, or "late_X", the mean of the curves of X over the last quarter of training
    (`sharplab.analysis.curves.with_metric`).

    Per size, the optimum is the mean over seeds of log₂ of the learning rate at which each seed's own loss is lowest,
    found by a fit of its valley that knows of the cliff beyond (`sharplab.analysis.seed_optima`). The shift is the
    slope of log₂ optimum against log₂ size.
    With several optimizers the keys are "parameterization/optimizer".

    The verdict is an equivalence test: "transfers" where the interval of the shift lies within ±tolerance octaves per
    doubling, "shifts" where it lies outside, else "inconclusive", as with a best learning rate at the edge of its grid,
    or one size. With one seed at every size, and four sizes or more, the optima's scatter about the line is the noise
    (`sharplab.analysis.single_seeds`); with fewer sizes it is not known. The intervals cover the truth at their rate in
    simulated sweeps and in sweeps drawn from the seeds of a real one
    (`test_intervals_cover_at_their_stated_rate` in tests/analysis/test_optima.py; docs/statistics.md). Learning rates
    that differ by rounding are one (`sharplab.records.join_rates`).

    Raises:
        ValueError: for a missing `metric`, mixed settings, two runs of one size, learning rate and seed, or a learning
            rate or size that is not positive.

    >>> rates, widths, seeds = np.meshgrid(2.0 ** np.arange(-3, 4), [16, 32, 64], range(4))
    >>> best = rates.ravel() * widths.ravel() / 32  # the optimum halves per doubling of width
    >>> noise = 0.001 * np.random.default_rng(0).standard_normal(best.size)
    >>> table = {"width": widths.ravel(), "learning_rate": rates.ravel(), "seed": seeds.ravel()}
    >>> found = transfer(Records(pd.DataFrame(table | {"eval_loss": 1 + 0.1 * np.log2(best) ** 2 + noise})))["runs"]
    >>> print(f"{found.shift:.1f}", found.verdict)
    -1.0 shifts
    """
    records = with_metric(records, metric)
    check_runs(records.runs, [over], metric)
    runs = join_rates(records.runs)
    return {name: _transfer(name, part, over, metric, tolerance, confidence) for name, part in runs_by_name(runs)}


def _transfer(name: str, runs: pd.DataFrame, over: str, metric: str, tolerance: float, confidence: float) -> Transfer:
    sizes, grids = grids_over(name, runs, over, metric)
    optima, trend = optima_and_shift(sizes, grids)
    edges = find_edges(sizes, grids, confidence)
    regrets = find_regrets(grids, optima, confidence)
    distances = [distance(optimum, optima[-1], confidence) for optimum in optima[:-1]]
    return Transfer(
        name=name,
        over=over,
        metric=metric,
        by_size=tuple(
            SizeResult(size, _power(optimum.measured(confidence)), any(optimum.at_edge), _power(edge), *others)
            for size, optimum, edge, *others in zip(
                sizes,
                optima,
                edges.edges,
                regrets.of_smallest,
                _local_shifts(sizes, optima, confidence),
                regrets.at_largest,
                [*distances, Measured(0.0, 0.0, 0.0)],
                strict=True,
            )
        ),
        trend=trend,
        from_size=_from_size(sizes, distances),
        edge_trend=edges.trend,
        tolerance=tolerance,
        confidence=confidence,
        sampling=sampling(sizes, grids, optima, trend),
    )


def optima_and_shift(sizes: Sequence[float], grids: Sequence[Losses]) -> tuple[list[SizeOptimum], Trend]:
    """The optimum of each size, and its shift, from several seeds or from one at each size."""
    grids = [in_curves(grid) for grid in grids]
    alone = all(grid.values.shape[1] == 1 and np.isfinite(grid.values).any() for grid in grids)
    if alone and len(sizes) >= FEWEST_SIZES:
        return single_seed_optima(sizes, grids)
    optima = find_optima(grids)
    return optima, shift(sizes, optima)


def _from_size(sizes: Sequence[float], distances: Sequence[Measured]) -> float | None:
    """The smallest size from which on the optimum surely lies within `PLATEAU` of the largest size's.

    Sizes are tried from the largest on down, up to the first that may lie further off: a fixed sequence, which needs no
    correction for the number of sizes.
    """
    found = None
    for size, way in reversed(list(zip(sizes[:-1], distances, strict=True))):
        if not lies_within(way.interval, PLATEAU):
            break
        found = size
    return found


def _local_shifts(sizes: Sequence[float], optima: Sequence[SizeOptimum], confidence: float) -> list[Measured]:
    """The shift from the next smaller size to each, per doubling of the size."""
    shifts = [Measured(np.nan, *OPEN)]
    for doublings, one, other in zip(np.diff(np.log2(sizes)), optima[1:], optima[:-1], strict=True):
        way = distance(one, other, confidence)
        shifts.append(Measured(*(float(x / doublings) for x in (way.value, *way.interval))))
    return shifts


def _power(log: Measured) -> Measured:
    """The learning rate of which this is log₂."""
    return Measured(*(float(2.0**x) for x in (log.value, log.low, log.high)))


_a_transfer = of(Transfer, "of those that sharplab.transfer returns")


@checked(a=_a_transfer, b=_a_transfer)
def shift_difference(a: Transfer, b: Transfer, *, confidence: float = 0.95) -> tuple[float, Interval]:
    """The difference of two shifts, b's less a's, in octaves per doubling, with Welch's interval."""
    difference = b.shift - a.shift
    if OPEN in (a.shift_interval, b.shift_interval):
        return difference, OPEN
    return difference, (a.trend.noise + b.trend.noise).interval(difference, confidence)
