"""Do the curves of different sizes coincide, as far as seeds let one tell, and how does their gap go?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from sharplab.analysis.gaps import Gaps, find_gaps
from sharplab.analysis.trend import UNKNOWN, Interval, Trend, lies_outside, lies_within, pooled_noise, trend
from sharplab.records import Records, require_one_setting

Verdict = Literal["super consistent", "finite-size effects", "inconclusive"]


@dataclass(frozen=True)
class Consistency:
    """How far the curves of one parameterization lie apart over sizes; in octaves, log₂ of the quantity.

    Attributes:
        steps: the records' steps, shape (T,).
        spread: at each step, the standard deviation over sizes of the seeds' mean; shape (T,).
        noise: at each step, the standard deviation that seeds alone give that mean; shape (T,).
        late_spread, late_noise: the same for the average over the second half of training, of the seeds that have
            every record there.
        slope, slope_interval: of that average per doubling of size.
        growth, growth_interval: how much that slope exceeds the one of the first half, its start at step 0 aside.
        final_slope, final_slope_interval: of the last record per doubling of size.
        p_value: how likely seeds alone would spread the sizes this far (one-way analysis of variance).
        gaps: q_N − q_largest in the quantity's own units, and its power laws in size and time.
        relative_gaps: the same for log₂(q_N/q_largest).
        left_out: records that had no logarithm (diverged, or not positive).
        verdict: see `consistency`.
    """

    name: str
    quantity: str
    over: str
    sizes: tuple[float, ...]
    steps: np.ndarray
    spread: np.ndarray
    noise: np.ndarray
    late_spread: float
    late_noise: float
    slope: float
    slope_interval: Interval
    growth: float
    growth_interval: Interval
    final_slope: float
    final_slope_interval: Interval
    p_value: float
    gaps: Gaps
    relative_gaps: Gaps
    left_out: int
    verdict: Verdict
    tolerance: float
    confidence: float

    def table(self) -> pd.DataFrame:
        """One row per law of the gaps."""
        kinds = {"absolute": self.gaps, "relative": self.relative_gaps}
        return pd.concat([gaps.table().assign(gap=kind) for kind, gaps in kinds.items()], ignore_index=True)

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.quantity} over {self.over} {', '.join(map(str, self.sizes))}: {self.verdict}",
            f"  late slope {_signed(self.slope, self.slope_interval)}, more than early by "
            f"{_signed(self.growth, self.growth_interval)} octaves per doubling (consistent within "
            f"±{self.tolerance:g}); spread {self.late_spread:.3g} octaves, by seeds alone {self.late_noise:.3g}",
        ]
        for law in self.table().itertuples():
            within = f"{law.exponent:.2f} [{law.exponent_low:.2f}, {law.exponent_high:.2f}]"
            where = f"{law.at} third of training" if law.law_in == "size" else f"{self.over} {law.at}"
            lines.append(f"  {law.gap} gap, {where}: as {self.over if law.law_in == 'size' else 'step'}^{within}")
        return "\n".join(lines)


def _signed(value: float, interval: Interval) -> str:
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def consistency(
    records: Records, quantity: str, *, over: str = "width", tolerance: float = 0.1, confidence: float = 0.95
) -> dict[str, Consistency]:
    """Does a recorded quantity follow one trajectory at every size? One answer per parameterization.

    Verdict, an equivalence test of two numbers, both in octaves of the quantity per doubling of size: the slope
    over sizes of the second half of training, and how much it exceeds that of the first half. "super consistent"
    where both intervals lie within ±tolerance, "finite-size effects" where one lies wholly outside, else
    "inconclusive", as with one seed, one size, or no record between the first and the middle of training. Where both
    are within ±tolerance in truth, "finite-size effects" comes out in at most 2·(1 − confidence) of cases, half of
    that where the noise is well below the tolerance; where one is not, "super consistent" in (1 − confidence)/2.

    The slopes are trends through the seeds' means, with noise that is pooled over sizes and variance raised where
    the means scatter about the line by more. The gaps' laws (`sharplab.analysis.gap_laws`) pair the seeds of all
    sizes, and use those that have every record.

    In simulated curves with 3 to 8 seeds the 95 % intervals of the slopes cover them in 96 to 97 % of cases, in 93
    to 96 % where the smallest size has three times the others' noise, and those of the exponents in 94 to 97 %.

    Args:
        records: with curves, at one learning rate per parameterization.
        quantity: a column of the curves, as "sharpness"; records where it is not positive are left out and counted.
        over: "width" or "depth".
        tolerance: octaves per doubling within which curves count as one.
        confidence: of all intervals.

    Raises:
        ValueError: for missing curves or columns, mixed settings, several learning rates or optimizers, or two
            curves of one size and seed.

    >>> width, seed, step = (grid.ravel() for grid in np.meshgrid([16, 32, 64, 128], range(4), range(0, 65, 8)))
    >>> noise = 0.01 * np.random.default_rng(0).normal(size=step.size)
    >>> keys = {"width": width, "seed": seed, "learning_rate": 0.5}
    >>> curves = pd.DataFrame(keys | {"step": step, "sharpness": 1 + step / width + noise})
    >>> found = consistency(Records(pd.DataFrame(keys), curves), "sharpness")["runs"]
    >>> late, growth = found.gaps.in_size["late"], found.gaps.in_time["all"]
    >>> print(found.verdict, f"{late.exponent:.1f} {found.gaps.limit_exponents['late'][0]:.1f} {growth.exponent:.1f}")
    finite-size effects -1.3 -1.0 1.0
    """
    if records.curves is None or quantity not in records.curves:
        raise ValueError(f"the records have no curves of {quantity!r}: record it as an observable.")
    if over not in ("width", "depth"):
        raise ValueError(f"over must be 'width' or 'depth', not {over!r}.")
    if over not in records.curves:
        raise ValueError(f"the curves have no column {over!r}; they have {', '.join(records.curves)}.")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a positive number of octaves, not {tolerance!r}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, as 0.95, not {confidence!r}.")
    require_one_setting(records.runs, apart_from=[over], also=["optimizer"])
    curves = records.curves
    names = curves["parameterization"] if "parameterization" in curves else pd.Series("runs", curves.index)
    return {
        str(name): _consistency(str(name), table, quantity, over, tolerance, confidence)
        for name, table in curves.groupby(names, sort=False)
    }


def _consistency(
    name: str, curves: pd.DataFrame, quantity: str, over: str, tolerance: float, confidence: float
) -> Consistency:
    table, left_out = _octaves(name, curves, quantity, over)
    sizes = tuple(int(size) if float(size).is_integer() else float(size) for size in sorted(table.columns.unique(over)))
    steps, octaves = table.index.to_numpy(), table.to_numpy()  # (T,), (T, runs)
    size_of, seed_of = (table.columns.get_level_values(level).to_numpy() for level in (over, "seed"))

    def by_size(values: np.ndarray) -> list[np.ndarray]:
        """The seeds' values of each size, those that are missing left out."""
        return [values[(size_of == size) & ~np.isnan(values)] for size in sizes]

    by_step = [by_size(row) for row in octaves]
    spread, noise = np.array([_spread_and_noise(groups) for groups in by_step]).T
    second_half = steps >= steps[-1] / 2
    late, early = (_mean(octaves[rows]) for rows in (second_half, ~second_half & (steps > 0)))
    slope, growth, last = (_trend(sizes, groups) for groups in (by_size(late), by_size(late - early), by_step[-1]))
    late_spread, late_noise = _spread_and_noise(by_size(late))
    slope_interval, growth_interval = slope.interval(confidence), growth.interval(confidence)
    complete = ~np.isnan(octaves).any(axis=0)
    of_seeds = [octaves[:, complete & (seed_of == seed)].T for seed in np.unique(seed_of)]  # sizes ascend
    paired = [curve for curve in of_seeds if len(curve) == len(sizes)]
    courses = np.array(paired) if paired else np.empty((0, len(sizes), len(steps)))
    return Consistency(
        name=name,
        quantity=quantity,
        over=over,
        sizes=sizes,
        steps=steps,
        spread=spread,
        noise=noise,
        late_spread=late_spread,
        late_noise=late_noise,
        slope=slope.slope,
        slope_interval=slope_interval,
        growth=growth.slope,
        growth_interval=growth_interval,
        final_slope=last.slope,
        final_slope_interval=last.interval(confidence),
        p_value=_p_value(by_size(late)),
        gaps=find_gaps(2.0**courses, sizes, steps, confidence),
        relative_gaps=find_gaps(courses, sizes, steps, confidence),
        left_out=left_out,
        verdict=_verdict((slope_interval, growth_interval), tolerance),
        tolerance=tolerance,
        confidence=confidence,
    )


