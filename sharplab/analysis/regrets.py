"""The regrets of carrying one size's optimum to another, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import Akima1DInterpolator
from scipy.special import stdtrit

from sharplab.analysis.mean_valley import MeanValley, fit_mean
from sharplab.analysis.seed_optima import SizeOptimum, loss_noise
from sharplab.analysis.trend import Measured
from sharplab.analysis.valley import Losses
from sharplab.core.statistics import Interval

REFERENCE = -1.0  # octaves from the optimum: the learning rate over which tuning is said to gain
MARGIN = 0.5  # octaves below the grid to which the fit is still believed
RESOLUTION = 513  # points of a curve
UNBOUNDED: Interval = (0.0, np.inf)  # no regret is negative


@dataclass(frozen=True)
class Regret:
    """The regret of one learning rate at one size."""

    loss: Measured  # how much higher the mean loss is there than at its minimum, in units of the loss
    share: Measured  # the same over how much higher it is at half the optimal learning rate, the benefit of tuning


NONE = Regret(Measured(0.0, 0.0, 0.0), Measured(0.0, 0.0, 0.0))
UNKNOWN = Regret(Measured(np.nan, *UNBOUNDED), Measured(np.nan, *UNBOUNDED))


@dataclass(frozen=True)
class ExcessLoss:
    """One size's loss above its minimum, against the distance from there in octaves.

    Each seed's are differences of its own losses, so that what its initial weights and the order of its data do to all
    of them alike drops out.
    """

    at: np.ndarray  # distances, ascending, (V,)
    seeds: np.ndarray  # each seed's, (V, S)
    model_sd: np.ndarray  # standard deviations that the terms beyond the parabola leave it, (V, 2)
    divergence: float  # distance of the first learning rate at which a run diverged; infinite where there is none
    lowest: np.ndarray  # each seed's loss at the minimum, (S,)

    @classmethod
    def of(cls, grid: Losses, valley: MeanValley | None) -> "ExcessLoss | None":
        """The excess loss of one size; None where there is no minimum, or nothing beside it to rise to.

        Near the minimum the slope is the valley's, elsewhere that of an Akima spline through the losses. From the first
        divergence on nothing is interpolated, even where a later learning rate happened to survive.
        """
        if valley is None:
            return None
        x, means, optimum = grid.rates, grid.means, valley.optimum
        divergence = min(x[~np.isfinite(means) & (x > optimum)], default=np.inf)
        stable = np.isfinite(means) & (x < divergence)
        if stable.sum() < 2:
            return None
        used = stable if valley.operator is None else stable | valley.window
        complete = np.isfinite(grid.values[used]).all(axis=0)
        values = grid.values[:, complete] if complete.any() else means[:, None]
        low, high = x[stable][[0, -1]]
        if valley.operator is not None:
            below = MARGIN if valley.window[stable][0] else 0.0
            near = (max(low, valley.span[0]) - below, max(min(high, valley.span[1]), optimum))
            low, high = low - below, max(high, optimum)
        at = np.linspace(low, high, RESOLUTION)
        slopes = Akima1DInterpolator(x[stable], values[stable])(np.clip(at, *x[stable][[0, -1]]), nu=1)
        model_sd = np.zeros((RESOLUTION, 2))
        if valley.operator is not None:
            fitted = (at >= near[0]) & (at <= near[1])
            weights, model_sd[fitted] = valley.operator(at[fitted] - valley.origin)
            slopes[fitted] = weights @ values[valley.window]
        excess = cumulative_trapezoid(np.hstack([slopes, model_sd]), at, axis=0, initial=0)
        excess -= _interpolated(optimum, at, excess)
        fitted_rates = stable & (valley.window if valley.operator is not None else x == optimum)
        rises = np.stack([_interpolated(rate, at, excess[:, :-2]) for rate in x[fitted_rates]])
        lowest = (values[fitted_rates] - rises).mean(axis=0)
        return cls(at - optimum, excess[:, :-2], excess[:, -2:], float(divergence - optimum), lowest)

    def mean(self, distance: float) -> float:
        """The mean over seeds; inf beyond the last learning rate before a divergence, nan off the grid."""
        if self.reaches(distance):
            return max(float(self.of_seeds(distance).mean()), 0.0)
        return np.inf if distance > self.at[-1] and np.isfinite(self.divergence) else np.nan

    def slope(self, distance: float) -> float:
        """The slope of the mean, per octave, there or at the end of the grid."""
        return float(np.interp(distance, self.at, np.gradient(self.seeds.mean(axis=1), self.at)))

    def reaches(self, distance: float) -> bool:
        """Whether losses were measured around this distance."""
        return bool(self.at[0] <= distance <= self.at[-1])

    def of_seeds(self, distance: float) -> np.ndarray:
        """Each seed's excess loss, (S,)."""
        return _interpolated(distance, self.at, self.seeds)


