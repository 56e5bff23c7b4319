"""Small-sample statistics that the analyses share: pooled noise, t intervals, and a trend over sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Interval = tuple[float, float]
OPEN: Interval = (-np.inf, np.inf)


def lies_within(interval: Interval, tolerance: float) -> bool:
    """Whether all of the interval lies within ±tolerance."""
    return interval[0] >= -tolerance and interval[1] <= tolerance


def lies_outside(interval: Interval, tolerance: float) -> bool:
    """Whether all of the interval lies beyond +tolerance, or all of it below −tolerance."""
    return interval[0] > tolerance or interval[1] < -tolerance


@dataclass(frozen=True)
class Noise:
    """A variance with the degrees of freedom that it was estimated from."""

    variance: float
    df: float

    def __add__(self, other: "Noise") -> "Noise":
        """The sum of two independent terms (Welch and Satterthwaite)."""
        if self.df == 0 or other.df == 0:
            return Noise(self.variance + other.variance, 0)
        total = self.variance + other.variance
        parts = self.variance**2 / self.df + other.variance**2 / other.df
        return Noise(total, total**2 / parts if parts > 0 else min(self.df, other.df))

    def scaled(self, factor: float) -> "Noise":
        """The noise of a quantity √factor times as large."""
        return Noise(factor * self.variance, self.df)

    def interval(self, centre: float, confidence: float) -> Interval:
        """centre ± t·√variance; open where nothing is known of the noise."""
        if self.df <= 0 or not np.isfinite(centre):
            return OPEN
        half = float(stats.t.ppf((1 + confidence) / 2, self.df) * np.sqrt(self.variance))
        return centre - half, centre + half


def pooled_noise(groups: Sequence[np.ndarray]) -> Noise:
    """The variance of one observation within groups: Σ squared deviations / Σ (n − 1)."""
    df = sum(max(len(group) - 1, 0) for group in groups)
    total = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups if len(group))
    return Noise(total / df if df else 0.0, df)


@dataclass(frozen=True)
class Trend:
    """The slope of a quantity against log₂ size, with the noise of the slope."""

    slope: float
    noise: Noise

    def interval(self, confidence: float) -> Interval:
        """Of the slope."""
        return self.noise.interval(self.slope, confidence)


UNKNOWN = Trend(np.nan, Noise(0.0, 0))


def trend(sizes: Sequence[float], values: Sequence[float], noises: Sequence[Noise]) -> Trend:
    """The weighted least-squares slope of `values` against log₂ sizes.

    Where the values scatter about the line by more than their noises say, the slope's variance is raised by
    that ratio (Birge 1932): a trend that is no line is not known better than its scatter. Where a noise is
    unknown, all values weigh the same and the slope's noise is unknown.
    """
    x, y = np.log2(np.asarray(sizes, float)), np.asarray(values, float)
    variances = np.array([noise.variance for noise in noises])
    df = min((noise.df for noise in noises), default=0)
    if len(x) < 2 or not np.isfinite(y).all():
        return UNKNOWN
    known = bool(np.isfinite(variances).all()) and df > 0
    weights = 1 / np.maximum(variances, 1e-12) if known else np.ones_like(x)
    centre = np.average(x, weights=weights)
    spread = np.sum(weights * (x - centre) ** 2)
    slope = float(np.sum(weights * (x - centre) * y) / spread)
    scatter = y - np.average(y, weights=weights) - slope * (x - centre)
    ratio = float(np.sum(weights * scatter**2) / (len(x) - 2)) if len(x) > 2 else 1.0
    return Trend(slope, Noise(max(1.0, ratio) / float(spread), df) if known else Noise(np.inf, 0))
