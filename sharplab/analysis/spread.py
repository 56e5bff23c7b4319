"""The spread of seeds' means over sizes, the one that seeds alone would give, and the spread beyond it."""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import fdtr, ncfdtr

from sharplab.analysis.trend import VARIANCE_FLOOR, Measured, pooled_noise

LEAST_NOISE = 1e-6  # of a mean square: what is told better has an interval of no width that anyone reads


def spread_and_noise(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """The standard deviation over sizes of the seeds' mean, and the one that seeds alone would give it."""
    if len(groups) < 2 or not all(len(group) for group in groups):
        return np.nan, np.nan
    seeds = pooled_noise(groups)
    per_mean = np.mean([seeds.variance / len(group) for group in groups]) if seeds.df else np.nan
    return float(np.std([group.mean() for group in groups], ddof=1)), float(np.sqrt(per_mean))


def p_value(groups: Sequence[np.ndarray]) -> float:
    """How likely seeds alone would spread the sizes that far (one-way analysis of variance)."""
    seeds = pooled_noise(groups)
    if len(groups) < 2 or not all(len(group) for group in groups) or not seeds.variance > 0:
        return np.nan
    return float(stats.f_oneway(*groups).pvalue)


def true_spread(square: float, noise: float, free: float, df: float, confidence: float) -> Measured:
    """The standard deviation that is left of a mean square without the noise, by inverting a non-central F.

    Args:
        square: with `free` degrees of freedom, expected to be the true square plus the noise.
        noise: the variance that noise alone would give it, known to `df` degrees of freedom.
    """
    noise = max(noise, LEAST_NOISE * square, VARIANCE_FLOOR)
    ratio, df = square / noise, min(df, 1e6)
    low, high = (noise * _noncentrality(ratio, free, df, (1 + sign * confidence) / 2) / free for sign in (1, -1))
    return Measured(*(float(np.sqrt(end)) for end in (max(square - noise, 0.0), low, high)))


def _noncentrality(ratio: float, free: float, df: float, share: float) -> float:
    """The noncentrality at which F of these degrees of freedom lies below the ratio with a probability of `share`."""
    if fdtr(free, df, ratio) <= share:
        return 0.0
    above = 2.0 * free * ratio
    while ncfdtr(free, df, above, ratio) > share:
        above *= 2
    return float(brentq(lambda noncentrality: ncfdtr(free, df, noncentrality, ratio) - share, 0.0, above))
