"""The optimum of one size: where the loss is lowest against the learning rate, and how sure that is.

Near its minimum the loss is taken as a parabola in x = log₂ of the learning rate, plus cubic and quartic terms that are
random, of a size relative to the curvature (as in Gaussian process regression with a polynomial mean: O'Hagan, Curve
fitting and optimal design for prediction, 1978). Where the grid is fine and the noise low, the losses determine these
terms; where not, they widen the interval, so that a parabola through three points of a lopsided loss does not pass for
the truth. The interval follows Fieller: between the last learning rate at which the loss surely still falls and the
first at which it surely rises.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sharplab.analysis.trend import Noise, pooled_noise
from sharplab.core.statistics import OPEN, Interval

REACH = 1.0 + 1e-6  # octaves on either side of the best learning rate that are fitted
EXCESS = 0.25  # of the lowest loss: points that lie further above it are not fitted
ASYMMETRY = 0.6  # standard deviation of the cubic coefficient, in units of the quadratic one, per octave
FLATNESS = 0.25  # the same of the quartic coefficient, per octave²
RESOLUTION = 257  # points at which the slope is tested


@dataclass(frozen=True)
class Losses:
    """The final losses of one size, per learning rate and seed."""

    rates: np.ndarray  # (R,): log₂ of the learning rates, ascending
    values: np.ndarray  # (R, S): inf where diverged, NaN where a seed was not run

    @property
    def means(self) -> np.ndarray:
        """The mean over the seeds run at every learning rate, or else over all seeds, (R,); inf where any diverged."""
        everywhere = ~np.isnan(self.values).any(axis=0)
        chosen = self.values[:, everywhere] if everywhere.any() else self.values
        return np.where(np.isinf(self.values).any(axis=1), np.inf, np.nanmean(chosen, axis=1))


@dataclass(frozen=True)
class SlopeProfile:
    """The slope of the mean loss against log₂ of the learning rate, fitted around the minimum.

    Seeds are paired: what moves all losses of a seed alike, as the order of its data does, has no slope.
    """

    at: np.ndarray  # positions, (V,)
    slope: np.ndarray  # there, (V,)
    weight_norm: np.ndarray  # of the weights with which losses enter it, (V,)
    model_variance: np.ndarray  # of it, from the terms beyond the parabola, (V,)
    operator: "SlopeOperator"  # gives the slope at origin + z from the losses of the window
    origin: float
    window: np.ndarray  # (R,) of bool
    seeds: np.ndarray  # each seed's slope at the minimum, (S,)
    curvature: float  # the slope's own slope at the minimum
    weight_norm_at_optimum: float
    model_variance_at_optimum: float
    loss_variance: float  # of a single loss, apart from what moves a seed's whole curve; pooled over sizes

    def variance(self, between_seeds: Noise) -> Noise:
        """The variance of the minimum's position, in octaves²."""
        one_seed = between_seeds.variance + self.loss_variance * self.weight_norm_at_optimum**2
        seeds = Noise(one_seed, between_seeds.df).scaled(1 / len(self.seeds))
        total = seeds + Noise(self.model_variance_at_optimum, np.inf)
        return total.scaled(1 / self.curvature**2)

    def sign_is_known(self, between_seeds: Noise, confidence: float) -> np.ndarray:
        """The positions at which the slope differs from 0 at this confidence, (V,) of bool."""
        seeds = (between_seeds.variance + self.loss_variance * self.weight_norm**2) / len(self.seeds)
        total = seeds + self.model_variance
        with np.errstate(divide="ignore", invalid="ignore"):  # no noise at all: as many degrees as one likes
            df = np.nan_to_num(between_seeds.df * (total / seeds) ** 2, nan=np.inf)
        return np.abs(self.slope) > stdtrit(np.minimum(df, 1e9), (1 + confidence) / 2) * np.sqrt(total)


