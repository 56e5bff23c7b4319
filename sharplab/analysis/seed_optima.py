"""The optimum of each size: the mean over seeds of log₂ of the learning rate at which each seed's own loss is lowest.

Means of losses say little near the cliff: a run that diverges, or hardly survives, moves them by any amount, and where
a diverged run counts as infinite the optimum itself moves with the number of seeds. So each seed has its own valley
fitted, with losses bounded at `EXCESS` above its lowest, and knows of the cliff only that it ends there. Valleys are
steeper on the side of divergence; how much, one coefficient pooled over sizes says. What the fit cannot know of a
valley's shape is a doubt beside the seeds' own scatter, whose variance is shrunk towards that of the other sizes.

Constants were fixed on one set of real sweeps and tried on others (docs/statistics.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import fdtri

from sharplab.analysis.sequential import Sampling
from sharplab.analysis.trend import UNKNOWN, Measured, Noise, Trend, robust_trend, shrunk_noises
from sharplab.analysis.valley import REACH, Losses, SlopeOperator, bounded, lowest_point, neighbourhood
from sharplab.core.statistics import OPEN

ASYMMETRY = 0.6  # standard deviation of a valley's cubic coefficient in units of its quadratic one, per octave
BETWEEN = 0.2  # the same between sizes of one sweep
SHAPE_ERROR = 0.3  # of a size's asymmetry, relatively: terms beyond the cubic
LARGEST_ASYMMETRY = 1.5
COMMON = 0.5  # share of the doubt about shape that all sizes have in common, and that differences are free of
LARGEST_DOUBT = 0.25  # octaves², where neighbours lie an octave apart or less: ¾ of a uniform place between them
LEAST_CURVATURE = 0.5  # in units of the parabola's
STEEPEST = 9.0  # a parabola's rise to one neighbour on a grid, in units of that to the other, at most
GUARD = 0.8  # quantile of F beyond which optima lie on no line within their noise
POSITIONS = 257  # at which a valley's slope is computed
ROUNDING = 1e-9  # of variances, relatively


@dataclass(frozen=True)
class Asymmetry:
    """A valley's cubic coefficient in units of its quadratic one: what is known of it at one size."""

    mean: float
    sd: float


@dataclass(frozen=True)
class SizeOptimum:
    """The optimum of one size; positions are log₂ of the learning rate."""

    value: float  # the mean over seeds, nan where all diverged at every learning rate
    noise: Noise  # of that mean, from the seeds' scatter
    doubt: float  # variance that the unknown shape of the valleys leaves it, octaves²
    at_edge: tuple[bool, bool]  # whether the losses are lowest at the lower, upper end of the grid

    @property
    def difference_noise(self) -> Noise:
        """The noise of the value in differences between sizes, which share a part of the doubt."""
        return self.noise + Noise((1 - COMMON) * self.doubt, np.inf)

    def measured(self, confidence: float) -> Measured:
        """The value with its interval, open on the side where the grid ends."""
        low, high = (self.noise + Noise(self.doubt, np.inf)).interval(self.value, confidence)
        below, above = self.at_edge
        return Measured(self.value, -np.inf if below else low, np.inf if above else high)


def find_optima(sizes: Sequence[Losses]) -> list[SizeOptimum]:
    """The optimum of each size; the noise of losses, the asymmetry and the seeds' variance are shared among sizes."""
    sizes = [in_curves(grid) for grid in sizes]
    noise = loss_noise(sizes)
    asymmetry = pooled_asymmetry(sizes, noise)
    found = [np.array([own_optimum(x, y, noise, asymmetry) for x, y in curves(grid)]).reshape(-1, 3) for grid in sizes]
    optima = []
    for own, noise_of_mean, grid in zip(found, shrunk_noises([own[:, 0] for own in found]), sizes, strict=True):
        if not len(own):
            optima.append(SizeOptimum(np.nan, noise_of_mean, 0.0, (True, True)))
            continue
        position, doubt, _ = own.mean(axis=0)
        optima.append(SizeOptimum(float(position), noise_of_mean, float(doubt), edges_of(grid)))
    return optima


