"""The three answers that a check can give."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from scipy import stats

Verdict = Literal["holds", "fails", "inconclusive"]
Interval = tuple[float, float]


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """One that fails makes all fail; all must hold to hold.

    >>> overall(["holds", "inconclusive"])
    'inconclusive'
    """
    given = set(verdicts)
    if "fails" in given:
        return "fails"
    return "holds" if given == {"holds"} else "inconclusive"


def judge(interval: Interval, allowed: Interval) -> Verdict:
    """Whether an interval lies wholly within the allowed one, wholly outside of it, or neither.

    >>> judge((0.0, 0.05), (-0.1, 0.1)), judge((0.2, 0.3), (-0.1, 0.1)), judge((0.0, 0.3), (-0.1, 0.1))
    ('holds', 'fails', 'inconclusive')
    """
    if interval[0] >= allowed[0] and interval[1] <= allowed[1]:
        return "holds"
    return "fails" if interval[0] > allowed[1] or interval[1] < allowed[0] else "inconclusive"


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, Interval]:
    """The mean of independent values and its t interval, which is open for fewer than two of them or if one is NaN."""
    given = np.asarray(values, float)
    if len(given) < 2 or not np.isfinite(given).all():
        return float(given.mean()), (-np.inf, np.inf)
    half = stats.t.ppf((1 + confidence) / 2, len(given) - 1) * given.std(ddof=1) / np.sqrt(len(given))
    return float(given.mean()), (float(given.mean() - half), float(given.mean() + half))


def slope_per_doubling(sizes: Sequence[float], values: Sequence[float] | np.ndarray) -> float:
    """The least-squares slope of log₂ values against log₂ sizes; NaN where a value is not positive and finite.

    >>> round(slope_per_doubling([1, 2, 4], [3, 1.5, 0.75]), 12)
    -1.0
    """
    given = np.asarray(values, float)
    if not (np.isfinite(given).all() and (given > 0).all()):
        return float("nan")
    return float(np.polyfit(np.log2(sizes), np.log2(given), 1)[0])
