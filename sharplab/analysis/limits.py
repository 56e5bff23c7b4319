"""The limit that a quantity approaches as a power of size: y(x) = limit + a·x^−p, with intervals of limit and p."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sharplab.analysis.trend import VARIANCE_FLOOR, Measured, Noise
from sharplab.analysis.weighted_line import WeightedLine
from sharplab.core.statistics import OPEN

EXPONENTS = np.geomspace(0.05, 6.0, 240)  # 0.05 is hardly told from a logarithm, which has no limit
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

    For each p of `EXPONENTS` the weighted least-squares line of y in x^−p leaves Q(p). The interval of p is where
    Q(p) − min Q ≤ t²·s; the one of the limit unites, over these p, the limits with Q(p, limit) − min Q ≤ t²·s. t is
    Student's, of the least degrees of freedom among the noises, and s = max(1, min Q/(n − 3)): scatter beyond the noise
    counts (Birge 1932). Without a noise all points weigh alike, and their scatter alone, of n − 3 degrees of freedom,
    tells it. With fewer than four sizes nothing is known.

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
    lines = [WeightedLine.through((x / x[0]) ** -p, y, variances) for p in EXPONENTS]
    squares = np.array([line.squares for line in lines])
    limits = np.array([line.level - line.slope * line.centre for line in lines])
    per_limit = np.array([1 / np.sum(1 / line.variances) + line.centre**2 / line.spread for line in lines])
    best = int(np.argmin(squares))
    scatter = squares[best] / spare
    scale, df = (max(1.0, scatter), df) if df > 0 else (scatter, spare)
    allowed = scale * stdtrit(min(df, 1e9), (1 + confidence) / 2) ** 2 - (squares - squares[best])
    kept = np.flatnonzero(allowed >= 0)
    first, last = kept[0], kept[-1]
    half = np.sqrt(per_limit[kept] * allowed[kept])
    limit = OPEN if first == 0 else (float(np.min(limits[kept] - half)), float(np.max(limits[kept] + half)))
    low = 0.0 if first == 0 else float(EXPONENTS[first])
    high = np.inf if last == len(EXPONENTS) - 1 else float(EXPONENTS[last])
    return Approach(Measured(float(limits[best]), *limit), Measured(float(EXPONENTS[best]), low, high))