def shift(sizes: Sequence[float], optima: Sequence[SizeOptimum]) -> Trend:
    """The slope of the optimum against log₂ size, in octaves per doubling.

    All sizes weigh alike. Where three or more lie on no line within their noise, it is `trend.robust_trend`.
    """
    values = np.array([optimum.value for optimum in optima])
    if len(values) < 2 or not np.isfinite(values).all():
        return UNKNOWN
    z, weights = slope_weights(sizes)
    slope = float(weights @ values)
    total = Noise(0.0, np.inf)
    for weight, optimum in zip(weights, optima, strict=True):
        total += optimum.difference_noise.scaled(weight**2)
    if total.df == 0 or len(values) < 3:
        return Trend(slope, total)
    noises = [optimum.difference_noise for optimum in optima]
    precision = np.array([1 / max(noise.variance, 1e-12) for noise in noises])
    centred = z - np.average(z, weights=precision)
    deviations = values - np.average(values, weights=precision)
    line = np.sum(precision * centred * deviations) / np.sum(precision * centred**2)
    misfit = np.sum(precision * (deviations - line * centred) ** 2) / (len(values) - 2)
    least_df = min(min(noise.df for noise in noises), 1e6)
    if misfit > fdtri(len(values) - 2, least_df, GUARD):
        return robust_trend(sizes, values.tolist(), noises)
    return Trend(slope, total)


