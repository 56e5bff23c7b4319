"""Do the curves of different sizes agree, as far as seeds let one tell?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sharplab.analysis.trend import UNKNOWN, Interval, Trend, pooled_noise, trend
from sharplab.records import Records, require_one_setting


@dataclass(frozen=True)
class Agreement:
    """How far the curves of one parameterization lie apart over sizes, in octaves (log₂ of the quantity).

    Attributes:
        steps: the records' steps, shape (T,).
        spread: at each step, the standard deviation over sizes of the seeds' mean; shape (T,).
        noise: at each step, the standard deviation that seeds alone give that mean; shape (T,).
        late_spread, late_noise: the same for the average over the second half of training, of the seeds that have
            every record there.
        slope, slope_interval: of that average per doubling of size.
        final_slope, final_slope_interval: of the last record per doubling of size.
        p_value: how likely seeds alone would spread the sizes this far (one-way analysis of variance).
        left_out: records that had no logarithm (diverged, or not positive).
    """

    name: str
    quantity: str
    sizes: tuple[float, ...]
    steps: np.ndarray
    spread: np.ndarray
    noise: np.ndarray
    late_spread: float
    late_noise: float
    slope: float
    slope_interval: Interval
    final_slope: float
    final_slope_interval: Interval
    p_value: float
    left_out: int


def agreement(
    records: Records, quantity: str, *, over: str = "width", confidence: float = 0.95
) -> dict[str, Agreement]:
    """The spread of a recorded quantity over sizes along training, against the noise of seeds.

    Args:
        records: with curves, at one learning rate per parameterization.
        quantity: a column of the curves, as "sharpness".
        over: "width" or "depth".
        confidence: of the slope's interval.

    Raises:
        ValueError: for missing curves or columns, mixed settings, several learning rates or optimizers, or two
            curves of one size and seed.
    """
    if records.curves is None or quantity not in records.curves:
        raise ValueError(f"the records have no curves of {quantity!r}: record it as an observable.")
    if over not in ("width", "depth"):
        raise ValueError(f"over must be 'width' or 'depth', not {over!r}.")
    if over not in records.curves:
        raise ValueError(f"the curves have no column {over!r}; they have {', '.join(records.curves)}.")
    require_one_setting(records.runs, apart_from=[over], also=["optimizer"])
    curves = records.curves
    names = curves["parameterization"] if "parameterization" in curves else pd.Series("runs", curves.index)
    return {
        str(name): _agreement(str(name), table, quantity, over, confidence)
        for name, table in curves.groupby(names, sort=False)
    }


def _agreement(name: str, curves: pd.DataFrame, quantity: str, over: str, confidence: float) -> Agreement:
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
    sizes = tuple(int(size) if float(size).is_integer() else float(size) for size in sorted(table.columns.unique(over)))
    by_step = [_groups(row, sizes) for _, row in table.iterrows()]
    spread, noise = np.array([_spread_and_noise(groups) for groups in by_step]).T
    steps = table.index.to_numpy()
    late = _groups(table[steps >= steps[-1] / 2].mean(skipna=False), sizes)
    slope, last = (_trend(sizes, groups) for groups in (late, by_step[-1]))
    late_spread, late_noise = _spread_and_noise(late)
    return Agreement(
        name=name,
        quantity=quantity,
        sizes=sizes,
        steps=steps,
        spread=spread,
        noise=noise,
        late_spread=late_spread,
        late_noise=late_noise,
        slope=slope.slope,
        slope_interval=slope.interval(confidence),
        final_slope=last.slope,
        final_slope_interval=last.interval(confidence),
        p_value=_p_value(late),
        left_out=int(positive.isna().sum()),
    )


def _groups(values: pd.Series, sizes: tuple[float, ...]) -> list[np.ndarray]:
    """The seeds' values of each size, those that are missing left out."""
    return [values[size].dropna().to_numpy() for size in sizes]


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
