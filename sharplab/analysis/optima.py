"""Where the best learning rate is at each size, how sure that is, and whether it moves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sharplab.analysis.edges import find_edges
from sharplab.analysis.regrets import Regret, find_regrets
from sharplab.analysis.trend import OPEN, Interval, Trend, lies_outside, lies_within, robust_trend
from sharplab.analysis.valley import Losses, fit_valleys, pooled_wander
from sharplab.records import Records, require_one_setting

Verdict = Literal["transfers", "shifts", "inconclusive"]
SAID = {"transfers": "transfers", "shifts": "shifts", "inconclusive": "may transfer or shift (inconclusive)"}


@dataclass(frozen=True)
class Transfer:
    """What a sweep says about one parameterization; learning rates are base learning rates.

    Attributes:
        sizes: ascending.
        optimum, optimum_interval: the best learning rate per size. An interval open on one side (0 or inf) says
            that the optimum lies at the edge of the grid; (0, inf) that the noise is not known.
        at_grid_edge: whether the best learning rate is the lowest or highest of its size's grid: extend it.
        edge, edge_interval: where stability ends, per size: the geometric middle of the largest learning rate
            below which no run diverged and the next one of the grid, averaged over seeds. The interval spans
            these brackets, widened by the seeds' noise.
        shift, shift_interval: log₂ of the optimum per doubling of size.
        edge_shift, edge_shift_interval: the same for the edge.
        regrets: what each size loses by the smallest's optimum: how much higher its mean loss is there than at its own,
            in units of the metric, and as a fraction of the benefit of tuning, which is how much higher its loss is
            at half its optimal learning rate. A fraction of 1 says that carrying the learning rate costs as much as
            missing the optimum by a factor of 2 (a parabola missed by d octaves: d²). Both are inf where runs
            diverge, nan where the grid does not reach; their intervals have the noise of both optima and of the
            losses, paired by seed, and are (0, inf) where nothing is known.
        regret, regret_interval, regret_fraction, regret_fraction_interval: those of the largest size.
        verdict: "transfers" where the interval of the shift lies within ±tolerance, "shifts" where it lies
            outside of it, else "inconclusive".
        trend: the slope with its noise, for comparisons.
    """

    name: str
    over: str
    metric: str
    sizes: tuple[int, ...]
    optimum: tuple[float, ...]
    optimum_interval: tuple[Interval, ...]
    at_grid_edge: tuple[bool, ...]
    edge: tuple[float, ...]
    edge_interval: tuple[Interval, ...]
    shift: float
    shift_interval: Interval
    edge_shift: float
    edge_shift_interval: Interval
    regrets: tuple[Regret, ...]
    verdict: Verdict
    tolerance: float
    confidence: float
    trend: Trend

    @property
    def regret(self) -> float:
        return self.regrets[-1].value

    @property
    def regret_interval(self) -> Interval:
        return self.regrets[-1].interval

    @property
    def regret_fraction(self) -> float:
        return self.regrets[-1].fraction

    @property
    def regret_fraction_interval(self) -> Interval:
        return self.regrets[-1].fraction_interval

    def table(self) -> pd.DataFrame:
        """One row per size."""
        regrets = self.regrets
        columns = {
            "optimum": (self.optimum, self.optimum_interval),
            "edge": (self.edge, self.edge_interval),
            "regret": ([one.value for one in regrets], [one.interval for one in regrets]),
            "regret_fraction": ([one.fraction for one in regrets], [one.fraction_interval for one in regrets]),
        }
        table = pd.DataFrame({self.over: self.sizes})
        for name, (values, intervals) in columns.items():
            low, high = zip(*intervals, strict=True)
            table = table.assign(**{name: values, f"{name}_low": low, f"{name}_high": high})
        return table

    def __str__(self) -> str:
        low, high = self.shift_interval
        lines = [f"{self.name}: the optimal learning rate {SAID[self.verdict]} over {self.over}"]
        for row in self.table().itertuples(index=False):
            lines.append(
                f"  {self.over} {row[0]:>5}: best {row[1]:.3g} [{row[2]:.3g}, {row[3]:.3g}], "
                f"stable up to {row[4]:.3g} [{row[5]:.3g}, {row[6]:.3g}]"
            )
        if any(self.at_grid_edge):
            bare = ", ".join(str(size) for size, at in zip(self.sizes, self.at_grid_edge, strict=True) if at)
            lines.append(f"  the best is the last of the grid at {self.over} {bare}: extend the grid there")
        lines.append(
            f"  shift {self.shift:+.2f} octaves per doubling, {self.confidence:.0%} interval [{low:+.2f}, {high:+.2f}] "
            f"(transfers within ±{self.tolerance:g})"
        )
        (low, high), (least, most) = self.regret_interval, self.regret_fraction_interval
        lines.append(
            f"  regret at {self.over} {self.sizes[-1]} of the best at {self.sizes[0]}: {self.regret:.3g} "
            f"[{low:.3g}, {high:.3g}] in {self.metric}, {self.regret_fraction:.2g} [{least:.2g}, {most:.2g}] of what "
            f"half the best loses"
        )
        return "\n".join(lines)


def transfer(
    records: Records,
    *,
    over: str = "width",
    metric: str = "eval_loss",
    tolerance: float = 0.25,
    confidence: float = 0.95,
) -> dict[str, Transfer]:
    """Does the optimal learning rate stay where it is as `over` grows? One answer per parameterization.

    Per size, the learning rates within an octave of the lowest seed-mean loss, and within a quarter above it, get
    a parabola in log₂ of the learning rate with random cubic and quartic terms (`sharplab.analysis.valley`); the
    optimum is its lowest point, and its interval ends where the loss surely falls or rises. The noise is what the
    seeds' slopes differ by there, pooled over sizes and so usable at three seeds, with Student's factor; a slope joins
    losses of one seed, so that what its order of data does to all learning rates alike is no noise. A learning rate at
    which any seed diverged has infinite loss; where the next one above the best did, the interval reaches to it.

    The shift is the slope of log₂ optimum against log₂ size, weighted by their noise, in which one optimum may be an
    outlier (`sharplab.analysis.trend.robust_trend`, which also says why); scatter beyond that widens its interval.

    Verdict, an equivalence test at the stated confidence: "transfers" where the whole interval of the shift lies within
    ±tolerance, "shifts" where it lies wholly above +tolerance or wholly below −tolerance, else "inconclusive". So with
    95 % intervals a shift outside the tolerance is called a transfer, and one inside it a shift, in at most 2.5 % of
    sweeps as far as the intervals keep their rate. A best learning rate at the edge of its grid, one size, or one seed
    at every size leave the interval open and the verdict inconclusive.

    In simulated sweeps (`sharplab.analysis.simulation`, the figure `calibration`) with 3 to 5 seeds the 95 % intervals
    of optimum, shift and regret cover the truth in 93 to 100 % of cases (nearly 100 % on grids of octaves alone), in
    valleys up to 2.7 times as steep above the optimum as below (octaves alone: twice). Pooling takes the noise to be
    alike at all sizes: where it is twice as large at one end as at the other, the noisiest size's optimum is covered in
    85 % of cases, the shift in 94 %. Where runs diverge from half an octave or less above the optimum on, but from a
    learning rate that differs between seeds by half an octave, chance decides on the best one that all survive: of 4
    seeds' optima 70 to 80 % are covered there, of the shifts 95 %.

    Args:
        records: runs of one setting, apart from parameterization (and optimizer), size, learning rate and seed.
        over: "width" or "depth".
        metric: the column of final losses, the lower the better.
        tolerance: octaves per doubling within which an optimum counts as staying.
        confidence: of all intervals.

    Returns:
        A `Transfer` per parameterization; with several optimizers the keys are "parameterization/optimizer".

    Raises:
        ValueError: for a missing column, mixed settings, two runs of one size, learning rate and seed, or a learning
            rate or size that is not positive.

    >>> rates, widths, seeds = np.meshgrid(2.0 ** np.arange(-3, 4), [16, 32, 64], range(4))
    >>> best = rates.ravel() * widths.ravel() / 32  # the optimum halves per doubling of width
    >>> noise = 0.001 * np.random.default_rng(0).standard_normal(best.size)
    >>> table = {"width": widths.ravel(), "learning_rate": rates.ravel(), "seed": seeds.ravel()}
    >>> found = transfer(Records(pd.DataFrame(table | {"eval_loss": 1 + 0.1 * np.log2(best) ** 2 + noise})))["runs"]
    >>> print(f"{found.shift:.1f}", found.verdict)
    -1.0 shifts
    """
    _check(records.runs, over, metric, tolerance, confidence)
    return {name: _transfer(name, runs, over, metric, tolerance, confidence) for name, runs in _groups(records.runs)}


def _groups(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each parameterization, and optimizer where there are several."""
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
    valleys = fit_valleys(grids)
    wander = pooled_wander(valleys)
    centres = [valley.lowest for valley in valleys]
    shift = robust_trend(sizes, centres, [valley.noise(wander) for valley in valleys])
    open_ended = tuple(any(valley.at_edge) for valley in valleys)
    shift_interval = OPEN if any(open_ended) else shift.interval(confidence)
    edges = find_edges(sizes, grids, confidence)
    return Transfer(
        name=name,
        over=over,
        metric=metric,
        sizes=sizes,
        optimum=tuple(float(2.0**centre) for centre in centres),
        optimum_interval=tuple(_powers(valley.interval(wander, confidence)) for valley in valleys),
        at_grid_edge=open_ended,
        edge=tuple(2.0**edge for edge in edges.edges),
        edge_interval=tuple(_powers(interval) for interval in edges.intervals),
        shift=shift.slope,
        shift_interval=shift_interval,
        edge_shift=edges.trend.slope,
        edge_shift_interval=edges.trend.interval(confidence),
        regrets=find_regrets(grids, valleys, wander, confidence),
        verdict=_verdict(shift_interval, tolerance),
        tolerance=tolerance,
        confidence=confidence,
        trend=shift,
    )


