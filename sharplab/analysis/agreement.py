"""Do the curves of different sizes agree, as far as seeds let one tell?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sharplab.analysis.trend import Interval, Noise, pooled_noise, trend
from sharplab.records import Records, require_one_setting


@dataclass(frozen=True)
class Agreement:
    """How far the curves of one parameterization lie apart over sizes, in octaves (log₂ of the quantity).

    Attributes:
        steps: the records' steps, shape (T,).
        spread: at each step, the standard deviation over sizes of the seeds' mean; shape (T,).
        noise: at each step, the standard deviation that seeds alone give that mean; shape (T,).
        late_spread, late_noise: the same for the average over the second half of training.
        slope, slope_interval: of that average per doubling of size.
        p_value: how likely seeds alone would spread the sizes this far (one-way analysis of variance).
        left_out: records that had no logarithm (diverged, or not positive).
    """

    name: str
    quantity: str
    sizes: tuple[int, ...]
    steps: np.ndarray
    spread: np.ndarray
    noise: np.ndarray
    late_spread: float
    late_noise: float
    slope: float
    slope_interval: Interval
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
        ValueError: for missing curves or columns, mixed settings, or several learning rates.
    """
    if records.curves is None or quantity not in records.curves:
        raise ValueError(f"the records have no curves of {quantity!r}: record it as an observable.")
    require_one_setting(records.runs, apart_from=[over])
    found = {}
    for name, curves in records.curves.groupby("parameterization", sort=False):
        if curves["learning_rate"].nunique() > 1:
            raise ValueError(f"{name} has several learning rates: choose one, as in records.select(learning_rate=...).")
        found[str(name)] = _agreement(str(name), curves, quantity, over, confidence)
    return found


def _agreement(name: str, curves: pd.DataFrame, quantity: str, over: str, confidence: float) -> Agreement:
    positive = curves[quantity].where(curves[quantity] > 0)
    octaves = curves.assign(octaves=np.log2(positive))
    table = octaves.pivot_table(index="step", columns=[over, "seed"], values="octaves", dropna=False)
    table = table.dropna(axis=1, how="all")
    sizes = tuple(sorted(int(size) for size in table.columns.unique(over)))
    spread, noise = np.array([_spread_and_noise(row, sizes) for _, row in table.iterrows()]).T
    steps = table.index.to_numpy()
    late = table[steps >= steps[-1] / 2].mean()
    groups = [late[size].dropna().to_numpy() for size in sizes]
    seeds = pooled_noise(groups)
    means = [float(group.mean()) for group in groups]
    late_trend = trend(sizes, means, [seeds.scaled(1 / len(group)) for group in groups])
    late_spread, late_noise = _spread_and_noise(late, sizes)
    return Agreement(
        name=name,
        quantity=quantity,
        sizes=sizes,
        steps=steps,
        spread=spread,
        noise=noise,
        late_spread=late_spread,
        late_noise=late_noise,
        slope=late_trend.slope,
        slope_interval=late_trend.interval(confidence),
        p_value=_p_value(groups, seeds),
        left_out=int(positive.isna().sum()),
    )


def _spread_and_noise(values: pd.Series, sizes: tuple[int, ...]) -> tuple[float, float]:
    """The standard deviation over sizes of the seeds' mean, and the one that seeds alone would give it."""
    groups = [values[size].dropna().to_numpy() for size in sizes]
    if any(len(group) == 0 for group in groups) or len(groups) < 2:
        return np.nan, np.nan
    seeds = pooled_noise(groups)
    per_mean = np.mean([seeds.variance / len(group) for group in groups])
    return float(np.std([group.mean() for group in groups], ddof=1)), float(np.sqrt(per_mean))


def _p_value(groups: list[np.ndarray], seeds: Noise) -> float:
    if len(groups) < 2 or seeds.df == 0:
        return np.nan
    return float(stats.f_oneway(*groups).pvalue)
