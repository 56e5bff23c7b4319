"""The power law of a gap that seeds blur: g(x) = a·x^b, where single measurements of g may have either sign.

The absolute value of a noisy gap is too large where the gap is small, and leaving such points out keeps those that
are too large by chance; both flatten the law. So the signed gaps are fitted, without a logarithm. Under fixed weights
v_i the gap has its centre of mass, in ln x, at Σ v_i ln x_i g_i / Σ v_i g_i; a law of exponent b has it at m(b), which
increases with b, and so the one tells the other. Both sums are means over seeds, whose ratio has an interval that is
exact for normal noise, however the points depend on each other, as those of one run and of one seed do (Fieller,
Some problems in interval estimation, 1954). It is open where the gap itself may be 0.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from sharplab.analysis.power_laws import PowerLaw
from sharplab.core.statistics import OPEN, Interval, mean_interval

EXPONENTS = np.linspace(-6.0, 6.0, 1200)  # what lies beyond is not told from ±∞; 0 is not among them


def gap_law(x: np.ndarray, gaps: np.ndarray, *, typical: float, confidence: float = 0.95) -> PowerLaw:
    """The power law a·x^b of the seeds' mean gap, a of either sign; the prefactor's interval is over all exponents.

    Args:
        x: of at least 1, ascending, shape (n,).
        gaps: of each seed, shape (seeds, n), without missing ones.
        typical: an exponent that is likely: the weights are v = x^typical, the best ones there for even noise.

    >>> seeds = np.random.default_rng(0).normal(size=(4, 3))
    >>> x = np.array([8.0, 16.0, 32.0])
    >>> law = gap_law(x, -3 / x + 0.01 * seeds, typical=-1)
    >>> print(f"{law.exponent:.2f} {law.prefactor:.1f}")
    -1.00 -3.0
    """
    if gaps.shape[1] < 2 or not len(gaps):
        return PowerLaw(np.nan, OPEN, np.nan, OPEN, len(x), 0, np.nan, confidence)
    weights = x**typical
    exponent, interval = _exponent(x, gaps, weights, lambda b: x**b, confidence)
    mean = gaps.mean(axis=0)
    prefactor = float(mean @ weights / (weights @ x**exponent))
    fitted = prefactor * x**exponent
    return PowerLaw(
        exponent=exponent,
        exponent_interval=interval,
        prefactor=prefactor,
        prefactor_interval=_prefactor_interval(x, gaps, weights, interval, confidence),
        points=len(x),
        left_out=0,
        r_squared=float(1 - np.sum((mean - fitted) ** 2) / np.sum(mean**2)) if mean.any() else np.nan,
        confidence=confidence,
    )


def limit_exponent(
    x: np.ndarray, gaps: np.ndarray, last: float, *, typical: float, confidence: float = 0.95
) -> tuple[float, Interval]:
    """The exponent b of q(x) = q(∞) + a·x^b, of gaps q(x) − q(last), which go as x^b − last^b.

    A power law through these gaps themselves is steeper, as the gaps of sizes near the last are too small.
    Arguments as in `gap_law`, x below `last`.
    """
    if gaps.shape[1] < 2 or not len(gaps):
        return np.nan, OPEN
    return _exponent(x, gaps, x**typical, lambda b: x**b - last**b, confidence)


def _exponent(
    x: np.ndarray, gaps: np.ndarray, weights: np.ndarray, curve: Callable[..., np.ndarray], confidence: float
) -> tuple[float, Interval]:
    """The exponent b of the law curve(b) whose centre of mass is that of the gaps, with its interval.

    It is unknown where no law has its centre there, as of gaps that change their sign.
    """
    log_x = np.log(x)

    def centre_of(b: np.ndarray) -> np.ndarray:
        curves = curve(b)
        return curves @ (weights * log_x) / (curves @ weights)

    centres = centre_of(EXPONENTS[:, None])
    centre, (low, high) = _ratio(gaps @ (weights * log_x), gaps @ weights, confidence)

    def solved(at: float) -> float:
        i = int(np.searchsorted(centres, at))
        if not 0 < i < len(centres):
            return np.inf if i else -np.inf
        return float(brentq(lambda b: float(centre_of(np.array([b]))) - at, EXPONENTS[i - 1], EXPONENTS[i]))

    exponent, bottom, top = map(solved, (centre, low, high))
    if not np.isfinite(exponent):
        return np.nan, OPEN
    return exponent, (bottom, top)


def _ratio(above: np.ndarray, below: np.ndarray, confidence: float) -> tuple[float, Interval]:
    """The ratio E[above]/E[below] of pairs, one per seed, with Fieller's interval, open where E[below] may be 0."""
    seeds = len(above)
    mean_above, mean_below = float(above.mean()), float(below.mean())
    ratio = mean_above / mean_below if mean_below else np.nan
    if seeds < 2 or not np.isfinite(ratio):
        return ratio, OPEN
    covariance = np.cov(above, below) * stats.t.ppf((1 + confidence) / 2, seeds - 1) ** 2 / seeds
    square = mean_below**2 - covariance[1, 1]
    if square <= 0:
        return ratio, OPEN
    middle = (mean_above * mean_below - covariance[0, 1]) / square
    root = np.sqrt(max(middle**2 - (mean_above**2 - covariance[0, 0]) / square, 0.0))
    return ratio, (float(middle - root), float(middle + root))


def _prefactor_interval(
    x: np.ndarray, gaps: np.ndarray, weights: np.ndarray, exponents: Interval, confidence: float
) -> Interval:
    if not np.isfinite(exponents).all():
        return OPEN
    mass = gaps @ weights
    _, interval = mean_interval(mass, confidence)
    ends = np.outer(interval, [1 / (weights @ x**exponent) for exponent in exponents])
    return float(ends.min()), float(ends.max())