def _powers(interval: Interval) -> Interval:
    return float(2.0 ** interval[0]), float(2.0 ** interval[1])


def _grids(name: str, runs: pd.DataFrame, over: str, metric: str) -> tuple[tuple[int, ...], list[Losses]]:
    """The sizes, ascending, and the losses of each: inf where diverged, NaN where a seed was not run."""
    duplicated = runs.duplicated([over, "learning_rate", "seed"])
    if duplicated.any():
        row = runs[duplicated].iloc[0]
        raise ValueError(
            f"{name} has two runs at {over} {row[over]}, learning_rate {row['learning_rate']:g}, seed {row['seed']}: "
            f"keep one, as by records.select(...) on the column in which they differ."
        )
    losses = runs[metric].to_numpy(float)
    unstable = ~np.isfinite(losses)
    if "diverged" in runs:
        unstable |= runs["diverged"].eq(True).to_numpy(bool)  # a missing entry is no divergence
    losses = np.where(unstable, np.inf, losses)
    of_run, rates = runs[over].to_numpy(float), np.log2(runs["learning_rate"].to_numpy(float))
    _, seeds = np.unique(runs["seed"].to_numpy(), return_inverse=True)
    sizes, grids = np.unique(of_run), []
    for size in sizes:
        chosen = of_run == size
        ladder, rows = np.unique(rates[chosen], return_inverse=True)
        _, columns = np.unique(seeds[chosen], return_inverse=True)
        values = np.full((len(ladder), columns.max() + 1), np.nan)
        values[rows, columns] = losses[chosen]
        grids.append(Losses(ladder, values))
    return tuple(int(size) for size in sizes), grids