def _octaves(name: str, curves: pd.DataFrame, quantity: str, over: str) -> tuple[pd.DataFrame, int]:
    """Log₂ of the quantity, a row per step and a column per (size, seed), and how many records had none."""
    if curves["learning_rate"].nunique() > 1:
        raise ValueError(f"{name} has several learning rates: choose one, as in records.select(learning_rate=...).")
    if curves.duplicated([over, "seed", "step"]).any():
        raise ValueError(f"{name} has two curves of one {over} and seed: keep one, as by records.select(...).")
    positive = curves[quantity].where((curves[quantity] > 0) & (curves[quantity] < np.inf))
    octaves = curves.assign(octaves=np.log2(positive))
    table = octaves.pivot(index="step", columns=[over, "seed"], values="octaves")
    # A step that only some sizes recorded compares nothing.
    table = table[table.notna().T.groupby(level=over).any().all()]
    if table.empty:
        raise ValueError(f"{name} has no step at which {quantity!r} is positive at every {over}: nothing to compare.")
    return table, int(positive.isna().sum())


def _mean(octaves: np.ndarray) -> np.ndarray:
    """Over records; nan for a run that lacks one."""
    return octaves.mean(axis=0) if len(octaves) else np.full(octaves.shape[1], np.nan)


def _verdict(intervals: tuple[Interval, Interval], tolerance: float) -> Verdict:
    if all(lies_within(interval, tolerance) for interval in intervals):
        return "super consistent"
    return "finite-size effects" if any(lies_outside(interval, tolerance) for interval in intervals) else "inconclusive"


def _trend(sizes: tuple[float, ...], groups: list[np.ndarray]) -> Trend:
    if not all(len(group) for group in groups):
        return UNKNOWN
    seeds = pooled_noise(groups)
    return trend(sizes, [float(group.mean()) for group in groups], [seeds.scaled(1 / len(group)) for group in groups])


def _spread_and_noise(groups: list[np.ndarray]) -> tuple[float, float]:
    """The standard deviation over sizes of the seeds' mean, and the one that seeds alone would give it."""
    if len(groups) < 2 or not all(len(group) for group in groups):
        return np.nan, np.nan
    seeds = pooled_noise(groups)
    per_mean = np.mean([seeds.variance / len(group) for group in groups]) if seeds.df else np.nan
    return float(np.std([group.mean() for group in groups], ddof=1)), float(np.sqrt(per_mean))


def _p_value(groups: list[np.ndarray]) -> float:
    seeds = pooled_noise(groups)
    if len(groups) < 2 or not all(len(group) for group in groups) or not seeds.variance > 0:
        return np.nan
    return float(stats.f_oneway(*groups).pvalue)
