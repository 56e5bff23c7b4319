"""Where stability ends at each size: between the last learning rate before the first that diverged, and that one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sharplab.analysis.trend import UNKNOWN, Interval, Noise, Trend, pooled_noise, trend
from sharplab.analysis.valley import Losses


@dataclass(frozen=True)
class Edges:
    """Per size, in log₂ of the learning rate, and the trend over sizes."""

    edges: tuple[float, ...]
    intervals: tuple[Interval, ...]
    trend: Trend


def find_edges(sizes: Sequence[float], grids: Sequence[Losses], confidence: float) -> Edges:
    """The seeds' mean of the brackets' middles.

    The interval spans the mean bracket, widened by the seeds' noise, pooled over sizes. Where some seed never
    diverged the edge is the mean of the last stable learning rates, and its interval reaches to infinity; where one
    diverged at every learning rate, that of the first unstable ones, and from minus infinity.
    """
    brackets = [edge_brackets(grid) for grid in grids]
    middles = [bracket.mean(axis=1) for bracket in brackets]
    seeds = pooled_noise([middle[np.isfinite(middle)] for middle in middles])
    edges, intervals, noises = [], [], []
    for bracket, middle in zip(brackets, middles, strict=True):
        noise = seeds.scaled(1 / len(middle))
        low, high = bracket.mean(axis=0)
        bounded = np.isfinite(low) and np.isfinite(high)
        edges.append(float((low + high) / 2) if bounded else float(low if np.isfinite(low) else high))
        below, above = noise.interval(0.0, confidence) if bounded or noise.df else (0.0, 0.0)
        intervals.append((float(low + below), float(high + above)))
        # The threshold is anywhere within its bracket: uniform, of variance width²/12.
        noises.append(noise + Noise((high - low) ** 2 / 12, np.inf) if bounded else Noise(np.inf, 0))
    known = all(np.isfinite(noise.variance) for noise in noises)
    return Edges(tuple(edges), tuple(intervals), trend(sizes, edges, noises) if known else UNKNOWN)


def edge_brackets(grid: Losses) -> np.ndarray:
    """(S, 2), per seed: log₂ of the last learning rate before the first that diverged, and of that one."""
    brackets = []
    for losses in grid.values.T:
        run = ~np.isnan(losses)
        ladder = np.concatenate([[-np.inf], grid.rates[run], [np.inf]])
        first = np.append(losses[run] == np.inf, True).argmax()
        brackets.append(ladder[first : first + 2])
    return np.array(brackets)
