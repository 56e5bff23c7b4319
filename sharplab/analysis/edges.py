"""The edge of stability of each size: between the last learning rate before the first that diverged, and that one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sharplab.analysis.trend import UNKNOWN, Measured, Noise, Trend, pooled_noise, trend
from sharplab.analysis.valley import Losses


@dataclass(frozen=True)
class Edges:
    """The edge of each size, in log₂ of the learning rate, and the trend over sizes."""

    edges: tuple[Measured, ...]
    trend: Trend


def find_edges(sizes: Sequence[float], grids: Sequence[Losses], confidence: float) -> Edges:
    """The edge of each size from its losses, as `mean_edges` gives it."""
    return mean_edges(sizes, [edge_brackets(grid) for grid in grids], confidence)


def mean_edges(sizes: Sequence[float], brackets: Sequence[np.ndarray], confidence: float) -> Edges:
    """The edge of each size, the mean over seeds of the middles of their brackets, (S, 2) of log₂ of the learning rate.

    The interval spans the mean bracket, widened by the seeds' noise, pooled over sizes. Where some seed never
    diverged the edge is the mean of the last stable learning rates, and its interval reaches to infinity; where one
    diverged at every learning rate, that of the first unstable ones, and from minus infinity.
    """
    middles = [bracket.mean(axis=1) for bracket in brackets]
    seeds = pooled_noise([middle[np.isfinite(middle)] for middle in middles])
    edges, noises = [], []
    for bracket, middle in zip(brackets, middles, strict=True):
        noise = seeds.scaled(1 / len(middle))
        low, high = (float(end) for end in bracket.mean(axis=0))
        bounded = np.isfinite(low) and np.isfinite(high)
        edge = (low + high) / 2 if bounded else low if np.isfinite(low) else high
        below, above = noise.interval(0.0, confidence) if bounded or noise.df else (0.0, 0.0)
        edges.append(Measured(edge, low + below, high + above))
        # The threshold is anywhere within its bracket: uniform, of variance width²/12.
        noises.append(noise + Noise((high - low) ** 2 / 12, np.inf) if bounded else Noise(np.inf, 0))
    known = all(np.isfinite(noise.variance) for noise in noises)
    values = [edge.value for edge in edges]
    return Edges(tuple(edges), trend(sizes, values, noises) if known else UNKNOWN)


def edge_brackets(grid: Losses) -> np.ndarray:
    """The log₂ of the last learning rate before the first that diverged, and of that one, per seed, (S, 2)."""
    brackets = []
    for losses in grid.values.T:
        trained = ~np.isnan(losses)
        rates = np.concatenate([[-np.inf], grid.rates[trained], [np.inf]])
        first = np.append(losses[trained] == np.inf, True).argmax()
        brackets.append(rates[first : first + 2])
    return np.array(brackets)
