"""Self-stabilisation as it is seen in a curve: how long the sharpness stays above its threshold, and how often."""

from typing import Any, NamedTuple

import numpy as np

from sharplab.core.arguments import checked, positive


class EdgeCycles(NamedTuple):
    """The crossings of a threshold by the straight lines through a curve; inf or nan for what does not occur."""

    crossing: float  # the step of the first crossing from below; inf without
    above: float  # the steps from there to the first return; inf without, nan without a crossing
    period: float  # the median of the steps from one crossing from below to the next; nan of fewer than two
    cycles: int  # how many such periods


@checked(threshold=positive)
def edge_cycles(times: Any, sharpness: Any, threshold: float) -> EdgeCycles:
    """The time above a threshold after the first crossing, and the period of the oscillation about it.

    Records must lie closer than the oscillation: some ten of them to a period. What is above at first has not crossed.

    Args:
        times: (n,), ascending: steps, or any time in whose unit the answers then are.
        sharpness: (n,); values that are not finite, as of a run that diverged, are left out.

    Raises:
        ValueError: for times and values of different numbers, and times that do not ascend.

    >>> steps = np.arange(0, 41)
    >>> edge_cycles(steps, 2 - np.cos(steps * np.pi / 10), 2.0)
    EdgeCycles(crossing=5.0, above=10.0, period=20.0, cycles=1)
    """
    at, values = np.asarray(times, float), np.asarray(sharpness, float) / threshold - 1
    if at.shape != values.shape or at.ndim != 1 or len(at) < 2 or not (np.diff(at) > 0).all():
        raise ValueError("times must ascend, two or more, and sharpness be as many values.")
    at, values = at[np.isfinite(values)], values[np.isfinite(values)]
    change = np.diff((values >= 0).astype(int))
    up, down = (_zeros(at, values, np.flatnonzero(change == sign)) for sign in (1, -1))
    if not len(up):
        return EdgeCycles(np.inf, np.nan, np.nan, 0)
    returns = down[down >= up[0]]  # at once where the curve only touches the threshold
    gaps = np.diff(up)
    above = float(returns[0] - up[0]) if len(returns) else np.inf
    return EdgeCycles(float(up[0]), above, float(np.median(gaps)) if len(gaps) else np.nan, len(gaps))


def _zeros(at: np.ndarray, values: np.ndarray, i: np.ndarray) -> np.ndarray:
    """Where the lines from these values to the next ones are 0."""
    return at[i] - values[i] * (at[i + 1] - at[i]) / (values[i + 1] - values[i])
