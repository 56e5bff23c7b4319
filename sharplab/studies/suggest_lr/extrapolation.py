"""The optimum at a large size, extrapolated from those of small ones, and the regret of missing it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.interpolate import Akima1DInterpolator

from sharplab.analysis.seed_optima import find_optima
from sharplab.analysis.trend import Noise, trend
from sharplab.analysis.valley import Losses
from sharplab.core.statistics import OPEN, Interval, half_width

QUANTILES = 64  # of the optimum's place, over which the expected regret is averaged


@dataclass(frozen=True)
class Extrapolation:
    """The optimum at a size that was not trained, in log₂ of the learning rate.

    Attributes:
        trend, trend_noise: if the drift goes on: on the line through the optima of the sizes trained.
        last, last_noise: if it has died out: the optimum of the largest size trained.
        interval: of the optimum, whichever of the two it is, or between them.
    """

    trend: float
    trend_noise: Noise
    last: float
    last_noise: Noise
    interval: Interval

    @property
    def optimum(self) -> float:
        """Halfway between the two, where the worse of both errors is least."""
        return (self.trend + self.last) / 2

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """The quantiles of the optimum's place in either case, one case after the other."""
        cases = ((self.trend, self.trend_noise), (self.last, self.last_noise))
        return np.concatenate(
            [centre + stats.t.ppf(levels, noise.df) * np.sqrt(noise.variance) for centre, noise in cases]
        )


UNKNOWN = Extrapolation(np.nan, Noise(np.inf, 0), np.nan, Noise(np.inf, 0), OPEN)


def losses_of(runs: pd.DataFrame, metric: str) -> tuple[tuple[int, ...], tuple[Losses, ...]]:
    """The widths, ascending, and the losses of each, of runs with the columns width, learning_rate, seed, `metric`."""
    tables = {
        int(width): part.pivot(index="learning_rate", columns="seed", values=metric)
        for width, part in runs.groupby("width", sort=True)
    }
    grids = (Losses(np.log2(t.index.to_numpy(float)), t.to_numpy(float)) for t in tables.values())
    return tuple(tables), tuple(grids)


def extrapolate(
    sizes: Sequence[float], grids: Sequence[Losses], size: float, *, confidence: float = 0.95
) -> Extrapolation:
    """The optimum at `size`, from the losses at smaller sizes.

    A drift may go on as far as `size`, or die out as finite-size effects do. If it goes on, the optimum is on the
    weighted least-squares line of log₂ optimum against log₂ size; its noise is that of the line there, raised by the
    ratio of the optima's scatter about the line to their own noise (Birge 1932, as in `sharplab.analysis.trend`). If it
    has died out, the optimum is that of the largest size. The interval spans those of both, so that it holds wherever
    between the two the optimum lies.

    An optimum at the edge of its grid, fewer than two sizes, or noise that is not known leave it open.
    """
    optima = find_optima(grids)
    x, y = np.log2(np.asarray(sizes, float)), np.array([optimum.value for optimum in optima])
    noises = [optimum.difference_noise for optimum in optima]
    slope = trend(sizes, y.tolist(), noises)
    if any(any(optimum.at_edge) for optimum in optima) or not slope.noise.df or not np.isfinite(slope.slope):
        return UNKNOWN
    weights = 1 / np.maximum([noise.variance for noise in noises], 1e-12)
    centre, distance = np.average(x, weights=weights), np.log2(size) - np.average(x, weights=weights)
    # The slope's variance is the Birge ratio over this; the mean's the same ratio over the sum of weights.
    ratio = slope.noise.variance * np.sum(weights * (x - centre) ** 2)
    at_size = float(np.average(y, weights=weights) + slope.slope * distance)
    noise = Noise(float(ratio / weights.sum() + slope.noise.variance * distance**2), slope.noise.df)
    on_line, own = noise.interval(at_size, confidence), optima[-1].measured(confidence).interval
    return Extrapolation(at_size, noise, float(y[-1]), noises[-1], (min(on_line[0], own[0]), max(on_line[1], own[1])))


@dataclass(frozen=True)
class Regret:
    """The rise of the loss at a learning rate above that at the optimum, in units of the loss.

    Attributes:
        expected: over where the optimum may be; inf if that may be so far below that runs diverge, nan if it may be
            where nothing was trained.
        interval: from 0 to the worst case with the noise of seeds; to inf where the worst case diverges or is unknown.
    """

    expected: float
    interval: Interval


def predicted_regret(
    rate: float, found: Extrapolation, grid: Losses, optimum: float, *, confidence: float = 0.95
) -> Regret:
    """The regret of using `rate`, log₂ of a learning rate, where the optimum is as `found` says.

    The loss is taken to rise from its optimum as it does at the largest size trained, whose losses are `grid` and
    whose optimum is `optimum`. The expected regret is the mean over the central part, `confidence`, of Student's
    distributions of the optimum if its drift goes on and if it has died out, both alike; the worst case is the
    worse end of the interval, plus Student's t times the standard error over seeds of the rise there, which pairs
    each seed with itself.
    """
    if not np.isfinite(found.interval).all():
        return Regret(np.nan, (0.0, np.inf))
    levels = 0.5 + confidence * ((np.arange(QUANTILES) + 0.5) / QUANTILES - 0.5)
    expected = _rises(grid, optimum, rate - found.quantiles(levels)).mean()
    ends = _rises(grid, optimum, rate - np.array(found.interval))
    if ends.shape[1] < 2 or not np.isfinite(ends).all():
        return Regret(float(expected), (0.0, np.inf))
    worst = float((ends.mean(axis=1) + half_width(ends, confidence)).max())
    return Regret(max(float(expected), 0.0), (0.0, max(0.0, worst)))


def _rises(grid: Losses, optimum: float, offsets: np.ndarray) -> np.ndarray:
    """The rise of each seed's loss from optimum to optimum + offset, shape (offsets, seeds).

    It is inf from the end of stability on, and nan off the grid.
    """
    x, complete = grid.rates, grid.values[:, ~np.isnan(grid.values).any(axis=0)]
    unstable = np.isinf(complete).any(axis=1)
    divergent = np.flatnonzero(unstable & (x > optimum))
    edge = x[divergent[0]] if len(divergent) else np.inf
    stable = ~unstable & (x < edge)
    curve = Akima1DInterpolator(x[stable], complete[stable])
    places = optimum + offsets
    rises = curve(places) - curve(np.clip(optimum, x[stable][0], x[stable][-1]))
    beyond = (places > x[stable][-1]) & np.isfinite(edge)
    return np.where(beyond[:, None], np.inf, rises)