@dataclass(frozen=True)
class OptimumFit:
    """The optimum of one size; all positions are log₂ of the learning rate."""

    optimum: float  # the estimate, nan where every learning rate diverged
    best: float  # the best learning rate of the grid
    bracket: Interval  # the neighbours of the best one, diverged or not; infinite beyond the grid
    ends: Interval  # the neighbours of the fitted points: how far the optimum may lie where the fit leaves it open
    diverges_above: bool  # whether runs diverge at the upper neighbour
    profile: SlopeProfile | None  # None where fewer than three points, or no convex ones, allow no parabola

    @property
    def at_edge(self) -> tuple[bool, bool]:
        """Whether the optimum may lie below, above the grid."""
        return bool(np.isinf(self.bracket[0])), bool(np.isinf(self.bracket[1]))

    def noise(self, between_seeds: Noise) -> Noise:
        """The variance of `optimum`, given the `between_seed_variance`."""
        low, high = self.bracket
        if between_seeds.df == 0 or not np.isfinite([low, high]).all():
            return Noise(np.inf, 0)
        if self.profile is None:
            return Noise((high - low) ** 2 / 12, np.inf)  # anywhere in the bracket: uniform
        variance = self.profile.variance(between_seeds)
        # Between the best point and the first that diverged nothing was measured: the optimum is anywhere there.
        unmeasured = self.diverges_above and self.optimum > self.best
        return variance + Noise((high - self.best) ** 2 / 12, np.inf) if unmeasured else variance

    def interval(self, between_seeds: Noise, confidence: float) -> Interval:
        """The interval where the slope of the mean loss may be zero, given the `between_seed_variance`."""
        if between_seeds.df == 0 or not np.isfinite(self.optimum):
            return OPEN
        low, high = self.bracket
        if self.profile is not None:
            at, slope = self.profile.at, self.profile.slope
            known = self.profile.sign_is_known(between_seeds, confidence)
            low = max(at[known & (slope < 0) & (at <= self.optimum)], default=self.ends[0])
            high = min(at[known & (slope > 0) & (at >= self.optimum)], default=self.ends[1])
        if self.diverges_above:
            low, high = min(low, self.best), max(high, self.bracket[1])
        below, above = self.at_edge
        return (-np.inf if below else float(low), np.inf if above else float(high))


def between_seed_variance(fits: Sequence[OptimumFit]) -> Noise:
    """The variance between the seeds' slopes at the minimum beyond the noise of single losses, pooled over sizes.

    It is there where the seeds' optima differ.
    """
    profiles = [fit.profile for fit in fits if fit.profile is not None]
    seeds = pooled_noise([profile.seeds for profile in profiles])
    losses = sum((len(one.seeds) - 1) * one.loss_variance * one.weight_norm_at_optimum**2 for one in profiles)
    return Noise(max(seeds.variance - losses / seeds.df, 0.0) if seeds.df else 0.0, seeds.df)


def fit_optima(sizes: Sequence[Losses]) -> list[OptimumFit]:
    """The fit of each size; the noise that weighs the random terms against the losses is pooled over sizes."""
    windows = [_window(losses.rates, losses.means) for losses in sizes]
    chosen = [_complete(losses, window) for losses, window in zip(sizes, windows, strict=True)]
    fitted = [(losses.rates[window], y) for losses, window, y in zip(sizes, windows, chosen, strict=True) if len(y) > 2]
    df = sum((len(y) - 2) * max(y.shape[1] - 1, 0) for _, y in fitted)
    squares = sum(_residual_squares(x, y) for x, y in fitted)
    loss_variance = squares / df if df else 0.0
    return [_fit(losses, window, y, loss_variance) for losses, window, y in zip(sizes, windows, chosen, strict=True)]


