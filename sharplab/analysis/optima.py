"""The optimal learning rate of each size, how sure it is, and whether it moves with size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sharplab.analysis.edges import find_edges
from sharplab.analysis.grids import check_runs, grid_of, refuse_repeats
from sharplab.analysis.parts import Part, PartOfEach
from sharplab.analysis.regrets import Regret, find_regrets
from sharplab.analysis.seed_optima import SizeOptimum, distance, find_optima, in_curves, shift
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
    """

    size: float
    optimum: Measured
    at_grid_edge: bool
    edge: Measured
    regret: Regret


@dataclass(frozen=True)
class Transfer:
    """The results of a sweep of one parameterization, by size and as trends over size.

    Attributes:
        by_size: the sizes, ascending, each with its optimum, edge of stability and regret. `sizes`, `optimum`,
            `optimum_interval`, `at_grid_edge`, `edge`, `edge_interval` and `regrets` give one of these for all sizes;
            `regret`, `regret_interval`, `regret_fraction` and `regret_fraction_interval` are those of the largest.
        trend: the slope of log₂ optimum per doubling of size, `shift`, with its noise.
        edge_trend: the same for the edge, `edge_shift`.
        tolerance: octaves per doubling within which the optimum counts as staying.
        from_size: the smallest size from which on every optimum surely lies within half an octave of the largest
            size's, so that a network of that size is a proxy for the largest; None if there is none.
        confidence: of all intervals.
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
    shift = Part[float]("trend.slope")
    edge_shift = Part[float]("edge_trend.slope")

    @property
    def largest(self) -> SizeResult:
        """The results at the largest size."""
        return self.by_size[-1]

    @property
    def shift_interval(self) -> Interval:
        """The interval of the shift, open where an optimum lies at the edge of its grid."""
        return OPEN if any(self.at_grid_edge) else self.trend.interval(self.confidence)

    @property
    def edge_shift_interval(self) -> Interval:
        return self.edge_trend.interval(self.confidence)

    @property
    def verdict(self) -> Verdict:
        """The verdict: "transfers" where the shift's interval lies within ±tolerance, "shifts" where outside of it."""
        if lies_within(self.shift_interval, self.tolerance):
            return "transfers"
        return "shifts" if lies_outside(self.shift_interval, self.tolerance) else "inconclusive"

    def table(self) -> pd.DataFrame:
        """The results as a table, one row per size."""
        return pd.DataFrame(
            {self.over: one.size}
            | one.optimum.columns("optimum")
            | one.edge.columns("edge")
            | one.regret.loss.columns("regret")
            | one.regret.share.columns("regret_fraction")
            for one in self.by_size
        )

    def __str__(self) -> str:
        said = "may transfer or shift (inconclusive)" if self.verdict == "inconclusive" else self.verdict
        lines = [f"{self.name}: the optimal learning rate {said} over {self.over}"]
        for one in self.by_size:
            lines.append(f"  {self.over} {one.size:>5}: best {one.optimum:.3g}, stable up to {one.edge:.3g}")
        if any(self.at_grid_edge):
            bare = ", ".join(str(one.size) for one in self.by_size if one.at_grid_edge)
            lines.append(f"  the best is the last of the grid at {self.over} {bare}: extend the grid there")
        low, high = self.shift_interval
        lines.append(
            f"  shift {self.shift:+.2f} octaves per doubling, {self.confidence:.0%} interval [{low:+.2f}, {high:+.2f}] "
            f"(transfers within ±{self.tolerance:g})"
        )
        last, regret = self.largest, self.largest.regret
        if len(self.sizes) > 1:
            lines.append(
                f"  from {self.over} {self.from_size} on it stays within half an octave of the largest's"
                if self.from_size is not None
                else "  no smaller size is sure to be within half an octave of the largest's"
            )
            lines.append(
                f"  tune at {self.over} {self.sizes[0]}: at {last.size} that loses {regret.loss.value:.3g} of "
                f"{self.metric}, at most {regret.loss.high:.3g}; {regret.share:.2g} of what half the best loses"
            )
        return "\n".join(lines)


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
    check_runs(records.runs, [over], metric)
    runs = join_rates(records.runs)
    return {name: _transfer(name, part, over, metric, tolerance, confidence) for name, part in runs_by_name(runs)}


