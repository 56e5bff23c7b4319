"""What each size loses by training at the smallest's optimum, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import Akima1DInterpolator
from scipy.special import stdtrit

from sharplab.analysis.trend import Interval, Noise
from sharplab.analysis.valley import Losses, Valley

REFERENCE = -1.0  # octaves from the optimum: the learning rate over which tuning is said to gain
MARGIN = 0.5  # octaves below the grid to which the fit is still believed
RESOLUTION = 513  # points of a curve
UNBOUNDED: Interval = (0.0, np.inf)  # no regret is negative


@dataclass(frozen=True)
class Regret:
    """Of one learning rate at one size.

    Attributes:
        value, interval: how much higher the mean loss is there than at the lowest point, in units of the loss.
        fraction, fraction_interval: the same in units of the benefit of tuning: of how much higher the loss is at
            half the optimal learning rate.
    """

    value: float
    interval: Interval
    fraction: float
    fraction_interval: Interval


UNKNOWN = Regret(np.nan, UNBOUNDED, np.nan, UNBOUNDED)


@dataclass(frozen=True)
class Rise:
    """One size's loss above that at its lowest point, against the distance from there in octaves.

    Attributes:
        at: distances, ascending, (V,).
        seeds: each seed's, (V, S). They are differences of losses of one seed, so that what its initial weights and
            the order of its data do to all of its losses alike drops out.
        beyond: standard deviations that the terms beyond the parabola leave it, (V, 2).
        cliff: the distance of the first learning rate at which a run diverged; infinite where there is none.
    """

    at: np.ndarray
    seeds: np.ndarray
    beyond: np.ndarray
    cliff: float

    @classmethod
    def of(cls, grid: Losses, valley: Valley) -> "Rise | None":
        """None where there is no lowest point, or nothing beside it to rise to.

        Near the lowest point the slope is the valley's, elsewhere that of an Akima spline through the losses. From
        the cliff on nothing is interpolated, even where a later learning rate happened to survive.
        """
        x, means, lowest = grid.rates, grid.means, valley.lowest
        if not np.isfinite(lowest):
            return None
        cliff = min(x[~np.isfinite(means) & (x > lowest)], default=np.inf)
        sound = np.isfinite(means) & (x < cliff)
        if sound.sum() < 2:
            return None
        profile = valley.profile
        used = sound if profile is None else sound | profile.window
        complete = np.isfinite(grid.values[used]).all(axis=0)
        values = grid.values[:, complete] if complete.any() else means[:, None]
        low, high = x[sound][[0, -1]]
        if profile is not None:
            below = MARGIN if profile.window[sound][0] else 0.0
            near = (max(low, profile.at[0]) - below, max(min(high, profile.at[-1]), lowest))
            low, high = low - below, max(high, lowest)
        at = np.linspace(low, high, RESOLUTION)
        slopes = Akima1DInterpolator(x[sound], values[sound])(np.clip(at, *x[sound][[0, -1]]), nu=1)
        beyond = np.zeros((RESOLUTION, 2))
        if profile is not None:
            fitted = (at >= near[0]) & (at <= near[1])
            weights, beyond[fitted] = profile.operator(at[fitted] - profile.origin)
            slopes[fitted] = weights @ values[profile.window]
        rises = cumulative_trapezoid(np.hstack([slopes, beyond]), at, axis=0, initial=0)
        rises -= _interpolated(lowest, at, rises)
        return cls(at - lowest, rises[:, :-2], rises[:, -2:], float(cliff - lowest))

    def mean(self, distance: float) -> float:
        """Over the seeds; inf beyond the last learning rate before the cliff, nan off the grid."""
        if self.reaches(distance):
            return max(float(self.of_seeds(distance).mean()), 0.0)
        return np.inf if distance > self.at[-1] and np.isfinite(self.cliff) else np.nan

    def slope(self, distance: float) -> float:
        """Of the mean, per octave, there or at the end of the grid."""
        return float(np.interp(distance, self.at, np.gradient(self.seeds.mean(axis=1), self.at)))

    def reaches(self, distance: float) -> bool:
        """Whether losses tell of it."""
        return bool(self.at[0] <= distance <= self.at[-1])

    def of_seeds(self, distance: float) -> np.ndarray:
        """(S,)"""
        return _interpolated(distance, self.at, self.seeds)


def _interpolated(at: float, nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Every column of values at one point."""
    i = min(max(int(np.searchsorted(nodes, at)), 1), len(nodes) - 1)
    share = (at - nodes[i - 1]) / (nodes[i] - nodes[i - 1])
    return (1 - share) * values[i - 1] + share * values[i]


