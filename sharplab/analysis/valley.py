"""Losses of one size against the learning rate, and the slope of a valley that is fitted to them.

Near its minimum the loss is taken as a parabola in x = log₂ of the learning rate, plus cubic and quartic terms that are
random, of a size relative to the curvature (as in Gaussian process regression with a polynomial mean: O'Hagan, Curve
fitting and optimal design for prediction, 1978). Where the grid is fine and the noise low, the losses determine these
terms; where not, they are a doubt, so that a parabola through three points of a lopsided loss does not pass for the
truth.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

REACH = 1.0 + 1e-6  # octaves on either side of the best learning rate that are fitted
FURTHEST = 2 * REACH  # octaves to second neighbours on a coarse grid: further off little is known of a valley's shape
EXCESS = 0.25  # of the lowest loss: points that lie further above it are not fitted
FLATNESS = 0.25  # standard deviation of the quartic coefficient, in units of the quadratic one, per octave²

T = TypeVar("T", float, np.ndarray)


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

    @property
    def medians(self) -> np.ndarray:
        """The median over the seeds that were run, (R,); inf where half of them or more diverged."""
        return np.nanmedian(self.values, axis=1)


def bounded(lowest: T) -> T:
    """The bound of losses near a lowest one: what lies higher tells of the cliff, not of the valley."""
    return lowest + EXCESS * abs(lowest)


def neighbourhood(x: np.ndarray, losses: np.ndarray, *, always: int = 1) -> np.ndarray:
    """The points to fit, (R,) of bool: finite, near the best, and not far above it.

    So many neighbours on either side always count, however steep the loss.
    """
    best = int(np.argmin(losses))
    steps, apart = np.abs(np.arange(len(x)) - best), np.abs(x - x[best])
    near = (losses <= bounded(losses[best])) & ((apart <= REACH) | ((steps <= 2) & (apart <= FURTHEST)))
    return np.isfinite(losses) & (near | (steps <= always))


def lowest_point(at: np.ndarray, slope: np.ndarray) -> float:
    """The position at which a curve of this slope is lowest, between those of a sign change where there is one."""
    curve = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(at))])
    i = int(np.argmin(curve))
    for j in (i - 1, i):  # the sign may change on either side
        if 0 <= j < len(at) - 1 and slope[j] < 0 <= slope[j + 1]:
            return float(at[j] + (at[j + 1] - at[j]) * slope[j] / (slope[j] - slope[j + 1]))
    return float(at[i])


@dataclass(frozen=True)
class SlopeOperator:
    """The best linear unbiased predictor of the slope: weights on the losses, and its error apart from their noise."""

    fixed: np.ndarray  # (3, R): the coefficients of 1, z, z²
    random: np.ndarray  # (2, R): of z³, z⁴
    terms: np.ndarray  # (R, 2): z³, z⁴ of the points
    variances: np.ndarray  # (2,): of their coefficients

    @classmethod
    def of(cls, z: np.ndarray, quadratic: float, noise: float, asymmetry: float) -> "SlopeOperator":
        """The predictor for points at z, the variance of whose losses is `noise`.

        `asymmetry` is the standard deviation of the cubic coefficient in units of the quadratic one, per octave.
        """
        variances = (quadratic * np.array([asymmetry, FLATNESS])) ** 2
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
