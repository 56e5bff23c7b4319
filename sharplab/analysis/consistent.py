"""The agreement of curves of different sizes, as far as seeds let one tell, and the laws of their gap."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sharplab.analysis.curves import curves_by_name
from sharplab.analysis.gaps import Gaps, find_gaps
from sharplab.analysis.parts import Part
from sharplab.analysis.sequential import MOST_SEEDS, Wanted
from sharplab.analysis.spread import p_value, spread_and_noise
from sharplab.analysis.trend import Measured, lies_outside, lies_within, trend_of_means
from sharplab.core.arguments import checked
from sharplab.core.statistics import Interval
from sharplab.records import Records, some_records

Verdict = Literal["super consistent", "finite-size effects", "inconclusive"]


@dataclass(frozen=True)
class Spreads:
    """The standard deviations of curves over sizes, in octaves.

    The late ones are of the average over the second half of training, of the seeds that have every record there.
    """

    steps: np.ndarray  # of the records, (T,)
    spread: np.ndarray  # at each step, over sizes, of the seeds' mean, (T,)
    noise: np.ndarray  # at each step, what seeds alone give that mean, (T,)
    late_spread: float
    late_noise: float
    p_value: float  # how likely seeds alone would spread the sizes that far (one-way analysis of variance)


@dataclass(frozen=True)
class Slopes:
    """The slopes of a quantity over sizes, in octaves per doubling."""

    late: Measured  # of the average over the second half of training
    growth: Measured  # how much that slope exceeds the one of the first half, its start at step 0 aside
    final: Measured  # of the last record


@dataclass(frozen=True)
class Consistency:
    """The agreement of the curves of one parameterization over sizes; in octaves, log₂ of the quantity.

    Attributes:
        spreads: over sizes; `steps`, `spread`, `noise`, `late_spread`, `late_noise` and `p_value` are its parts.
        slopes: over sizes; `slope`, `growth` and `final_slope`, with their intervals, are its parts.
        gaps: q_N − q_largest in the quantity's own units, and its power laws in size and time.
        relative_gaps: the same for log₂(q_N/q_largest).
        seeds: how many each size has, whose records are complete.
        left_out: records that had no logarithm (diverged, or not positive), or are missing where most runs have them.
        tolerance: octaves per doubling within which curves count as one.
        confidence: of all intervals.
    """

    name: str
    quantity: str
    over: str
    sizes: tuple[float, ...]
    spreads: Spreads
    slopes: Slopes
    gaps: Gaps
    relative_gaps: Gaps
    seeds: tuple[int, ...]
    left_out: int
    tolerance: float
    confidence: float

    steps = Part[np.ndarray]("spreads.steps")
    spread = Part[np.ndarray]("spreads.spread")
    noise = Part[np.ndarray]("spreads.noise")
    late_spread = Part[float]("spreads.late_spread")
    late_noise = Part[float]("spreads.late_noise")
    p_value = Part[float]("spreads.p_value")
    slope = Part[float]("slopes.late.value")
    slope_interval = Part[Interval]("slopes.late.interval")
    growth = Part[float]("slopes.growth.value")
    growth_interval = Part[Interval]("slopes.growth.interval")
    final_slope = Part[float]("slopes.final.value")
    final_slope_interval = Part[Interval]("slopes.final.interval")

    @property
    def verdict(self) -> Verdict:
        """The verdict of an equivalence test of the late slope and its growth, see `consistency`."""
        intervals = (self.slope_interval, self.growth_interval)
        if all(lies_within(interval, self.tolerance) for interval in intervals):
            return "super consistent"
        outside = any(lies_outside(interval, self.tolerance) for interval in intervals)
        return "finite-size effects" if outside else "inconclusive"

    @property
    def wanted(self) -> Wanted | None:
        """What would decide the verdict, were slope and growth as they are found; None where it is decided."""
        return _wanted(self) if self.verdict == "inconclusive" else None

    def table(self) -> pd.DataFrame:
        """The laws of the gaps as a table, one row per law."""
        kinds = {"absolute": self.gaps, "relative": self.relative_gaps}
        return pd.concat([gaps.table().assign(gap=kind) for kind, gaps in kinds.items()], ignore_index=True)

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.quantity} over {self.over} {', '.join(map(str, self.sizes))}: {self.verdict}",
            f"  late slope {self.slopes.late:+.3f}, more than early by {self.slopes.growth:+.3f} octaves per doubling "
            f"(consistent within ±{self.tolerance:g}); spread {self.late_spread:.3g} octaves, by seeds alone "
            f"{self.late_noise:.3g}",
        ]
        if self.wanted is not None:
            lines.append(f"  undecided: {self.wanted.says}")
        if self.left_out:
            lines.append(f"  runs with {self.left_out} records that are missing or not positive are left out there")
        for law in self.table().itertuples():
            within = f"{law.exponent:.2f} [{law.exponent_low:.2f}, {law.exponent_high:.2f}]"
            where = f"{law.at} third of training" if law.law_in == "size" else f"{self.over} {law.at}"
            lines.append(f"  {law.gap} gap, {where}: as {self.over if law.law_in == 'size' else 'step'}^{within}")
        return "\n".join(lines)


@checked(records=some_records)
def consistency(
    records: Records, quantity: str, *, over: str = "width", tolerance: float = 0.1, confidence: float = 0.95
) -> dict[str, Consistency]:
    """The agreement of a recorded quantity's curves over sizes: a `Consistency` per parameterization.

    The verdict is an equivalence test of two numbers, both in octaves of the quantity per doubling of size: the slope
    over sizes of the second half of training, and how much it exceeds that of the first half. "super consistent"
    where both intervals lie within ±tolerance, "finite-size effects" where one lies wholly outside, else
    "inconclusive", as with one seed, one size, or no record between the first and the middle of training.

    The gaps' laws (`sharplab.analysis.gap_laws`) pair the seeds of all sizes, and use those that have every record. All
    intervals cover at their rate in simulated curves (tests/analysis/test_consistent.py; docs/statistics.md).

    Args:
        records: with curves, at one learning rate per parameterization.
        quantity: a column of the curves, as "sharpness"; records where it is not positive are left out and counted.

    Raises:
        ValueError: for missing curves or columns, mixed settings, or two curves of one size and seed.

    >>> width, seed, step = (grid.ravel() for grid in np.meshgrid([16, 32, 64, 128], range(4), range(0, 65, 8)))
    >>> noise = 0.01 * np.random.default_rng(0).normal(size=step.size)
    >>> keys = {"width": width, "seed": seed, "learning_rate": 0.5}
    >>> curves = pd.DataFrame(keys | {"step": step, "sharpness": 1 + step / width + noise})
    >>> found = consistency(Records(pd.DataFrame(keys), curves), "sharpness")["runs"]
    >>> late, growth = found.gaps.in_size["late"], found.gaps.in_time["all"]
    >>> print(found.verdict, f"{late.exponent:.1f} {found.gaps.limit_exponents['late'][0]:.1f} {growth.exponent:.1f}")
    finite-size effects -1.3 -1.0 1.0
    """
    return {
        name: _consistency(name, table, quantity, over, tolerance, confidence)
        for name, table in curves_by_name(records, quantity, over)
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
    spread, noise = np.array([spread_and_noise(groups) for groups in by_step]).T
    second_half = steps >= steps[-1] / 2
    late, early = (_mean(octaves[rows]) for rows in (second_half, ~second_half & (steps > 0)))
    of_late, of_growth = by_size(late), by_size(late - early)
    slopes = [trend_of_means(sizes, groups).measured(confidence) for groups in (of_late, of_growth, by_step[-1])]
    trajectories = _paired(octaves, seed_of, len(sizes))
    return Consistency(
        name=name,
        quantity=quantity,
        over=over,
        sizes=sizes,
        spreads=Spreads(steps, spread, noise, *spread_and_noise(of_late), p_value(of_late)),
        slopes=Slopes(*slopes),
        gaps=find_gaps(2.0**trajectories, sizes, steps, confidence),
        relative_gaps=find_gaps(trajectories, sizes, steps, confidence),
        seeds=tuple(len(values) for values in of_growth),
        left_out=left_out,
        tolerance=tolerance,
        confidence=confidence,
    )


def _wanted(found: Consistency) -> Wanted:
    """The seeds per size with which both intervals would lie within the tolerance, or one outside: they go as n^−½."""
    fewest = min(found.seeds, default=0)
    parts = (found.slopes.late, found.slopes.growth)
    if len(found.sizes) < 2 or fewest < 2 or not np.isfinite([[part.value, *part.interval] for part in parts]).all():
        return Wanted(None, f"the noise is not known: train two seeds or more at two {found.over}s or more")
    beyond = [abs(abs(part.value) - found.tolerance) for part in parts]
    needed = [fewest * ((part.high - part.low) / 2 / gap) ** 2 for part, gap in zip(parts, beyond, strict=True)]
    outside = [seeds for seeds, part in zip(needed, parts, strict=True) if abs(part.value) > found.tolerance]
    most = min(outside) if outside else max(needed)
    if not most <= MOST_SEEDS:
        return Wanted(None, f"no number of seeds up to {MOST_SEEDS} would, were the slopes as found: at the tolerance")
    seeds = max(int(np.ceil(most)), fewest + 1)
    return Wanted((seeds,) * len(found.sizes), f"{seeds} seeds at each {found.over} would decide, were it as found")


def _paired(octaves: np.ndarray, seed_of: np.ndarray, sizes: int) -> np.ndarray:
    """The trajectories of the seeds that have every record at every size, (seeds, sizes, T)."""
    complete = ~np.isnan(octaves).any(axis=0)
    of_seeds = [octaves[:, complete & (seed_of == seed)].T for seed in np.unique(seed_of)]  # sizes ascend
    return np.array([one for one in of_seeds if len(one) == sizes]).reshape(-1, sizes, len(octaves))


def _octaves(name: str, curves: pd.DataFrame, quantity: str, over: str) -> tuple[pd.DataFrame, int]:
    """The table of log₂ of the quantity, a row per step, a column per (size, seed), and how many records had none."""
    if curves["learning_rate"].nunique() > 1:
        raise ValueError(f"{name} has several learning rates: choose one, as in records.select(learning_rate=...).")
    if curves.duplicated([over, "seed", "step"]).any():
        raise ValueError(f"{name} has two curves of one {over} and seed: keep one, as by records.select(...).")
    positive = curves[quantity].where((curves[quantity] > 0) & (curves[quantity] < np.inf))
    octaves = curves.assign(octaves=np.log2(positive))
    table = octaves.pivot(index="step", columns=[over, "seed"], values="octaves")
    # A step that only some sizes recorded compares nothing, nor does one that most runs of a size lack, as where some
    # other was resumed between two records.
    there = curves.assign(there=True).pivot(index="step", columns=[over, "seed"], values="there").notna()
    mostly = there.T.groupby(level=over).mean().ge(0.5).all()
    table = table[table.notna().T.groupby(level=over).any().all() & mostly]
    if table.empty:
        raise ValueError(f"{name} has no step at which {quantity!r} is positive at every {over}: nothing to compare.")
    return table, int(positive.isna().sum() + (~there.loc[table.index]).sum().sum())


def _mean(octaves: np.ndarray) -> np.ndarray:
    """The mean over records; nan for a run that lacks one."""
    return octaves.mean(axis=0) if len(octaves) else np.full(octaves.shape[1], np.nan)
