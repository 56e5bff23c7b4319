"""Learning-rate sweeps of a network's small widths, within a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from sharplab.core.grid import rounded
from sharplab.studies.suggest_lr.budget import Clock, Cost, Deadline, Plan, plan_within
from sharplab.studies.suggest_lr.settings import StudySettings
from sharplab.sweep.plan import refined

REACH = 3  # octaves on either side of the optimizer's usual learning rate, at the smallest width
REACH_AFTER = 2  # octaves on either side of the narrower width's best
TIMED_STEPS = 16


class Trains(Protocol):
    """What trains the network of a width, as `sharplab.studies.suggest_lr.small_runs.SmallRuns`."""

    def final_losses(self, width: int, learning_rates: Sequence[float], steps: int) -> dict[float, np.ndarray]:
        """The seeds' final losses by learning rate, each of shape (seeds,); inf where one diverged."""

    def seconds(self, width: int, learning_rate: float, steps: int, clock: Clock) -> float:
        """What training one learning rate takes anew, by a clock."""


@dataclass(frozen=True)
class SweptWidths:
    """The runs of a sweep over widths.

    Attributes:
        runs: the columns parameterization, width, learning_rate, seed, the final loss (inf where diverged), diverged.
        steps: the steps of each run.
        left_out: what the budget did not allow, in words.
        costs: by width, where time is limited.
    """

    runs: pd.DataFrame
    steps: int
    left_out: tuple[str, ...]
    costs: Mapping[int, Cost]


def sweep_widths(trained: Trains, settings: StudySettings, deadline: Deadline) -> SweptWidths:
    """The runs of each width, the narrowest first.

    The grid depends on the final losses alone: the `learning_rates` of the settings, or without them octaves within 3
    of the usual one, and at the wider widths octaves within 2 of the best of the width before. While the best is at an
    end of the grid, one more beyond it, six at most; then the geometric mean of the best and each neighbour until both
    lie within √2 (`sharplab.sweep.plan.refined`).

    With a deadline, a few steps of each width are timed first, and what fits is planned (`plan_within`); further
    learning rates and wider widths are begun only if they are expected to end in time.

    Raises:
        ValueError: where the time is too short for three widths.
    """
    costs, plan = _plan(trained, settings, deadline)
    left_out, rows = list(plan.left_out), list[tuple[int, float, int, float]]()
    own = settings.learning_rates or _octaves(settings.usual_rate, REACH)
    for width in plan.widths:
        cost = costs.get(width)

        def in_time(count: int, cost: Cost | None = cost) -> bool:
            return cost is None or deadline.allows(cost.learning_rates(count, plan.steps))

        def train(learning_rates: Sequence[float], width: int = width) -> dict[float, np.ndarray]:
            return trained.final_losses(width, learning_rates, plan.steps)

        if rows and not in_time(len(own)):
            left_out.append(f"width {width} was left out for lack of time")
            break
        found = _search(train, own, in_time)
        rows += [(width, rate, seed, x) for rate, losses in found.items() for seed, x in enumerate(losses)]
        best = min(found, key=lambda rate: (float(found[rate].mean()), rate))
        own = settings.learning_rates or _octaves(best, REACH_AFTER)
    runs = pd.DataFrame(rows, columns=["width", "learning_rate", "seed", settings.metric])
    runs = runs.assign(diverged=~np.isfinite(runs[settings.metric])).sort_values(["width", "learning_rate", "seed"])
    runs.insert(0, "parameterization", "mup")
    return SweptWidths(runs.reset_index(drop=True), plan.steps, tuple(left_out), costs)


def _plan(trained: Trains, settings: StudySettings, deadline: Deadline) -> tuple[dict[int, Cost], Plan]:
    """What the widths take, and what of them to train; without a deadline nothing is timed."""
    if not np.isfinite(deadline.time):
        return {}, Plan(settings.widths, settings.steps)
    # A learning rate so small that no run diverges.
    rate = min(settings.learning_rates or (settings.usual_rate,)) / 2**REACH
    costs = {width: _cost(trained, width, rate, settings.steps, deadline.clock) for width in settings.widths}
    return costs, plan_within(deadline.time - deadline.clock(), costs, settings.steps)


def _cost(trained: Trains, width: int, rate: float, steps: int, clock: Clock) -> Cost:
    """The cost of a width, measured by a few steps."""
    count = min(TIMED_STEPS, steps - 1)
    ready, one, several = (trained.seconds(width, rate, many, clock) for many in (1, 1, 1 + count))
    return Cost(ready, max(0.0, several - one) / count, one)


def _search(
    train: Callable[[Sequence[float]], dict[float, np.ndarray]], own: Sequence[float], in_time: Callable[[int], bool]
) -> dict[float, np.ndarray]:
    """The losses by learning rate, of a grid that is extended and refined as long as there is time."""
    found: dict[float, np.ndarray] = {}
    wanted = list(own)
    while wanted:
        found |= train(wanted)
        ordered = sorted(found)
        wanted = refined(ordered, [found[rate].tolist() for rate in ordered], own)
        if wanted and not in_time(len(wanted)):
            break
    return found


def _octaves(centre: float, reach: int) -> tuple[float, ...]:
    middle = round(np.log2(centre))
    return tuple(rounded(2.0**i) for i in range(middle - reach, middle + reach + 1))