def _interpolated(at: float, nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Every column of values at one point."""
    i = min(max(int(np.searchsorted(nodes, at)), 1), len(nodes) - 1)
    share = (at - nodes[i - 1]) / (nodes[i] - nodes[i - 1])
    return (1 - share) * values[i - 1] + share * values[i]


def excess_losses(grids: Sequence[Losses]) -> tuple[list[ExcessLoss | None], list[MeanValley | None]]:
    """The excess loss of each size, and the valley that it is measured from; None where there is none."""
    noise = loss_noise(grids)
    valleys = [fit_mean(grid, noise) for grid in grids]
    return [ExcessLoss.of(grid, valley) for grid, valley in zip(grids, valleys, strict=True)], valleys


def benefit_of_tuning(
    excesses: Sequence[ExcessLoss | None], optima: Sequence[SizeOptimum], confidence: float
) -> Measured:
    """The regret of half the optimal learning rate at the largest size; of a parabola κd² it is κ."""
    excess = excesses[-1]
    if excess is None:
        return UNKNOWN.loss
    known = [one for one in excesses if one is not None]
    ends = optima[-1].difference_noise.interval(REFERENCE, confidence)
    nearest = float(np.clip(0.0, *ends))
    return _Ratio(excess, known, confidence, None, 0.0).measured(REFERENCE, nearest, ends)


class Regrets(NamedTuple):
    """The regrets of a sweep, one of each for each size, ascending."""

    of_smallest: tuple[Regret, ...]  # of the smallest size's optimum, at each size
    at_largest: tuple[Regret, ...]  # of each size's optimum, at the largest


def find_regrets(grids: Sequence[Losses], optima: Sequence[SizeOptimum], confidence: float) -> Regrets:
    """The regrets of each size at the smallest's optimum, and of the largest at each size's.

    With d the distance from there to where the size's mean loss is lowest, and g the size's excess loss, the regret is
    g(d), and its share of the benefit of tuning g(d)/g(−1): half the optimal learning rate is stable wherever the
    optimum is, and is the same place whatever grid was run. The share of a parabola is d².

    The interval joins that of d with that of g. Its upper end needs the noise of the optimum that is carried alone:
    g is a difference to the lowest of the same losses, which a misplaced minimum raises, if in second order. Its lower
    end needs that of both optima (Welch). The interval of g at these ends is Fieller's of a ratio of means paired by
    seed (for the regret with 1 in place of g(−1)), whose covariance is pooled over the sizes that reach so far. The two
    errors join as in the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008): the
    deviations from the estimate add in squares, on either side apart.
    """
    excesses, valleys = excess_losses(grids)
    known = [excess for excess in excesses if excess is not None]

    def regret(carried: int, at: int) -> Regret:
        excess, valley, optimum = excesses[at], valleys[at], optima[carried]
        if carried == at:
            return NONE if excess is not None else UNKNOWN
        if excess is None or valley is None or not np.isfinite(optimum.value):
            return UNKNOWN
        distance = optimum.value - valley.optimum
        ends = optimum.difference_noise.interval(distance, confidence)
        apart = (optimum.difference_noise + optima[at].difference_noise).interval(distance, confidence)
        nearest = float(np.clip(0.0, *apart))
        # Where seeds move their whole curves, they move the reference too; single losses move the minimum alone. Beside
        # a cliff the mean has hardly a curvature: the seeds' own optima are then the better known.
        place = min(valley.variance, optima[at].difference_noise.variance)
        alone = _Ratio(excess, known, confidence, None, 0.0)
        tuned = _Ratio(excess, known, confidence, REFERENCE, excess.slope(REFERENCE) ** 2 * place)
        return Regret(*(ratio.measured(distance, nearest, ends) for ratio in (alone, tuned)))

    sizes, last = range(len(grids)), len(grids) - 1
    of_smallest = tuple(regret(0, at) for at in sizes)
    return Regrets(of_smallest, (of_smallest[-1], *(regret(carried, last) for carried in sizes[1:])))


@dataclass(frozen=True)
class _Ratio:
    """A size's excess loss over its excess loss at the reference, or alone where that is None.

    `reference_variance` is the variance of the excess loss at the reference that comes from the noise of the minimum.
    """

    excess: ExcessLoss
    excesses: Sequence[ExcessLoss]  # of all sizes, whose seeds tell the noise
    confidence: float
    reference: float | None
    reference_variance: float

    @cached_property
    def benefit(self) -> float:
        """The denominator; not positive, or nan, where the grid does not show it."""
        return 1.0 if self.reference is None else self.excess.mean(self.reference)

    def value(self, distance: float) -> float:
        """The ratio; nan where the grid does not show it."""
        return self.excess.mean(distance) / self.benefit if self.benefit > 0 else np.nan

    def measured(self, distance: float, nearest: float, ends: Interval) -> Measured:
        """The ratio at a distance, with its interval.

        From the distance `nearest` to 0 on it is no lower, and between the ends no higher than at one of them.
        """
        estimate = self.value(distance)
        return Measured(estimate, *self.interval(estimate, nearest, ends))

    def interval(self, estimate: float, nearest: float, ends: Interval) -> Interval:
        """The interval of the ratio, arguments as in `measured`."""
        if not self.benefit > 0:
            return UNBOUNDED
        excess = self.excess
        if nearest == 0:
            low = 0.0
        elif nearest >= excess.divergence:
            low = np.inf
        else:
            measured = float(np.clip(nearest, excess.at[0], excess.at[-1]))
            ratio, bound = self.value(measured), self.fieller(measured)[0]
            # An excess loss that is infinite, or not known, is no less than where it was last measured.
            low = estimate - np.hypot(estimate - ratio, ratio - bound) if np.isfinite(estimate) else bound
        if not np.isfinite(estimate) or not all(map(excess.reaches, ends)):
            return float(max(low, 0.0)), np.inf
        highs = [np.hypot(self.value(end) - estimate, self.fieller(end)[1] - self.value(end)) for end in ends]
        return float(max(low, 0.0)), float(estimate + max(highs))

    def fieller(self, distance: float) -> Interval:
        """Fieller's interval of the ratio at one distance; unbounded where the benefit of tuning may be nothing."""
        places = [distance] if self.reference is None else [distance, self.reference]
        pools = [np.stack([one.of_seeds(d) for d in places]) for one in self.excesses if all(map(one.reaches, places))]
        df = sum(pool.shape[1] - 1 for pool in pools)
        if df == 0:
            return UNBOUNDED
        deviations = np.hstack([pool - pool.mean(axis=1, keepdims=True) for pool in pools])
        model_sd = np.stack([_interpolated(d, self.excess.at, self.excess.model_sd) for d in places])
        n, seeds = len(places), self.excess.seeds.shape[1]
        covariance = np.zeros((2, 2))
        covariance[:n, :n] = deviations @ deviations.T / df / seeds + model_sd @ model_sd.T
        covariance[1, 1] += self.reference_variance
        mean = np.array([self.excess.mean(distance), self.benefit])
        # (excess − ratio·benefit)² ≤ t²·its variance: a quadratic in the ratio.
        t = stdtrit(df, (1 + self.confidence) / 2)
        (c, b), (_, a) = np.outer(mean, mean) - t**2 * covariance
        if not a > 0:
            return UNBOUNDED
        root = np.sqrt(max(b**2 - a * c, 0.0))
        return float((b - root) / a), float((b + root) / a)
