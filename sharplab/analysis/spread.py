"""The spread of seeds' means over sizes, the one that seeds alone would give, and the spread beyond it."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import fdtr, fdtrc, ncfdtr

from sharplab.analysis.trend import VARIANCE_FLOOR, Measured, Noise, pooled_noise

LEAST_NOISE = 1e-6  # of a mean square: what is told better has an interval of no width that anyone reads


def noises_of_means(groups: Sequence[np.ndarray]) -> list[Noise]:
    """The noise of each group's mean, of its own seeds alone; of a single seed it is what the others share."""
    shared = pooled_noise(groups)
    return [(pooled_noise([group]) if len(group) > 1 else shared).scaled(1 / len(group)) for group in groups]


def noise_among(noises: Sequence[Noise]) -> tuple[Noise, float]:
    """What the variance among independent values of these noises is for these alone, and its degrees of freedom.

    The latter are those of Box (Annals of Mathematical Statistics 25, 1954), which are one fewer than there are values
    where all have one noise.

    >>> noise_among([Noise(1.0, 4)] * 3), noise_among([Noise(1.0, 4), Noise(0.0, 4), Noise(0.0, 4)])
    ((Noise(variance=1.0, df=12.0), 2.0), (Noise(variance=0.3333333333333333, df=4.0), 1.0))
    """
    count, total = len(noises), Noise(0.0, np.inf)
    for noise in noises:
        total += noise.scaled(1 / count)
    if not total.variance:
        return total, count - 1.0
    squares = sum(noise.variance**2 for noise in noises) / (count * total.variance) ** 2
    return total, (count - 1) ** 2 / (count * (count - 2) * squares + 1)


def spread_and_noise(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """The standard deviation over sizes of the seeds' mean, and the one that seeds alone would give it."""
    if len(groups) < 2 or not all(len(group) for group in groups):
        return np.nan, np.nan
    noise, _ = noise_among(noises_of_means(groups))
    spread = float(np.std([group.mean() for group in groups], ddof=1))
    return spread, float(np.sqrt(noise.variance)) if noise.df else np.nan


def p_value(groups: Sequence[np.ndarray]) -> float:
    """How likely seeds alone would spread the sizes that far, whose noises may differ.

    It is an analysis of variance in which each size has the noise of its own seeds, with the degrees of freedom of Box
    and of Welch and Satterthwaite.
    """
    spread, noise = spread_and_noise(groups)
    if not noise > 0:
        return np.nan
    known, free = noise_among(noises_of_means(groups))
    return float(fdtrc(free, known.df, (spread / noise) ** 2))


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
