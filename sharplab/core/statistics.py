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


def slope_per_doubling(sizes: Sequence[float], values: Sequence[float] | np.ndarray) -> float:
    """The least-squares slope of log₂ values against log₂ sizes; NaN where a value is not positive and finite.

    >>> round(slope_per_doubling([1, 2, 4], [3, 1.5, 0.75]), 12)
    -1.0
    """
    given = np.asarray(values, float)
    if not (np.isfinite(given).all() and (given > 0).all()):
        return float("nan")
    return float(np.polyfit(np.log2(sizes), np.log2(given), 1)[0])
