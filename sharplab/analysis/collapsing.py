"""The collapse of loss curves: divided by their late loss they lie on one another where sizes are scaled alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd

from sharplab.analysis.curves import LATE_FROM, curves_by_name
from sharplab.analysis.spread import noise_among, p_value, spread_and_noise, true_spread
from sharplab.analysis.trend import VARIANCE_FLOOR, Measured, Noise
from sharplab.core.arguments import checked, text
from sharplab.records import Records, some_records

T = TypeVar("T")
Verdict = Literal["collapse", "no collapse", "inconclusive"]
FEWEST_SEEDS = 3  # that tell from which share on curves lie apart
START = 0.1  # share of the run before which curves still remember their common start


@dataclass(frozen=True)
class Collapse:
    """The agreement of loss curves of one parameterization over sizes, each divided by its late loss; in octaves.

    Attributes:
        shares: of the run, at the records after its start, (T,).
        curves: by size, log₂ of the loss over the run's late loss, (seeds, T).
        spread, noise: the standard deviation over sizes of the seeds' mean, and the one that seeds alone give, (T,).
        departure: the root mean square over shares from 0.1 to 0.75 of the true spread, without the seeds' noise.
        seed_noise: the root mean square there of the standard deviation of single seeds of one size.
        departs_from: the first share at which the spread exceeds the noise; None if nowhere, and with fewer than three
            seeds at a size, which often agree by chance.
        left_out: runs without a positive loss at every record (diverged), or without records for long.
        confidence: of the interval, and of `departs_from` over all shares together.
    """

    name: str
    metric: str
    over: str
    shares: np.ndarray
    curves: Mapping[float, np.ndarray]
    spread: np.ndarray
    noise: np.ndarray
    departure: Measured
    seed_noise: float
    departs_from: float | None
    left_out: int
    confidence: float

    @property
    def sizes(self) -> tuple[float, ...]:
        """The sizes, ascending."""
        return tuple(self.curves)

    @property
    def verdict(self) -> Verdict:
        """The verdict of an equivalence test against the seeds' noise, see `collapse`."""
        if self.departure.high <= self.seed_noise:
            return "collapse"
        return "no collapse" if self.departure.low > self.seed_noise else "inconclusive"

    def table(self) -> pd.DataFrame:
        """The spread over sizes and the seeds' share in it, one row per share of the run."""
        return pd.DataFrame({"share": self.shares, "spread": self.spread, "noise": self.noise})

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.metric} over {self.over} {', '.join(map(str, self.sizes))}: {self.verdict}",
            f"  divided by their late loss, curves lie apart by {self.departure:.2g} octaves; single seeds by "
            f"{self.seed_noise:.2g}",
        ]
        if self.departs_from is not None:
            lines.append(f"  first beyond the seeds' noise at {self.departs_from:.0%} of the run")
        if self.left_out:
            lines.append(f"  without {self.left_out} runs that diverged or lack records")
        return "\n".join(lines)


@checked(records=some_records, metric=text)
def collapse(
    records: Records, *, over: str = "width", metric: str = "train_loss", confidence: float = 0.95
) -> dict[str, Collapse]:
    """The collapse of loss curves over sizes: a `Collapse` per parameterization.

    Each run's loss is divided by its late loss, its geometric mean over the last quarter of the run, and set against
    the share of the run: where hyperparameters are scaled right such curves lie on one another below the noise of
    seeds, and their departure tells of wrong scaling early in a run (arXiv 2507.02119, 2509.25087).

    The departure is √(mean over shares and sizes of the squared distance of the sizes' true curves from their mean), a
    standard deviation in octaves. The mean square between sizes, less what seeds give it, tells it; its interval
    inverts a non-central F, whose degrees of freedom count as many independent shares as the seeds' covariance along
    the run has, (tr Σ)²/tr Σ² (Box 1954). Each size has the noise of its own seeds. The verdict compares it with the
    standard deviation of single seeds: "collapse" where its interval lies below that, "no collapse" where above, else
    "inconclusive", as with one seed or one size. Fewer seeds thus widen the interval, and do not move the bound.

    Args:
        records: with curves, at one learning rate at each size: one that is carried, or each size's own. Sizes may have
            been trained for different numbers of steps.
        metric: a loss among the curves' columns, positive.

    Raises:
        ValueError: for missing curves or columns, mixed settings, several learning rates at a size, or two curves of
            one size and seed.

    >>> width, seed, step = (grid.ravel() for grid in np.meshgrid([16, 32, 64], range(4), range(0, 65, 4)))
    >>> noise = 0.01 * np.random.default_rng(0).normal(size=step.size)
    >>> keys = {"width": width, "seed": seed, "learning_rate": 0.5}
    >>> curves = pd.DataFrame(keys | {"step": step, "train_loss": (1 + 1 / width) * np.exp(noise) / (1 + step / 9)})
    >>> collapse(Records(pd.DataFrame(keys), curves))["runs"].verdict
    'collapse'
    """
    return {
        name: _collapse(name, table, metric, over, confidence)
        for name, table in curves_by_name(records, metric, over, apart_from=["steps"])
    }