def runs_by_name(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each parameterization, and optimizer where there are several, by the name of its `Transfer`."""
    keys = ["parameterization"] if "parameterization" in runs else []
    if "optimizer" in runs and runs["optimizer"].nunique() > 1:
        keys.append("optimizer")
    if not keys:
        yield "runs", runs
        return
    for values, table in runs.groupby(keys, sort=False, dropna=False):
        yield "/".join(map(str, values)), table


def _transfer(name: str, runs: pd.DataFrame, over: str, metric: str, tolerance: float, confidence: float) -> Transfer:
    sizes, grids = _grids(name, runs, over, metric)
    optima, trend = _optima_and_shift(sizes, grids)
    edges = find_edges(sizes, grids, confidence)
    regrets = find_regrets(grids, optima, confidence)
    return Transfer(
        name=name,
        over=over,
        metric=metric,
        by_size=tuple(
            SizeResult(size, _power(optimum.measured(confidence)), any(optimum.at_edge), _power(edge), regret)
            for size, optimum, edge, regret in zip(sizes, optima, edges.edges, regrets, strict=True)
        ),
        trend=trend,
        from_size=_from_size(sizes, optima, confidence),
        edge_trend=edges.trend,
        tolerance=tolerance,
        confidence=confidence,
    )


def _optima_and_shift(sizes: Sequence[float], grids: Sequence[Losses]) -> tuple[list[SizeOptimum], Trend]:
    grids = [in_curves(grid) for grid in grids]
    alone = all(grid.values.shape[1] == 1 and np.isfinite(grid.values).any() for grid in grids)
    if alone and len(sizes) >= FEWEST_SIZES:
        return single_seed_optima(sizes, grids)
    optima = find_optima(grids)
    return optima, shift(sizes, optima)


def _from_size(sizes: Sequence[float], optima: Sequence[SizeOptimum], confidence: float) -> float | None:
    """The smallest size from which on the optimum surely lies within `PLATEAU` of the largest size's.

    Sizes are tried from the largest on down, up to the first that may lie further off: a fixed sequence, which needs no
    correction for the number of sizes.
    """
    found = None
    for size, optimum in reversed(list(zip(sizes[:-1], optima[:-1], strict=True))):
        if not lies_within(distance(optimum, optima[-1], confidence).interval, PLATEAU):
            break
        found = size
    return found


def _power(log: Measured) -> Measured:
    """The learning rate of which this is log₂."""
    return Measured(*(float(2.0**x) for x in (log.value, log.low, log.high)))


def _grids(name: str, runs: pd.DataFrame, over: str, metric: str) -> tuple[tuple[float, ...], list[Losses]]:
    """The sizes, ascending, and the losses of each: inf where diverged, NaN where a seed was not run."""
    refuse_repeats(name, runs, [over])
    parts = list(runs.groupby(over))
    sizes = [float(size) for size, _ in parts]
    return tuple(int(size) if size.is_integer() else size for size in sizes), [
        grid_of(part, metric) for _, part in parts
    ]


_a_transfer = of(Transfer, "of those that sharplab.transfer returns")


@checked(a=_a_transfer, b=_a_transfer)
def shift_difference(a: Transfer, b: Transfer, *, confidence: float = 0.95) -> tuple[float, Interval]:
    """The difference of two shifts, b's less a's, in octaves per doubling, with Welch's interval."""
    difference = b.shift - a.shift
    if OPEN in (a.shift_interval, b.shift_interval):
        return difference, OPEN
    return difference, (a.trend.noise + b.trend.noise).interval(difference, confidence)
