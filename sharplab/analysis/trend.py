"""Small-sample statistics that the analyses share: measured values, pooled noise, t intervals, a trend over sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import softmax

from sharplab.analysis.weighted_line import WeightedLine
from sharplab.core.statistics import OPEN, Interval

PRIOR_DF = 2.0  # degrees of freedom that the other groups' variance counts
VARIANCE_FLOOR = 1e-12  # of the values of a trend
OUTLIER_PROBABILITY = 0.1  # that one value of a trend lies off it by more than its noise
OUTLIER_SD = 1.0  # standard deviation of how far it then lies off, in the values' units: octaves


def lies_within(interval: Interval, tolerance: float) -> bool:
    """Whether all of the interval lies within ±tolerance."""
    return interval[0] >= -tolerance and interval[1] <= tolerance


def lies_outside(interval: Interval, tolerance: float) -> bool:
    """Whether all of the interval lies beyond +tolerance, or all of it below −tolerance."""
    return interval[0] > tolerance or interval[1] < -tolerance


@dataclass(frozen=True)
class Measured:
    """A value and the ends of its interval.

    >>> f"{Measured(0.5, 0.25, 1.0):+.2f}"
    '+0.50 [+0.25, +1.00]'
    """

    value: float
    low: float
    high: float

    @property
    def interval(self) -> Interval:
        """The pair (low, high)."""
        return self.low, self.high

    def columns(self, name: str) -> dict[str, float]:
        """The table columns `name`, `name`_low and `name`_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def less(self, other: "Measured") -> "Measured":
        """This value less an independent one, whose deviations add in squares on either side (Zou and Donner, 2008)."""
        value = self.value - other.value
        below = np.hypot(self.value - self.low, other.high - other.value)
        above = np.hypot(self.high - self.value, other.value - other.low)
        return Measured(value, *(OPEN if np.isnan(value) else (float(value - below), float(value + above))))

    def __format__(self, spec: str) -> str:
        value, low, high = (format(x, spec) for x in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


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
        return Noise(factor * self.variance if factor else 0.0, self.df)  # also of an unknown, infinite one

    def interval(self, centre: float, confidence: float) -> Interval:
        """The interval centre ± t·√variance; open where nothing is known of the noise."""
        if self.df <= 0 or not np.isfinite(centre):
            return OPEN
        half = float(stats.t.ppf((1 + confidence) / 2, self.df) * np.sqrt(self.variance))
        return centre - half, centre + half


def with_scatter(squares: float, spare: int, df: float) -> Noise:
    """The variance of a law's coefficients, in units of what the values' own noise makes of it.

    It is 1, or the scatter about the law where that is more (Birge 1932): `squares` in units of the noise, with `spare`
    degrees of freedom, beside the `df` of the noise (Welch and Satterthwaite).
    """
    own = Noise(1.0, df)
    excess = squares / spare - 1 if spare else 0.0
    return own + Noise(excess, spare) if excess > 0 else own


def pooled_noise(groups: Sequence[np.ndarray]) -> Noise:
    """The variance of one observation within groups: Σ squared deviations / Σ (n − 1)."""
    df = sum(max(len(group) - 1, 0) for group in groups)
    total = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups if len(group))
    return Noise(total / df if df else 0.0, df)


def shrunk_noises(groups: Sequence[np.ndarray]) -> list[Noise]:
    """The noise of each group's mean: its variance, shrunk towards that of the others, which count `PRIOR_DF`.

    An empty group has infinite variance, of no degrees of freedom.
    """
    squares = np.array([float(np.sum((group - group.mean()) ** 2)) if len(group) else 0.0 for group in groups])
    df = np.array([max(len(group) - 1, 0) for group in groups])
    noises = []
    for i, group in enumerate(groups):
        others = df.sum() - df[i]
        pooled = (squares.sum() - squares[i]) / others if others else 0.0
        prior = min(PRIOR_DF, others)
        known = prior + df[i] if len(group) else 0.0
        variance = (prior * pooled + squares[i]) / known / len(group) if known else np.inf
        noises.append(Noise(float(variance), float(known)))
    return noises