def _collapse(name: str, curves: pd.DataFrame, metric: str, over: str, confidence: float) -> Collapse:
    shares, found, left_out = _normalised(name, curves, metric, over)
    by_share = [[curve[:, i] for curve in found.values()] for i in range(len(shares))]
    spread, noise = np.array([spread_and_noise(groups) for groups in by_share]).T
    compared = (shares >= START) & (shares < LATE_FROM)
    tests = np.array([p_value(groups) for groups, used in zip(by_share, compared, strict=True) if used])
    enough = min(map(len, found.values())) >= FEWEST_SEEDS
    surely = np.flatnonzero(enough & (tests < (1 - confidence) / max(len(tests), 1)))
    departure, seed_noise = _departure([curve[:, compared] for curve in found.values()], confidence)
    return Collapse(
        name=name,
        metric=metric,
        over=over,
        shares=shares,
        curves=found,
        spread=spread,
        noise=noise,
        departure=departure,
        seed_noise=seed_noise,
        departs_from=float(shares[compared][surely[0]]) if len(surely) else None,
        left_out=left_out,
        confidence=confidence,
    )


def _normalised(
    name: str, curves: pd.DataFrame, metric: str, over: str
) -> tuple[np.ndarray, dict[float, np.ndarray], int]:
    """The shares of the run, log₂ of the loss over the late one by size, (seeds, T), and how many runs were left out.

    Shares are those of the size with the fewest records; other curves are read off between their own. A run is left out
    that lacks a positive loss at a record, or has no record for twice as long as those shares lie apart.
    """
    if curves.duplicated([over, "seed", "step", "learning_rate"]).any():
        raise ValueError(f"{name} has two curves of one {over} and seed: keep one, as by records.select(...).")
    if curves.groupby(over)["learning_rate"].nunique().max() > 1:
        raise ValueError(f"{name} has several learning_rate at one {over}: choose one, as in records.select(...).")
    runs = {
        size: [
            (run["step"].to_numpy(float), run[metric].to_numpy(float, na_value=np.nan))
            for _, run in table.sort_values("step").groupby("seed", dropna=False)
        ]
        for size, table in curves.groupby(over)
    }
    # A run that was resumed may have a record more, and one that diverged ends early: the middle one is as most are.
    ends = {size: max(_middle([steps[-1] for steps, _ in of]), 1.0) for size, of in runs.items()}
    grids = [steps / ends[size] for size, of in runs.items() for steps, _ in [_middle(of, key=lambda run: len(run[0]))]]
    shares = min(grids, key=len)
    shares = shares[(shares > 0) & (shares <= 1)]
    if not (shares < LATE_FROM).any():
        raise ValueError(f"{name} has curves of {metric} without a record between the start and the last quarter.")
    widest = 2 * np.diff(shares, prepend=0.0, append=1.0).max()
    found, left_out = {}, 0
    for size, of in runs.items():
        octaves = []
        for steps, losses in of:
            own = steps / ends[size]
            whole = np.diff(np.minimum(own, 1.0), prepend=0.0, append=1.0).max() <= widest
            if whole and ((losses > 0) & (losses < np.inf)).all():
                octaves.append(np.interp(shares, own, np.log2(losses)))
        left_out += len(of) - len(octaves)
        here = np.array(octaves).reshape(-1, len(shares))
        key = int(size) if float(size).is_integer() else float(size)
        found[key] = here - here[:, shares >= LATE_FROM].mean(axis=1, keepdims=True)
    return shares, found, left_out


def _middle(values: Sequence[T], key: Callable[[T], Any] | None = None) -> T:
    """The middle one, of two the larger."""
    return sorted(values, key=key)[len(values) // 2]  # type: ignore[type-var, arg-type]


def _departure(groups: list[np.ndarray], confidence: float) -> tuple[Measured, float]:
    """The true spread of the sizes' curves, (seeds, T) each, with its interval, and the spread of single seeds."""
    seeds = np.array([len(group) for group in groups])
    df, sizes = int(np.sum(seeds - 1)), len(groups)
    if sizes < 2 or not seeds.all() or df < 2 or not groups[0].shape[1]:
        return Measured(np.nan, 0.0, np.inf), np.nan
    residuals = [group - group.mean(axis=0) for group in groups]
    records = groups[0].shape[1]
    squares = [float(np.sum(each**2)) / records for each in residuals]
    shared = Noise(sum(squares) / df, df)
    own = [Noise(square / (n - 1), n - 1) if n > 1 else shared for square, n in zip(squares, seeds, strict=True)]
    noise, free = noise_among([noise.scaled(1 / n) for noise, n in zip(own, seeds, strict=True)])
    between = np.var([group.mean(axis=0) for group in groups], axis=0, ddof=1).mean()
    independent = _independent(residuals, own, df) if shared.variance else 1.0
    departure = true_spread(float(between), noise.variance, free * independent, noise.df * independent, confidence)
    return departure, float(np.sqrt(shared.variance))


def _independent(residuals: list[np.ndarray], own: list[Noise], df: int) -> float:
    """As many independent records as seeds' covariance along the run, alike but for a factor at each size, has."""
    alike = np.concatenate([each / np.sqrt(noise.variance or 1.0) for each, noise in zip(residuals, own, strict=True)])
    records = alike.shape[1]
    trace = float(np.sum(alike**2)) / df
    squares = float(np.sum((alike @ alike.T) ** 2)) / df**2
    # Without bias for normal curves: tr S² of few seeds is too large.
    of_square = df**2 / ((df - 1) * (df + 2)) * (squares - trace**2 / df)
    return float(np.clip(trace**2 / max(of_square, VARIANCE_FLOOR * trace**2), 1.0, records))