def _window(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The points to fit, (R,) of bool: finite, near the best, and not far above it."""
    finite = np.isfinite(means)
    if not finite.any():
        return finite
    best = int(np.argmin(means))
    order = np.arange(len(x))
    low = means <= means[best] + EXCESS * abs(means[best])
    near = finite & low & ((np.abs(x - x[best]) <= REACH) | (np.abs(order - best) <= 2))
    # The nearest neighbours always count, however steep the loss.
    return near | (finite & (np.abs(order - best) <= 1))


def _complete(losses: Losses, window: np.ndarray) -> np.ndarray:
    """The losses of the window, (points, seeds), without the seeds that lack a point."""
    inside = losses.values[window]
    return inside[:, np.isfinite(inside).all(axis=0)]


def _residual_squares(x: np.ndarray, y: np.ndarray) -> float:
    """The squares of what is left of the losses after the mean over seeds, and a line for each seed, are taken away."""
    deviations = y - y.mean(axis=1, keepdims=True)
    line = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    return float(np.sum((deviations - line @ np.linalg.lstsq(line, deviations)[0]) ** 2))


def _fit(losses: Losses, window: np.ndarray, y: np.ndarray, loss_variance: float) -> OptimumFit:
    x, means = losses.rates, losses.means
    if not window.any():
        return OptimumFit(np.nan, np.nan, OPEN, OPEN, False, None)
    best = int(np.argmin(means))
    first, last = np.flatnonzero(window)[[0, -1]]
    padded = np.concatenate([[-np.inf], x, [np.inf]])
    bracket = (float(padded[best]), float(padded[best + 2]))
    ends = (float(padded[first]), float(padded[last + 2]))
    diverges_above = best + 1 < len(x) and not np.isfinite(means[best + 1])
    limits = (x[max(best - 1, 0)], (x[best] + bracket[1]) / 2 if diverges_above else x[min(best + 1, len(x) - 1)])
    z, mean = x[window] - x[best], y.mean(axis=1) if y.size else np.array([])
    quadratic = float(np.polyfit(z, mean, 2)[0]) if len(mean) >= 3 else 0.0
    if quadratic <= 0:
        return OptimumFit(float(x[best]), float(x[best]), bracket, ends, diverges_above, None)
    slopes_of = SlopeOperator.of(z, quadratic, loss_variance / y.shape[1])
    at = np.linspace(x[first], bracket[1] if diverges_above else x[last], RESOLUTION)
    weights, model_sd = slopes_of(at - x[best])
    slope = weights @ mean
    optimum = _minimum(at, slope, limits)
    here, model_sd_here = slopes_of(np.array([optimum - x[best]]))
    curvature = slopes_of.curvature(optimum - x[best], mean)
    profile = SlopeProfile(
        at=at,
        slope=slope,
        weight_norm=np.linalg.norm(weights, axis=1),
        model_variance=np.sum(model_sd**2, axis=1),
        operator=slopes_of,
        origin=float(x[best]),
        window=window,
        seeds=(here @ y)[0],
        curvature=curvature,
        weight_norm_at_optimum=float(np.linalg.norm(here)),
        model_variance_at_optimum=float(np.sum(model_sd_here**2)),
        loss_variance=loss_variance,
    )
    return OptimumFit(optimum, float(x[best]), bracket, ends, diverges_above, profile if curvature > 0 else None)


def _minimum(at: np.ndarray, slope: np.ndarray, limits: Interval) -> float:
    """The position within limits where the loss of this slope is lowest."""
    curve = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2)])
    i = int(np.argmin(np.where((at >= limits[0] - 1e-9) & (at <= limits[1] + 1e-9), curve, np.inf)))
    for j in (i - 1, i):  # the sign may change on either side
        if 0 <= j < len(at) - 1 and slope[j] < 0 <= slope[j + 1]:
            root = at[j] + (at[j + 1] - at[j]) * slope[j] / (slope[j] - slope[j + 1])
            return float(np.clip(root, *limits))
    return float(np.clip(at[i], *limits))


@dataclass(frozen=True)
class SlopeOperator:
    """The best linear unbiased predictor of the slope: weights on the losses, and its error apart from their noise."""

    fixed: np.ndarray  # (3, R): the coefficients of 1, z, z²
    random: np.ndarray  # (2, R): of z³, z⁴
    terms: np.ndarray  # (R, 2): z³, z⁴ of the points
    variances: np.ndarray  # (2,): of their coefficients

    @classmethod
    def of(cls, z: np.ndarray, quadratic: float, noise: float) -> "SlopeOperator":
        """The predictor for points at z, the variance of whose mean losses is `noise`."""
        variances = (quadratic * np.array([ASYMMETRY, FLATNESS])) ** 2
        design, terms = np.vander(z, 3, increasing=True), np.stack([z**3, z**4], axis=1)
        # Losses that are a formula's have no noise; the floor keeps the system regular.
        noise = max(noise, (1e-4 * quadratic) ** 2)
        precision = np.linalg.inv(noise * np.eye(len(z)) + (terms * variances) @ terms.T)
        fixed = np.linalg.solve(design.T @ precision @ design, design.T @ precision)
        random = variances[:, None] * (terms.T @ precision @ (np.eye(len(z)) - design @ fixed))
        return cls(fixed, random, terms, variances)

    def __call__(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights, (V, R), and the standard deviations that the cubic and the quartic term leave, (V, 2)."""
        one = np.ones_like(at)
        terms = np.stack([3 * at**2, 4 * at**3], axis=1)
        weights = np.stack([0 * one, one, 2 * at], axis=1) @ self.fixed + terms @ self.random
        return weights, (weights @ self.terms - terms) * np.sqrt(self.variances)

    def curvature(self, at: float, mean: np.ndarray) -> float:
        """The slope of the slope of the mean losses at one position."""
        return float(2 * self.fixed[2] @ mean + np.array([6 * at, 12 * at**2]) @ (self.random @ mean))
