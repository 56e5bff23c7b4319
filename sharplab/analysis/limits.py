"""The limit that a quantity approaches as a power of size: y(x) = limit + a·x^−p, with intervals of limit and p."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from sharplab.analysis.trend import VARIANCE_FLOOR, Measured, Noise, with_scatter
from sharplab.analysis.weighted_line import WeightedLine
from sharplab.core.statistics import OPEN

EXPONENTS = 0.05, 6.0  # the least is hardly told from a logarithm, which has no limit
TRIED, ROUNDS = 240, 5  # exponents that are tried at once, and how often more finely
FEWEST_SIZES = 4  # three points lie on a law of three coefficients, whatever they are


@dataclass(frozen=True)
class Approach:
    """The law by which a quantity approaches its limit.

    `exponent` is the p of limit + a·x^−p; its interval begins at 0, and the limit's is open, where the points may as
    well follow a logarithm.
    """

    limit: Measured
    exponent: Measured


UNKNOWN = Approach(Measured(np.nan, *OPEN), Measured(np.nan, 0.0, np.inf))


def approach(sizes: Sequence[float], values: Sequence[float], noises: Sequence[Noise], confidence: float) -> Approach:
    """The approach to a limit of values at four sizes or more, by profile likelihood.

    For each p between the `EXPONENTS` the weighted least-squares line of y in x^−p leaves Q(p). The interval of p is
    where Q(p) − min Q ≤ t²·s; the one of the limit unites, over these p, the limits with Q(p, limit) − min Q ≤ t²·s.
    s is 1, or min Q/(n − 3) where that is more, and t is Student's, of the degrees of freedom of both
    (`trend.with_scatter`). Without a noise all points weigh alike, and their scatter alone, of n − 3 degrees of
    freedom, tells it. With fewer than four sizes nothing is known.

    >>> x = np.array([8.0, 16.0, 32.0, 64.0])
    >>> found = approach(x, 0.5 + 2 / x, [Noise(1e-8, 9)] * 4, 0.95)
    >>> f"{found.limit.value:.2f} {found.exponent.value:.1f}"
    '0.50 1.0'
    """
    x, y = np.asarray(sizes, float), np.asarray(values, float)
    spare = len(x) - 3
    if len(x) < FEWEST_SIZES or not np.isfinite(y).all():
        return UNKNOWN
    df = min(noise.df for noise in noises)
    variances = np.array([noise.variance for noise in noises]) if df > 0 else np.ones_like(x)
    variances = np.maximum(variances, VARIANCE_FLOOR * max(np.mean(y**2), np.finfo(float).tiny))

    def through(p: Any) -> WeightedLine:
        return WeightedLine.through((x / x[0]) ** -np.asarray(p)[..., None], y, variances)

    low, high = EXPONENTS
    for _ in range(ROUNDS):  # each as fine as the interval that the one before has left
        tried = np.geomspace(low, high, TRIED)
        lines = through(tried)
        best = int(np.argmin(lines.squares))
        least = float(lines.squares[best])
        scatter = with_scatter(least, spare, df) if df > 0 else Noise(least / spare, spare)
        student = stdtrit(min(scatter.df, 1e9), (1 + confidence) / 2)
        allowed = scatter.variance * student**2 - (lines.squares - least)
        kept = np.flatnonzero(allowed >= 0)
        low, high = tried[max(kept[0] - 1, 0)], tried[min(kept[-1] + 1, TRIED - 1)]
    limits = lines.level - lines.slope * lines.centre
    half = np.sqrt((1 / np.sum(1 / variances) + lines.centre**2 / lines.spread)[kept] * allowed[kept])
    limit = float(np.min(limits[kept] - half)), float(np.max(limits[kept] + half))
    low, high = (float(tried[i]) for i in (kept[0], kept[-1]))
    endless = low == EXPONENTS[0]
    exponent = 0.0 if endless else low, np.inf if high == EXPONENTS[1] else high
    found = least_between(lambda p: through(p).squares, tried, best)
    line = through(found)
    value = float(line.level - line.slope * line.centre)
    return Approach(Measured(value, *(OPEN if endless else limit)), Measured(found, *exponent))


def least_between(function: Callable[..., Any], tried: np.ndarray, best: int) -> float:
    """Where a function of one number is least, between the neighbours of the best of those that were tried."""
    ends = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    done = minimize_scalar(lambda at: float(function(at)), bounds=ends, method="bounded", options={"xatol": 1e-10})
    return float(done.x)
