"""The loss of a run some time ahead, from its first steps at one learning rate."""

import numpy as np
from scipy import ndimage, optimize, stats

from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, count

RATES, ROUNDS = 512, 4  # of decay, that are averaged over, and how often more finely
UNLIKELY = 25.0  # in log likelihood below the likeliest rate, what counts no more
FEWEST = 6  # losses that tell a forecast
SPIKE = 4.0  # standard deviations from the curve through running medians: what lies further off is left out
SLOWEST = 0.5  # e-foldings until the time of the forecast, of the slowest decay


class _Curves:
    """The least-squares curve a·e^(bt) + c for each rate of decay −b."""

    def __init__(self, steps: np.ndarray, losses: np.ndarray, slowest: float, fastest: float = 1.0) -> None:
        self.decays = np.geomspace(slowest, fastest, RATES)[:, None]
        x = np.exp(-self.decays * steps)
        self.centre, self.level = x.mean(axis=1, keepdims=True), losses.mean()
        x -= self.centre
        self.along = np.sum(x**2, axis=1)
        self.slopes = x @ (losses - self.level) / self.along
        self.squares = np.sum((losses - self.level - self.slopes[:, None] * x) ** 2, axis=1)

    def at(self, steps: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """The curves at these steps, and how far e^(bt) there is from its mean over the losses; (rates, steps)."""
        ahead = np.exp(-self.decays * steps) - self.centre
        return self.level + self.slopes[:, None] * ahead, ahead


def without_spikes(losses: np.ndarray, at: int) -> np.ndarray:
    """Which losses lie near the curve through their running medians, (n,) of bool."""
    steps = np.arange(len(losses))
    curves = _Curves(steps, ndimage.median_filter(losses, 5, mode="nearest"), SLOWEST / at)
    off = np.abs(losses - curves.at(steps)[0][curves.squares.argmin()])
    spread = np.median(off) / stats.norm.ppf(0.75)
    return off <= max(SPIKE * spread, 1e-6 * np.abs(losses).max())


@checked(at=count)
def forecast(losses: np.ndarray, at: int, *, confidence: float = 0.95) -> Measured:
    """The mean loss at step `at`, from noisy losses of the steps 0 … n − 1, by curves a·e^(bt) + c with b < 0.

    For each b, a and c are of least squares; what they say at step `at` is averaged over b, each weighing as its
    residuals say, log |b| being taken for evenly spread from half an e-folding until `at` to one per step. The value is
    the median of that average. A curve that is none of these is not covered by the interval, such as one with two
    rates of decay, or a slower one, which is nearly a straight line: compare with what came out.

    Args:
        losses: (n,), 6 or more; spikes are left out. Where one is not finite the forecast is infinite.

    Raises:
        ValueError: for fewer losses, or a step `at` among theirs.

    Source: AutoLRS, arXiv 2105.10762, whose forecast is the least-squares curve alone.

    >>> steps = np.arange(40)
    >>> losses = 2 * np.exp(-steps / 20) + 1 + 0.01 * np.random.default_rng(0).standard_normal(40)
    >>> f"{forecast(losses, 400):.2f}"
    '1.02 [1.00, 1.03]'
    """
    losses = np.asarray(losses, float)
    if len(losses) < FEWEST:
        raise ValueError(f"losses must be {FEWEST} or more, not {len(losses)}.")
    if at < len(losses):
        raise ValueError(f"at must lie beyond the losses, at {len(losses)} or later, not {at}.")
    if not np.isfinite(losses).all():
        return Measured(np.inf, np.inf, np.inf)
    kept = np.flatnonzero(without_spikes(losses, at))
    least = len(kept) * (1e-9 * max(np.abs(losses).max(), 1e-9)) ** 2
    slowest, fastest, free = SLOWEST / at, 1.0, len(kept) - 2
    for _ in range(ROUNDS):  # each as fine as what the one before has left
        curves = _Curves(kept, losses[kept], slowest, fastest)
        squares = np.maximum(curves.squares, least)
        unlikely = free / 2 * np.log(squares / squares.min())
        first, last = np.flatnonzero(unlikely < UNLIKELY)[[0, -1]]
        slowest, fastest = curves.decays[max(first - 1, 0), 0], curves.decays[min(last + 1, RATES - 1), 0]
    weights = np.exp(-unlikely)
    middles, ahead = (each[:, 0] for each in curves.at(at))
    spreads = np.sqrt(squares / free * (1 / len(kept) + ahead**2 / curves.along))

    def below(z: float) -> float:
        return float(np.average(stats.t.cdf((z - middles) / spreads, free), weights=weights))

    def quantile(share: float) -> float:
        ends = middles + spreads * stats.t.ppf(share, free)
        low, high = ends[weights > 0].min(), ends[weights > 0].max()
        if high - low <= 1e-12 * max(abs(high), 1e-12):
            return float(low)
        return float(optimize.brentq(lambda z: below(z) - share, low, high, xtol=1e-9 * (high - low)))

    return Measured(*map(quantile, (0.5, (1 - confidence) / 2, (1 + confidence) / 2)))
