"""Optima and their shift where every size has one seed, as most sweeps of large networks do.

How far losses lie off a smooth valley tells their noise, but not that another seed has its optimum elsewhere, which
moves the whole curve. So the optima's scatter about the law, a line in log₂ size, is the noise of the shift, with
Student's t of as many degrees of freedom as sizes beyond two; and what of that scatter the valleys do not explain is
added to each optimum's own noise. On grids coarser than an octave optima are all pulled to the same grid points, which
hides their scatter and bends the law: there the doubt about the valleys' shape adds to the noise of the shift.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sharplab.analysis.seed_optima import (
    COMMON,
    LARGEST_DOUBT,
    Asymmetry,
    SizeOptimum,
    curves,
    edges_of,
    own_optimum,
    pooled_asymmetry,
)
from sharplab.analysis.trend import Noise, Trend
from sharplab.analysis.valley import Losses, neighbourhood

FEWEST_SIZES = 4  # with three, t of one degree of freedom leaves intervals of several octaves


class SingleSeeds(NamedTuple):
    """The optima of sizes with one seed each, and what is known of their noise, (sizes,) each."""

    values: np.ndarray  # log₂ of the learning rate
    of_losses: np.ndarray  # their variances from the noise of the losses
    doubts: np.ndarray  # their variances from the valleys' unknown shape


def single_seed_valleys(grids: Sequence[Losses]) -> SingleSeeds:
    """The optimum of each size; noise and asymmetry of the valleys are pooled."""
    own = [curves(grid)[0] for grid in grids]
    asymmetry = pooled_asymmetry(grids, residual_noise(own, pooled_asymmetry(grids, 0.0)))
    noise = residual_noise(own, asymmetry)
    found = [own_optimum(x, y, noise, asymmetry) for x, y in own]
    values, doubts, leverages = (np.array(each) for each in zip(*found, strict=True))
    return SingleSeeds(values, noise * leverages, doubts)


def single_seed_optima(sizes: Sequence[float], grids: Sequence[Losses]) -> tuple[list[SizeOptimum], Trend]:
    """The optimum of each size, and their slope against log₂ size, from one seed per size and four sizes or more."""
    values, of_losses, doubts = single_seed_valleys(grids)
    z = np.log2(np.asarray(sizes, float))
    z -= z.mean()
    slope = float(z @ values / np.sum(z**2))
    df = len(values) - 2
    scatter = float(np.sum((values - values.mean() - slope * z) ** 2)) / df
    between = max(scatter - float(np.mean(of_losses + (1 - COMMON) * doubts)), 0.0)
    optima = [
        SizeOptimum(float(value), Noise(float(own_noise + between), df), float(doubt), edges_of(grid))
        for value, own_noise, doubt, grid in zip(values, of_losses, doubts, grids, strict=True)
    ]
    pulled = (1 - COMMON) * np.maximum(doubts - LARGEST_DOUBT, 0.0)  # 0 on grids of an octave and finer
    of_shift = Noise(scatter / float(np.sum(z**2)), df) + Noise(float(z**2 @ pulled / np.sum(z**2) ** 2), np.inf)
    return optima, Trend(slope, of_shift)


def residual_noise(own: Sequence[tuple[np.ndarray, np.ndarray]], asymmetry: Asymmetry) -> float:
    """The variance of a loss about its valley, a parabola of this asymmetry, pooled over sizes; 0 if unknown."""
    squares, df = 0.0, -1  # the asymmetry is fitted too
    for x, y in own:
        inside = neighbourhood(x, y, always=0)
        z, losses = x[inside] - x[np.argmin(y)], y[inside]
        if len(z) < 4:
            continue
        quadratic = max(float(np.polyfit(z, losses, 2)[0]), 0.0)
        rest = losses - asymmetry.mean * quadratic * z**3
        design = np.vander(z, 3)
        squares += float(np.sum((rest - design @ np.linalg.lstsq(design, rest)[0]) ** 2))
        df += len(z) - 3
    return squares / df if df > 0 else 0.0
