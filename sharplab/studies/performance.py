"""Performance profiles: how often a method is nearly as soon at its target as the best, over many workloads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, several

DRAWS = 1000


@dataclass(frozen=True)
class PerformanceProfile:
    """The profile of each method, with 95 % intervals over the seeds of these workloads.

    Attributes:
        shares: method, tau, share, low, high: the share of the workloads' seeds on which its time is at most tau times
            the least of all methods with the same seed.
        scores: by method, score, low, high: the mean of the share over tau from 1 to the largest, (methods,).
        redrawn: the scores with seeds drawn anew, (draws, methods); None with one seed, where intervals are open.
    """

    shares: pd.DataFrame
    scores: pd.DataFrame
    redrawn: np.ndarray | None

    def less(self, first: str, second: str, confidence: float = 0.95) -> Measured:
        """The score of the first method less that of the second, on the same seeds."""
        value = float(self.scores["score"][first] - self.scores["score"][second])
        if self.redrawn is None:
            return Measured(value, -np.inf, np.inf)
        i, j = (self.scores.index.get_loc(name) for name in (first, second))
        return Measured(value, *_ends(self.redrawn[:, i] - self.redrawn[:, j], confidence))


@checked(taus=several)
def performance_profile(times: Mapping[str, np.ndarray], taus: Sequence[float]) -> PerformanceProfile:
    """The share of workloads on which each method's time to target is within tau of the best.

    A method that does not reach a target is within no tau of the best, and where none does, no method is. Runs of one
    seed are compared with each other. For the intervals the seeds of each workload are drawn anew, one fewer than there
    are, which makes the variance of a mean right; they are about these workloads, not about others like them.

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
    low, high, redrawn = np.zeros_like(shares), np.ones_like(shares), None
    ends = np.tile([0.0, 1.0], (len(names), 1))
    if seeds > 1:
        weights = np.random.default_rng(0).multinomial(seeds - 1, [1 / seeds] * seeds, (DRAWS, table.shape[1]))
        weights = weights / (seeds - 1) / table.shape[1]
        drawn = np.einsum("dws,mwst->dmt", weights, within)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        redrawn = np.einsum("dws,mws->dm", weights, score)
        ends = np.array([_ends(redrawn[:, i], 0.95) for i in range(len(names))])
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
    found = pd.DataFrame({"score": scores, "low": ends[:, 0], "high": ends[:, 1]}, index=index)
    return PerformanceProfile(long, found, redrawn)


def _ends(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