def find_regrets(
    grids: Sequence[Losses], valleys: Sequence[Valley], wander: Noise, confidence: float
) -> tuple[Regret, ...]:
    """What each size loses at the smallest's lowest point, given the valleys' `pooled_wander`.

    With d the distance of the two optima and g the size's rise above its lowest loss, the regret is g(d), and its
    fraction of the benefit of tuning g(d)/g(−1): half the optimal learning rate is stable wherever the optimum is, and
    is the same place whatever grid was run. The fraction of a parabola is d².

    The interval joins the one of d, by Welch's t from the noise of both optima, and the one of g at its ends, by
    Fieller's ratio of means paired by seed (for the regret with 1 in place of g(−1)), whose covariance is pooled over
    the sizes that reach so far; the two errors join as in the method of variance estimates recovery (Zou and Donner,
    Statistics in Medicine 27, 2008): the deviations from the estimate add in squares, on either side apart.
    """
    rises = [Rise.of(grid, valley) for grid, valley in zip(grids, valleys, strict=True)]
    known = [rise for rise in rises if rise is not None]
    first = valleys[0]
    regrets = [Regret(0.0, (0.0, 0.0), 0.0, (0.0, 0.0)) if rises[0] is not None else UNKNOWN]
    for rise, valley in zip(rises[1:], valleys[1:], strict=True):
        distance = first.lowest - valley.lowest
        if rise is None or not np.isfinite(distance):
            regrets.append(UNKNOWN)
            continue
        ends = (first.noise(wander) + valley.noise(wander)).interval(distance, confidence)
        # Where seeds move their whole curves, they move the reference too; single losses move the lowest point alone.
        unsettled = valley.noise(Noise(0.0, np.inf)).variance
        alone = _Ratio(rise, known, confidence, None, 0.0)
        tuned = _Ratio(rise, known, confidence, REFERENCE, rise.slope(REFERENCE) ** 2 * unsettled)
        value, fraction = alone.value(distance), tuned.value(distance)
        regrets.append(Regret(value, alone.interval(value, ends), fraction, tuned.interval(fraction, ends)))
    return tuple(regrets)


@dataclass(frozen=True)
class _Ratio:
    """A size's rise over its rise at the reference, or alone where that is None.

    `moved` is the variance of the rise at the reference that comes from where the lowest point is thought to be.
    """

    rise: Rise
    rises: Sequence[Rise]  # of all sizes, whose seeds tell the noise
    confidence: float
    reference: float | None
    moved: float

    @cached_property
    def benefit(self) -> float:
        """What the rise is divided by; not positive, or nan, where the grid does not show it."""
        return 1.0 if self.reference is None else self.rise.mean(self.reference)

    def value(self, distance: float) -> float:
        """nan where the grid does not show it."""
        return self.rise.mean(distance) / self.benefit if self.benefit > 0 else np.nan

    def interval(self, estimate: float, ends: Interval) -> Interval:
        """Of the ratio at a distance that lies between the ends."""
        if not self.benefit > 0:
            return UNBOUNDED
        rise = self.rise
        nearest = float(np.clip(0.0, *ends))
        if nearest == 0:
            low = 0.0
        elif nearest >= rise.cliff:
            low = np.inf
        else:
            measured = float(np.clip(nearest, rise.at[0], rise.at[-1]))
            ratio, bound = self.value(measured), self.fieller(measured)[0]
            # A rise that is infinite, or not known, is no less than where it was last measured.
            low = estimate - np.hypot(estimate - ratio, ratio - bound) if np.isfinite(estimate) else bound
        if not np.isfinite(estimate) or not all(map(rise.reaches, ends)):
            return max(low, 0.0), np.inf
        highs = [np.hypot(self.value(end) - estimate, self.fieller(end)[1] - self.value(end)) for end in ends]
        return max(low, 0.0), float(estimate + max(highs))

    def fieller(self, distance: float) -> Interval:
        """Of the ratio at one distance; unbounded where the benefit of tuning may be nothing."""
        places = [distance] if self.reference is None else [distance, self.reference]
        pools = [np.stack([one.of_seeds(d) for d in places]) for one in self.rises if all(map(one.reaches, places))]
        df = sum(pool.shape[1] - 1 for pool in pools)
        if df == 0:
            return UNBOUNDED
        apart = np.hstack([pool - pool.mean(axis=1, keepdims=True) for pool in pools])
        beyond = np.stack([_interpolated(d, self.rise.at, self.rise.beyond) for d in places])
        n, seeds = len(places), self.rise.seeds.shape[1]
        covariance = np.zeros((2, 2))
        covariance[:n, :n] = apart @ apart.T / df / seeds + beyond @ beyond.T
        covariance[1, 1] += self.moved
        mean = np.array([self.rise.mean(distance), self.benefit])
        # (rise − ratio·benefit)² ≤ t²·its variance: a quadratic in the ratio.
        t = stdtrit(df, (1 + self.confidence) / 2)
        (c, b), (_, a) = np.outer(mean, mean) - t**2 * covariance
        if not a > 0:
            return UNBOUNDED
        root = np.sqrt(max(b**2 - a * c, 0.0))
        return float((b - root) / a), float((b + root) / a)
