"""Where the best learning rate is at each size, how sure that is, and whether it moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from sharplab.analysis.trend import OPEN, Interval, Noise, Trend, lies_outside, lies_within, pooled_noise, trend
from sharplab.records import Records, require_one_setting

REACH = 1.0 + 1e-6  # octaves on either side of the best learning rate that a polynomial is fitted to
EXCESS = 0.25  # of the lowest loss: points that lie further above it belong to the cliff, not to the valley
Verdict = Literal["transfers", "shifts", "inconclusive"]


@dataclass(frozen=True)
class Transfer:
    """What a sweep says about one parameterization; learning rates are base learning rates.

    Attributes:
        sizes: ascending.
        optimum, optimum_interval: the best learning rate per size. An interval open on one side (0 or inf) says
            that the optimum lies at the edge of the grid; (0, inf) that the noise is not known.
        edge, edge_interval: where stability ends, per size: the geometric middle of the largest learning rate
            below which no run diverged and the next one of the grid, averaged over seeds. The interval spans
            these brackets, widened by the seeds' noise.
        shift, shift_interval: log₂ of the optimum per doubling of size.
        edge_shift, edge_shift_interval: the same for the edge.
        regret: how much higher the largest size's loss is at the smallest size's optimum than at its own.
        verdict: "transfers" where the interval of the shift lies within ±tolerance, "shifts" where it lies
            outside of it, else "inconclusive".
        trend: the slope with its noise, for comparisons.
    """

    name: str
    over: str
    metric: str
    sizes: tuple[int, ...]
    optimum: tuple[float, ...]
    optimum_interval: tuple[Interval, ...]
    edge: tuple[float, ...]
    edge_interval: tuple[Interval, ...]
    shift: float
    shift_interval: Interval
    edge_shift: float
    edge_shift_interval: Interval
    regret: float
    verdict: Verdict
    tolerance: float
    confidence: float
    trend: Trend

    def table(self) -> pd.DataFrame:
        """One row per size."""
        return pd.DataFrame(
            {
                self.over: self.sizes,
                "optimum": self.optimum,
                "optimum_low": [low for low, _ in self.optimum_interval],
                "optimum_high": [high for _, high in self.optimum_interval],
                "edge": self.edge,
                "edge_low": [low for low, _ in self.edge_interval],
                "edge_high": [high for _, high in self.edge_interval],
            }
        )

    def __str__(self) -> str:
        low, high = self.shift_interval
        lines = [f"{self.name}: the optimal learning rate {self.verdict} over {self.over}"]
        for row in self.table().itertuples(index=False):
            lines.append(
                f"  {self.over} {row[0]:>5}: best {row[1]:.3g} [{row[2]:.3g}, {row[3]:.3g}], "
                f"stable up to {row[4]:.3g} [{row[5]:.3g}, {row[6]:.3g}]"
            )
        lines.append(
            f"  shift {self.shift:+.2f} octaves per doubling, {self.confidence:.0%} interval [{low:+.2f}, {high:+.2f}] "
            f"(transfers within ±{self.tolerance:g}); regret at the largest {self.regret:.3g}"
        )
        return "\n".join(lines)


def transfer(
    records: Records,
    *,
    over: str = "width",
    metric: str = "eval_loss",
    tolerance: float = 0.25,
    confidence: float = 0.95,
) -> dict[str, Transfer]:
    """Does the optimal learning rate stay where it is as `over` grows? One answer per parameterization.

    Per size, the learning rates within an octave of the lowest seed-mean loss, and within a quarter above it,
    get a cubic in log₂ of the learning rate for every seed (a parabola below five of them); the optimum is the
    mean of their minima. Its noise is the minima's variance, pooled over sizes and so usable at three seeds, plus
    what the misfit of the cubic to the mean loss makes of its minimum; intervals are Student's. A learning rate at
    which any seed diverged has infinite loss: give all sizes equally many seeds. The shift is the weighted slope of
    log₂ optimum against log₂ size. In simulated sweeps with 3 to 5 seeds, the 95 % intervals of the shift cover it
    in 95 to 99 % of cases, those of an optimum in 89 to 97 %, the least beside a cliff or in a lopsided valley.

    Args:
        records: runs of one setting, apart from parameterization (and optimizer), size, learning rate and seed.
        over: "width" or "depth".
        metric: the column of final losses.
        tolerance: octaves per doubling within which an optimum counts as staying.
        confidence: of all intervals.

    Returns:
        A `Transfer` per parameterization; with several optimizers the keys are "parameterization/optimizer".

    Raises:
        ValueError: for a missing column, mixed settings, or two runs of one size, learning rate and seed.
    """
    runs = records.runs
    if over not in ("width", "depth"):
        raise ValueError(f"over must be 'width' or 'depth', not {over!r}.")
    for column in (over, metric):
        if column not in runs:
            raise ValueError(f"the runs have no column {column!r}; they have {', '.join(runs)}.")
    require_one_setting(runs, apart_from=[over])
    keys = [key for key in ("parameterization", "optimizer") if key in runs and (key != "optimizer" or _several(runs))]
    groups = runs.groupby(keys, sort=False) if keys else [((), runs)]
    return {
        name: _transfer(name, table, over, metric, tolerance, confidence)
        for key, table in groups
        for name in ["/".join(map(str, key)) or "runs"]
    }


def _several(runs: pd.DataFrame) -> bool:
    return runs["optimizer"].nunique() > 1


def _transfer(name: str, runs: pd.DataFrame, over: str, metric: str, tolerance: float, confidence: float) -> Transfer:
    duplicated = runs.duplicated([over, "learning_rate", "seed"])
    if duplicated.any():
        row = runs[duplicated].iloc[0]
        raise ValueError(
            f"{name} has two runs at {over} {row[over]}, learning_rate {row['learning_rate']:g}, seed {row['seed']}: "
            f"select one setting."
        )
    losses = runs[metric].astype(float)
    unstable = ~np.isfinite(losses) | (runs["diverged"].astype(bool) if "diverged" in runs else False)
    table = runs.assign(_loss=losses.mask(unstable, np.inf))
    sizes = tuple(sorted(int(size) for size in table[over].unique()))
    grids = [
        _Grid.of(table[table[over] == size].pivot(index="learning_rate", columns="seed", values="_loss"))
        for size in sizes
    ]
    valleys = [_valley(grid) for grid in grids]
    noises = _vertex_noises(valleys)
    intervals = [_optimum_interval(valley, noise, confidence) for valley, noise in zip(valleys, noises, strict=True)]
    centres = [valley.centre for valley in valleys]
    inside = all(valley.outside == (False, False) for valley in valleys)
    shift = trend(sizes, centres, noises)
    shift_interval = shift.interval(confidence) if inside else OPEN
    edges, edge_intervals, edge_trend = _edges(sizes, grids, confidence)
    return Transfer(
        name=name,
        over=over,
        metric=metric,
        sizes=sizes,
        optimum=tuple(float(2.0**centre) for centre in centres),
        optimum_interval=tuple((float(2.0**low), float(2.0**high)) for low, high in intervals),
        edge=tuple(float(2.0**edge) for edge in edges),
        edge_interval=tuple((float(2.0**low), float(2.0**high)) for low, high in edge_intervals),
        shift=shift.slope,
        shift_interval=shift_interval,
        edge_shift=edge_trend.slope,
        edge_shift_interval=edge_trend.interval(confidence),
        regret=_regret(grids[-1], centres[0]),
        verdict=_verdict(shift_interval, tolerance),
        tolerance=tolerance,
        confidence=confidence,
        trend=shift,
    )


def _verdict(interval: Interval, tolerance: float) -> Verdict:
    if lies_within(interval, tolerance):
        return "transfers"
    return "shifts" if lies_outside(interval, tolerance) else "inconclusive"


def shift_difference(a: Transfer, b: Transfer, *, confidence: float = 0.95) -> tuple[float, Interval]:
    """b's shift less a's, with its interval (Welch's), in octaves per doubling."""
    difference = b.shift - a.shift
    if OPEN in (a.shift_interval, b.shift_interval):
        return difference, OPEN
    return difference, (a.trend.noise + b.trend.noise).interval(difference, confidence)


@dataclass(frozen=True)
class _Grid:
    """The losses of one size."""

    rates: np.ndarray  # (R,): log₂ of the learning rates, ascending
    losses: np.ndarray  # (R, S): inf where diverged, NaN where a seed was not run

    @classmethod
    def of(cls, pivot: pd.DataFrame) -> "_Grid":
        return cls(np.log2(pivot.index.to_numpy(float)), pivot.to_numpy(float))

    @property
    def means(self) -> np.ndarray:
        """Over seeds, (R,); inf where any diverged."""
        return np.nanmean(self.losses, axis=1)


@dataclass(frozen=True)
class _Valley:
    """The lowest part of one size's loss curve."""

    vertices: np.ndarray  # (S,): log₂ of each seed's optimum
    misfit: Noise  # of their mean, from the polynomial's misfit to the mean loss
    outside: tuple[bool, bool]  # whether the optimum may lie below, above the grid
    bracket: Interval  # between which grid points the optimum lies for sure, noise apart
    one_sided: bool  # no sound point above the best: the cliff begins there

    @property
    def centre(self) -> float:
        return float(self.vertices.mean()) if len(self.vertices) else np.nan


def _valley(grid: _Grid) -> _Valley:
    means = grid.means
    if not np.isfinite(means).any():
        return _Valley(np.array([]), Noise(0.0, 0), (True, True), OPEN, False)
    best = int(np.argmin(means))
    x, floor = grid.rates, means[best]
    low, high = x[max(best - 1, 0)], x[min(best + 1, len(x) - 1)]
    near = (np.abs(x - x[best]) <= REACH) & np.isfinite(means) & (means <= floor + EXCESS * abs(floor))
    # The nearest sound neighbours always count, however steep the valley.
    for neighbour in (best - 1, best + 1):
        if 0 <= neighbour < len(x) and np.isfinite(means[neighbour]):
            near[neighbour] = True
    outside = (best == 0, best == len(x) - 1)
    one_sided = best + 1 < len(x) and not np.isfinite(means[best + 1])
    complete = grid.losses[near][:, np.isfinite(grid.losses[near]).all(axis=0)]
    if near.sum() < 3:
        return _Valley(np.full(complete.shape[1], x[best]), Noise(0.0, 0), outside, (low, high), one_sided)
    # From five points on a cubic, which a valley that is steeper on one side does not lead astray.
    degree = 3 if near.sum() >= 5 else 2
    fits = np.polynomial.polynomial.polyfit(x[near] - x[best], complete, degree)  # (degree + 1, S)
    vertices = x[best] + np.clip(_lowest(fits), low - x[best], high - x[best])
    misfit = _misfit(x[near] - x[best], complete.mean(axis=1), fits.mean(axis=1))
    return _Valley(vertices, misfit, outside, (low, high), one_sided)


def _lowest(coefficients: np.ndarray) -> np.ndarray:
    """Where polynomials of degree 2 or 3 have their minimum; 0 where they have none. `coefficients` (degree + 1, S)."""
    c1, c2, c3 = coefficients[1], coefficients[2], coefficients[3] if len(coefficients) > 3 else 0.0
    discriminant = c2**2 - 3 * c3 * c1
    denominator = c2 + np.sqrt(np.maximum(discriminant, 0))
    sound = (discriminant > 0) & (denominator > 0)
    return np.where(sound, -c1 / np.where(sound, denominator, 1.0), 0.0)


def _misfit(x: np.ndarray, y: np.ndarray, coefficients: np.ndarray) -> Noise:
    """The variance that the residuals of a polynomial make of the place of its minimum, by the delta method."""
    degree = len(coefficients) - 1
    df = len(x) - degree - 1
    lowest = float(_lowest(coefficients[:, None])[0])
    powers = np.arange(degree + 1)
    slope_of_terms = powers * lowest ** np.maximum(powers - 1, 0)
    bend = float(np.polynomial.Polynomial(coefficients).deriv(2)(lowest))
    if df == 0 or bend <= 0:
        return Noise(0.0, 0)
    design = np.vander(x, degree + 1, increasing=True)
    residual = y - design @ coefficients
    covariance = np.linalg.inv(design.T @ design) * float(residual @ residual) / df
    return Noise(float(slope_of_terms @ covariance @ slope_of_terms) / bend**2, df)


def _vertex_noises(valleys: Sequence[_Valley]) -> list[Noise]:
    """The noise of each size's optimum: the seeds', pooled over sizes, and the misfit, likewise."""
    seeds = pooled_noise([valley.vertices for valley in valleys])
    df = sum(valley.misfit.df for valley in valleys)
    misfit = sum(valley.misfit.variance * valley.misfit.df for valley in valleys) / df if df else 0.0
    noises = []
    for valley in valleys:
        noise = seeds.scaled(1 / max(len(valley.vertices), 1))
        noises.append(noise + Noise(misfit, df) if df else noise)
    return noises


def _optimum_interval(valley: _Valley, noise: Noise, confidence: float) -> Interval:
    low, high = noise.interval(valley.centre, confidence)
    if valley.one_sided:
        # Between the best point and the cliff nothing was measured: the optimum may be anywhere there.
        high = max(high, valley.bracket[1])
    below, above = valley.outside
    return (-np.inf if below else low, np.inf if above else high)


def _edges(
    sizes: Sequence[int], grids: Sequence[_Grid], confidence: float
) -> tuple[list[float], list[Interval], Trend]:
    """log₂ of the end of stability per size, its interval, and its trend."""
    brackets = [_edge_brackets(grid) for grid in grids]
    middles = [b.mean(axis=1) for b in brackets]
    seeds = pooled_noise([m[np.isfinite(m)] for m in middles])
    edges, intervals, noises = [], [], []
    for bracket, middle in zip(brackets, middles, strict=True):
        noise = seeds.scaled(1 / len(middle))
        stable, unstable = bracket.mean(axis=0)
        edges.append(float(middle.mean()) if np.isfinite(middle).all() else float(stable))
        width = unstable - stable
        low, high = noise.interval(0.0, confidence) if np.isfinite(width) else (0.0, 0.0)
        intervals.append((float(stable + low), float(unstable + high)))
        # The threshold is anywhere within its bracket: uniform, of variance width²/12.
        noises.append(noise + Noise(width**2 / 12, max(noise.df, 1)) if np.isfinite(width) else Noise(np.inf, 0))
    known = all(np.isfinite(noise.variance) for noise in noises)
    return edges, intervals, trend(sizes, edges, noises) if known else Trend(np.nan, Noise(0.0, 0))


def _edge_brackets(grid: _Grid) -> np.ndarray:
    """(S, 2) per seed: log₂ of the last learning rate before the first that diverged, and of that one."""
    ladder = np.concatenate([[-np.inf], grid.rates, [np.inf]])
    diverged = np.vstack([grid.losses == np.inf, np.ones(grid.losses.shape[1], bool)])
    first = diverged.argmax(axis=0)
    return np.stack([ladder[first], ladder[first + 1]], axis=1)


def _regret(grid: _Grid, rate: float) -> float:
    """The largest size's mean loss at log₂ learning rate `rate`, above its lowest; inf beyond the cliff."""
    finite = np.isfinite(grid.means)
    x, y = grid.rates[finite], grid.means[finite]
    if len(x) == 0 or not np.isfinite(rate):
        return np.nan
    if len(x) == 1 or not x[0] <= rate <= x[-1]:
        return np.inf if rate > x[-1] and not finite[-1] else np.nan
    curve = PchipInterpolator(x, y)
    return float(curve(rate) - curve(np.linspace(x[0], x[-1], 1001)).min())
