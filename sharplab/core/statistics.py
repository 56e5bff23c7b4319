"""Statistics of a few independent values, such as one per seed: t intervals of means, and slopes against log₂ size."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

Interval = tuple[float, float]
OPEN: Interval = (-np.inf, np.inf)


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, Interval]:
    """The mean of independent values and its t interval, which is open for fewer than two of them or if one is NaN.

    >>> mean, (low, high) = mean_interval([1.0, 2.0, 3.0], confidence=0.95)
    >>> mean, round(low, 2), round(high, 2)
    (2.0, -0.48, 4.48)
    """
    given = np.asarray(values, float)
    if len(given) < 2 or not np.isfinite(given).all():
        return float(given.mean()), OPEN
    half = half_width(given, confidence)
    return float(given.mean()), (float(given.mean() - half), float(given.mean() + half))


def half_width(values: np.ndarray, confidence: float) -> np.ndarray:
    """Half the width of the t interval of the mean over the last axis, of two values or more: t · s / √n."""
    n = values.shape[-1]
    return stats.t.ppf((1 + confidence) / 2, n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n)


def with_unseen(
    value: np.ndarray, ends: tuple[np.ndarray, np.ndarray], bounds: Interval, trials: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of an interval of a mean of bounded values, no nearer than what no trial shows may bring it.

    Of few values, or such as take few values, some agree by chance, and their scatter tells too little. So a share of
    trials may lie at either bound that is so large that none of them shows it with a probability of (1 − confidence)/2
    (Clopper and Pearson, of no event).

    >>> low, high = with_unseen(1.0, (1.0, 1.0), (1.0, 2.0), 3, 0.95)
    >>> float(low), round(float(high), 3)
    (1.0, 1.708)
    """
    unseen = 1 - ((1 - confidence) / 2) ** (1 / trials)
    low = np.minimum(ends[0], value - unseen * (value - bounds[0]))
    high = np.maximum(ends[1], value + unseen * (bounds[1] - value))
    return low.clip(bounds[0]), high.clip(None, bounds[1])


def slope_per_doubling(sizes: Sequence[float], values: Sequence[float] | np.ndarray) -> float:
    """The least-squares slope of log₂ values against log₂ sizes; NaN where a value is not positive and finite.

    >>> round(slope_per_doubling([1, 2, 4], [3, 1.5, 0.75]), 12)
    -1.0
    """
    given = np.asarray(values, float)
    if not (np.isfinite(given).all() and (given > 0).all()):
        return float("nan")
    return float(np.polyfit(np.log2(sizes), np.log2(given), 1)[0])
