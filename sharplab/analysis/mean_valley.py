"""The mean loss of one size around its lowest point, from which regrets are measured."""

from dataclasses import dataclass

import numpy as np

from sharplab.analysis.valley import Losses, SlopeOperator, lowest_point, neighbourhood
from sharplab.core.statistics import Interval

ASYMMETRY = 0.6  # standard deviation of the cubic coefficient, in units of the quadratic one, per octave
POSITIONS = 257  # at which the slope is computed


@dataclass(frozen=True)
class MeanValley:
    """The mean loss around its lowest point, a learning rate at which any seed diverged left out.

    Seeds are paired: what moves all losses of a seed alike, as the order of its data does, has no slope.
    """

    optimum: float  # log₂ of the learning rate
    window: np.ndarray  # the points that were fitted, (R,) of bool
    origin: float  # the best learning rate of the grid
    span: Interval  # positions between which the fit is used
    operator: SlopeOperator | None  # gives the slope at origin + z from the losses of the window; None without a fit
    variance: float  # of the optimum, from the noise of single losses


def fit_mean(grid: Losses, noise: float) -> MeanValley | None:
    """The valley of one size's mean loss, given the variance of a single loss; None where every rate has diverged.

    Fewer than three points, or no convex ones, leave it the best learning rate of the grid.
    """
    x, means = grid.rates, grid.means
    if not np.isfinite(means).any():
        return None
    best, last = int(np.argmin(means)), len(x) - 1
    window = neighbourhood(x, means)
    inside = grid.values[window]
    inside = inside[:, np.isfinite(inside).all(axis=0)]
    origin = float(x[best])
    z, losses = x[window] - origin, inside.mean(axis=1) if inside.size else means[window]
    quadratic = float(np.polyfit(z, losses, 2)[0]) if len(z) >= 3 else 0.0
    if quadratic <= 0:
        return MeanValley(origin, window, origin, (origin, origin), None, 0.0)
    operator = SlopeOperator.of(z, quadratic, noise / max(inside.shape[1], 1), ASYMMETRY)
    cliff = best < last and not np.isfinite(means[best + 1])
    low, high = x[max(best - 1, 0)], x[min(best + 1, last)]
    at = np.linspace(low, (x[best] + high) / 2 if cliff else high, POSITIONS) - origin
    position = lowest_point(at, operator(at)[0] @ losses)
    weights, _ = operator(np.array([position]))
    curvature = operator.curvature(position, losses)
    variance = noise / max(inside.shape[1], 1) * float(np.sum(weights**2)) / curvature**2 if curvature > 0 else np.inf
    end = x[np.flatnonzero(window)[-1]]
    return MeanValley(origin + position, window, origin, (float(x[window][0]), float(end)), operator, variance)