@dataclass(frozen=True)
class Trend:
    """The slope of a quantity against log₂ size, with the noise of the slope."""

    slope: float
    noise: Noise

    def interval(self, confidence: float) -> Interval:
        """The slope's interval."""
        return self.noise.interval(self.slope, confidence)

    def measured(self, confidence: float) -> Measured:
        """The slope with its interval."""
        return Measured(self.slope, *self.interval(confidence))


UNKNOWN = Trend(np.nan, Noise(0.0, 0))


def trend(sizes: Sequence[float], values: Sequence[float], noises: Sequence[Noise]) -> Trend:
    """The weighted least-squares slope of `values` against log₂ sizes.

    Where the values scatter about the line by more than their noises say, the slope's variance is raised by
    that ratio (`with_scatter`): a trend that is no line is not known better than its scatter. Where a noise is
    unknown, all values weigh the same and the slope's noise is unknown.
    """
    x, y = np.log2(np.asarray(sizes, float)), np.asarray(values, float)
    variances = np.array([noise.variance for noise in noises])
    df = min((noise.df for noise in noises), default=0)
    if len(x) < 2 or not np.isfinite(y).all():
        return UNKNOWN
    if not np.isfinite(variances).all() or df == 0:
        return Trend(WeightedLine.through(x, y, np.ones_like(x)).slope, Noise(np.inf, 0))
    line = WeightedLine.through(x, y, np.maximum(variances, VARIANCE_FLOOR))
    return Trend(line.slope, _slope_noise(line, df))


def _slope_noise(line: WeightedLine, df: float) -> Noise:
    return with_scatter(line.squares, len(line.variances) - 2, df).scaled(1 / line.spread)


def trend_of_means(sizes: Sequence[float], groups: Sequence[np.ndarray]) -> Trend:
    """The trend of the groups' means, with their noise pooled within groups; unknown where a group is empty."""
    if not all(len(group) for group in groups):
        return UNKNOWN
    seeds = pooled_noise(groups)
    return trend(sizes, [float(group.mean()) for group in groups], [seeds.scaled(1 / len(group)) for group in groups])


def robust_trend(sizes: Sequence[float], values: Sequence[float], noises: Sequence[Noise]) -> Trend:
    """The slope of `values`, in octaves, against log₂ sizes, where one of them may be an outlier.

    One value, any of them and with a probability of `OUTLIER_PROBABILITY`, is taken to lie off the line by `OUTLIER_SD`
    more than its noise says: the lines that follow if none does, or this one, or that, are averaged with the weights
    that their likelihoods give them, and the slope's variance is theirs and the one between them (Box and Tiao, A
    Bayesian approach to some outlier problems, Biometrika 55, 1968). Scatter that no single outlier explains raises the
    variance as in `trend`, which this is where a noise is unknown or values are fewer than three. One outlier among
    five values hardly moves the slope (tests/analysis/test_trend.py; simulations in docs/statistics.md).
    """
    plain = trend(sizes, values, noises)
    if len(values) < 3 or plain.noise.df == 0:
        return plain
    x, y = np.log2(np.asarray(sizes, float)), np.asarray(values, float)
    variances, df = np.array([noise.variance for noise in noises]), min(*(noise.df for noise in noises), 1e9)
    outliers = np.vstack([np.zeros_like(x), OUTLIER_SD**2 * np.eye(len(x))])
    lines = [WeightedLine.through(x, y, np.maximum(variances + more, VARIANCE_FLOOR)) for more in outliers]
    prior = np.log([1 - OUTLIER_PROBABILITY] + [OUTLIER_PROBABILITY / len(x)] * len(x))
    weights = softmax(prior + [line.log_likelihood(df) for line in lines])
    slopes, own = np.array([line.slope for line in lines]), [_slope_noise(line, df) for line in lines]
    slope = float(weights @ slopes)
    variances = np.array([noise.variance for noise in own]) + (slopes - slope) ** 2
    return Trend(slope, Noise(float(weights @ variances), float(1 / (weights @ [1 / noise.df for noise in own]))))