def _check(runs: pd.DataFrame, over: str, metric: str, tolerance: float, confidence: float) -> None:
    if over not in ("width", "depth"):
        raise ValueError(f"over must be 'width' or 'depth', not {over!r}.")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a positive number of octaves, not {tolerance!r}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, as 0.95, not {confidence!r}.")
    for column in (over, metric):
        if column not in runs:
            raise ValueError(f"the runs have no column {column!r}; they have {', '.join(runs)}.")
    if not pd.api.types.is_numeric_dtype(runs[metric]):
        raise ValueError(f"metric {metric!r} is no column of numbers: give one of final losses, as 'eval_loss'.")
    for column in (over, "learning_rate"):
        wrong = runs[column][~((runs[column] > 0) & (runs[column] < np.inf))]
        if len(wrong):
            raise ValueError(f"{column} must be positive and finite in every run, not {wrong.iloc[0]}: drop such runs.")
    if (runs[over] % 1 != 0).any():
        raise ValueError(f"{over} must be whole in every run: select or correct the others.")
    require_one_setting(runs, apart_from=[over])


def _verdict(interval: Interval, tolerance: float) -> Verdict:
    if lies_within(interval, tolerance):
        return "transfers"
    return "shifts" if lies_outside(interval, tolerance) else "inconclusive"


def shift_difference(a: Transfer, b: Transfer, *, confidence: float = 0.95) -> tuple[float, Interval]:
    """b's shift less a's, with its interval (Welch's), in octaves per doubling."""
    difference = b.shift - a.shift
    if OPEN in (a.shift_interval, b.shift_interval):
        return difference, OPEN
    return difference, (a.trend.noise + b.trend.noise).interval(difference, confidence)
