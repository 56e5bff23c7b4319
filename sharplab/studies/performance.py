"""Performance profiles: how often a method is nearly as soon at its target as the best, over many workloads."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, several
from sharplab.core.statistics import with_unseen

DRAWS = 1000


@dataclass(frozen=True)
class PerformanceProfile:
    """The profile of each method, with 95 % intervals over the seeds of these workloads.

    Attributes:
        shares: method, tau, share, low, high: the share of the workloads' seeds on which its time is at most tau times
            the least of all methods with the same seed.
        scores: by method, score, low, high: the mean of the share over tau from 1 to the largest, (methods,).
        redrawn: the scores with seeds drawn anew, (draws, methods); None with one seed, where intervals are open.
        trials: workloads and seeds.
    """

    shares: pd.DataFrame
    scores: pd.DataFrame
    redrawn: np.ndarray | None
    trials: tuple[int, int]

    def less(self, first: str, second: str, confidence: float = 0.95) -> Measured:
        """The score of the first method less that of the second, on the same seeds; open with fewer than three.

        As those of scores, intervals hold what an event would make of them that no run shows.
        """
        value = float(self.scores["score"][first] - self.scores["score"][second])
        if self.redrawn is None or self.trials[1] < 3:
            return Measured(value, -np.inf, np.inf)
        i, j = (self.scores.index.get_loc(name) for name in (first, second))
        drawn = self.redrawn[:, i] - self.redrawn[:, j]
        ends = _stretched(np.array(value), drawn, self.trials, confidence)
        low, high = with_unseen(np.array(value), ends, (-1.0, 1.0), math.prod(self.trials), confidence)
        return Measured(value, float(low), float(high))


@checked(taus=several)
def performance_profile(times: Mapping[str, np.ndarray], taus: Sequence[float]) -> PerformanceProfile:
    """The share of workloads on which each method's time to target is within tau of the best.

    A method that does not reach a target is within no tau of the best, and where none does, no method is. Runs of one
    seed are compared with each other. For the intervals the seeds of each workload are drawn anew, one fewer than there
    are, which makes the variance of a mean right, and their distances from the value are stretched by what few seeds
    leave unknown (t for their degrees of freedom). Those of shares hold at least the interval of Clopper and Pearson,
    and those of scores what an event would make of them that is so rare that no run shows it. All are about these
    workloads, not about others like them.

    Args:
        times: by method, the time to the target of each workload and seed, (workloads, seeds), inf where it was not
            reached; positive.
        taus: ascending, from 1 on, two or more; scores are taken up to the last.

    Raises:
        ValueError: for times of other shapes or signs, and other taus.

    Source: Dolan and Moré, Mathematical Programming 91, 2002; the score is that of Dahl et al., arXiv 2306.07179.

    >>> profile = performance_profile({"a": [[10.0], [30.0]], "b": [[20.0], [np.inf]]}, [1.0, 2.0, 3.0])
    >>> profile.shares.pivot(index="method", columns="tau", values="share").loc["b"].tolist()
    [0.0, 0.5, 0.5]
    >>> profile.scores["score"].tolist()  # b is there for half of the workloads over half of the taus
    [1.0, 0.25]
    """
    try:
        given = {name: np.asarray(each, float) for name, each in times.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"times must be arrays of numbers by method: {error}.") from error
    shapes = {each.shape for each in given.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or not next(iter(given.values())).size:
        raise ValueError(f"times must have one shape (workloads, seeds) for all methods, not {sorted(shapes)}.")
    table = np.stack(list(given.values()))
    if not (table > 0).all():
        raise ValueError("times must be positive, inf where the target was not reached.")
    grid = np.asarray(taus, float)
    if grid.ndim != 1 or len(grid) < 2 or grid[0] < 1 or not (np.diff(grid) > 0).all() or not np.isfinite(grid[-1]):
        raise ValueError(f"taus must ascend from 1 or more, two at least, not {list(taus)}.")
    best = table.min(axis=0)
    ratios = np.divide(table, best, out=np.full_like(table, np.inf), where=np.isfinite(best))
    within = ratios[..., None] <= grid * (1 + 1e-12)  # (methods, workloads, seeds, taus)
    score = np.clip((grid[-1] - ratios) / (grid[-1] - 1), 0, 1)  # the integral over tau, exactly
    names, seeds = list(given), table.shape[2]
    shares, scores = within.mean(axis=(1, 2)), score.mean(axis=(1, 2))
    trials = table.shape[1], seeds
    low, high, redrawn = np.zeros_like(shares), np.ones_like(shares), None
    bottom, top = np.zeros_like(scores), np.ones_like(scores)
    if seeds > 1:
        weights = np.random.default_rng(0).multinomial(seeds - 1, [1 / seeds] * seeds, (DRAWS, table.shape[1]))
        weights = weights / (seeds - 1) / table.shape[1]
        low, high = _stretched(shares, np.einsum("dws,mwst->dmt", weights, within), trials)
        exact = _binomial(within.sum(axis=(1, 2)), table[0].size)
        low, high = np.minimum(low, exact[0]).clip(0), np.maximum(high, exact[1]).clip(None, 1)
        redrawn = np.einsum("dws,mws->dm", weights, score)
        bottom, top = with_unseen(scores, _stretched(scores, redrawn, trials), (0.0, 1.0), table[0].size, 0.95)
    long = pd.DataFrame(
        {
            "method": np.repeat(names, len(grid)),
            "tau": np.tile(grid, len(names)),
            "share": shares.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
        }
    )
    index = pd.Index(names, name="method")
    found = pd.DataFrame({"score": scores, "low": bottom, "high": top}, index=index)
    return PerformanceProfile(long, found, redrawn, trials)


def _stretched(
    value: np.ndarray, drawn: np.ndarray, trials: tuple[int, int], confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the interval about a mean over workloads and seeds, from what it is with seeds drawn anew."""
    workloads, seeds = trials
    tail = (1 - confidence) / 2
    stretch = stats.t.isf(tail, workloads * (seeds - 1)) / stats.norm.isf(tail)
    low, high = value + stretch * np.quantile(drawn - value, [tail, 1 - tail], axis=0)
    return low, high


def _binomial(hits: np.ndarray, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of Clopper and Pearson for a probability, of as many hits as there are."""
    low = stats.beta.ppf(0.025, np.maximum(hits, 1), trials - hits + 1)
    high = stats.beta.isf(0.025, hits + 1, np.maximum(trials - hits, 1))
    return np.where(hits > 0, low, 0.0), np.where(hits < trials, high, 1.0)