def slope_weights(sizes: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """log₂ of the sizes less its mean, and the weights of their values in the least-squares slope; 0 of one size."""
    z = np.log2(np.asarray(sizes, float))
    z -= z.mean()
    return z, z / np.sum(z**2) if len(z) > 1 else 0 * z


def sampling(sizes: Sequence[float], grids: Sequence[Losses], optima: Sequence[SizeOptimum], found: Trend) -> Sampling:
    """How the variance of the shift that was found depends on the seeds of each size."""
    seeds = tuple(in_curves(grid).values.shape[1] for grid in grids)
    _, weights = slope_weights(sizes)
    plain = Sampling(
        seeds=seeds,
        weights=tuple(map(float, weights)),
        variances=tuple(n * optimum.noise.variance for n, optimum in zip(seeds, optima, strict=True)),
        doubts=tuple((1 - COMMON) * optimum.doubt for optimum in optima),
    )
    if not plain.known:
        return plain
    of_line = plain.by_seeds(seeds) + plain.fixed
    excess = float(found.noise.variance) - of_line
    return replace(plain, excess=excess) if excess > ROUNDING * of_line else plain


def distance(one: SizeOptimum, other: SizeOptimum, confidence: float) -> Measured:
    """The distance of one size's optimum from another's, in octaves, with Welch's interval."""
    value = one.value - other.value
    if any(one.at_edge) or any(other.at_edge):
        return Measured(value, *OPEN)
    return Measured(value, *(one.difference_noise + other.difference_noise).interval(value, confidence))


class Lowest(NamedTuple):
    """The lowest point of one seed's valley; positions are log₂ of the learning rate."""

    position: float
    doubt: float  # variance that the valley's unknown shape leaves it
    leverage: float  # its variance for losses of variance 1


def own_optimum(x: np.ndarray, y: np.ndarray, noise: float, asymmetry: Asymmetry) -> Lowest:
    """The lowest point of one seed's valley.

    Args:
        x: log₂ of the learning rates, ascending, (R,).
        y: the losses there, inf where diverged; at least one is finite.
        noise: the variance of a single loss.
        asymmetry: of valleys at this size.
    """
    best, last = int(np.argmin(y)), len(x) - 1
    cliff = best < last and not np.isfinite(y[best + 1])
    low, high = x[max(best - 1, 0)], x[min(best + 1, last)]
    inside = neighbourhood(x, y)
    z, losses = x[inside] - x[best], np.minimum(y[inside], _bound(y, best))
    quadratic = float(np.polyfit(z, losses, 2)[0]) if len(z) >= 3 else 0.0
    if quadratic <= 0:
        return Lowest(float(x[best]), float((high - low) ** 2 / 12), 0.0)
    slope_of = SlopeOperator.of(z, quadratic, noise, asymmetry.sd)
    known = asymmetry.mean * quadratic  # the cubic coefficient that is expected
    rest = losses - known * z**3
    at = np.linspace(low, (x[best] + high) / 2 if cliff else high, POSITIONS) - x[best]
    position = lowest_point(at, slope_of(at)[0] @ rest + 3 * known * at**2)
    weights, model_sd = slope_of(np.array([position]))
    curvature = max(slope_of.curvature(position, rest) + 6 * known * position, LEAST_CURVATURE * quadratic)
    doubt = np.sum(model_sd**2) / curvature**2
    if cliff and position > 0:
        doubt += (high - x[best]) ** 2 / 12  # up to the cliff nothing was measured
    leverage = np.sum(weights**2) / curvature**2
    largest = LARGEST_DOUBT * max(1.0, (high - low) / 2) ** 2  # on a coarse grid the optimum may lie further off
    return Lowest(float(x[best] + position), float(min(doubt, largest)), float(leverage))


def _bound(y: np.ndarray, best: int) -> float:
    """The bound of the losses beside a seed's lowest one.

    Where the next lower learning rate lies above the usual bound already, as where losses come near 0, it is the valley
    that is steep on this grid: the loss above may then rise `STEEPEST` times as much, as that of a parabola may.
    """
    usual = float(bounded(y[best]))
    if best > 0 and usual < y[best - 1] < np.inf:
        return float(y[best] + STEEPEST * (y[best - 1] - y[best]))
    return usual


def loss_noise(sizes: Sequence[Losses]) -> float:
    """The variance of a single loss beyond the level and the tilt of its seed's curve, pooled over sizes; robust."""
    variances, weights = [], []
    for grid in sizes:
        medians = grid.medians
        if not np.isfinite(medians).any():
            continue
        best = int(np.argmin(medians))
        near = (np.abs(grid.rates - grid.rates[best]) <= REACH) & (medians <= bounded(medians[best]))
        capped = np.minimum(grid.values[near], bounded(medians[near])[:, None])
        capped = capped[:, np.isfinite(capped).all(axis=0)]
        points, seeds = capped.shape
        if points < 3 or seeds < 2:
            continue
        deviations = capped - capped.mean(axis=1, keepdims=True)
        line = np.vander(grid.rates[near] - grid.rates[near].mean(), 2)
        rest = deviations - line @ np.linalg.lstsq(line, deviations)[0]
        df = (points - 2) * (seeds - 1)
        variances.append((1.4826 * np.median(np.abs(rest))) ** 2 * rest.size / df)
        weights.append(df)
    return float(np.average(variances, weights=weights)) if variances else 0.0


def pooled_asymmetry(sizes: Sequence[Losses], noise: float) -> Asymmetry:
    """The asymmetry of valleys: its posterior mean, and how much one size's may differ from that."""
    weighted, precision = 0.0, 1 / ASYMMETRY**2
    for grid in sizes:
        medians = grid.medians
        if not np.isfinite(medians).any():
            continue
        losses = np.full(len(medians), np.inf)
        known = np.isfinite(medians)
        losses[known] = np.nanmean(np.minimum(grid.values[known], bounded(medians[known])[:, None]), axis=1)
        inside = neighbourhood(grid.rates, losses, always=0)
        z = grid.rates[inside] - grid.rates[np.argmin(losses)]
        if len(z) < 4:
            continue
        design = np.vander(z, 4, increasing=True)
        inverse = np.linalg.inv(design.T @ design)
        _, _, quadratic, cubic = inverse @ design.T @ losses[inside]
        if quadratic <= 0:
            continue
        ratio = float(np.clip(cubic / quadratic, -LARGEST_ASYMMETRY, LARGEST_ASYMMETRY))
        of_mean = max(noise, (1e-4 * quadratic) ** 2) / grid.values.shape[1]
        variance = of_mean * inverse[3, 3] / quadratic**2 + BETWEEN**2 + (SHAPE_ERROR * ratio) ** 2
        weighted += ratio / variance
        precision += 1 / variance
    return Asymmetry(weighted / precision, float(np.sqrt(1 / precision + BETWEEN**2)))


def in_curves(grid: Losses) -> Losses:
    """The losses of the seeds that have a valley: those run at the best learning rate and beside it.

    Where none was, as where each run has a seed of its own, the medians are taken for the curve of one seed.
    """
    best = int(np.argmin(grid.medians))
    run = ~np.isnan(grid.values[max(best - 1, 0) : best + 2]).any(axis=0)
    chosen = run & np.isfinite(grid.values).any(axis=0)
    return Losses(grid.rates, grid.values[:, chosen] if chosen.any() else grid.medians[:, None])


def curves(grid: Losses) -> list[tuple[np.ndarray, np.ndarray]]:
    """The learning rates and losses of each seed that survived somewhere."""
    run = ~np.isnan(grid.values)
    return [(grid.rates[r], y[r]) for r, y in zip(run.T, grid.values.T, strict=True) if np.isfinite(y).any()]


def edges_of(grid: Losses) -> tuple[bool, bool]:
    """Whether the median loss is lowest at the lower, upper end of the grid."""
    best = int(np.argmin(grid.medians))
    return best == 0, best == len(grid.rates) - 1
