"""Learning-rate sweeps of a network's small widths, within a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
import pandas as pd

from sharplab.core.grid import rounded
from sharplab.studies.suggest_lr.budget import EXPECTED_RATES, Clock, Cost, Deadline, Plan, plan_within
from sharplab.studies.suggest_lr.settings import StudySettings
from sharplab.studies.suggest_lr.small_networks import SmallNetwork
from sharplab.sweep.plan import refined
from sharplab.sweep.progress import show_progress
from sharplab.sweep.session import Session, lower

REACH = 3  # octaves on either side of the optimizer's usual learning rate, at the smallest width
REACH_AFTER = 2  # octaves on either side of the narrower width's best
TIMED_STEPS = 16

Prepare = Callable[[int], SmallNetwork]  # of the network of a width


@dataclass(frozen=True)
class SweptWidths:
    """The runs of a sweep over widths, and the networks that made them.

    Attributes:
        runs: the columns parameterization, width, learning_rate, seed, the final loss (inf where diverged), diverged.
        networks: those of the widths trained, ascending.
        steps: the steps of each run.
        left_out: what the budget did not allow, in words.
        costs: by width, where time is limited.
    """

    runs: pd.DataFrame
    networks: tuple[SmallNetwork, ...]
    steps: int
    left_out: tuple[str, ...]
    costs: Mapping[int, Cost]


def sweep_widths(prepare: Prepare, settings: StudySettings, deadline: Deadline) -> SweptWidths:
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
    networks, costs, plan = _plan(prepare, settings, deadline)
    left_out, rows = list(plan.left_out), []
    trained: list[SmallNetwork] = []
    progress = _Progress(networks[0].seeds)
    progress.expect(len(plan.widths))
    own = settings.learning_rates or _octaves(settings.usual_rate, REACH)
    with show_progress(lambda: (progress.session, ())):
        for network in networks[: len(plan.widths)]:
            cost = costs.get(network.width)

            def in_time(count: int, cost: Cost | None = cost) -> bool:
                return cost is None or deadline.allows(cost.learning_rates(count, plan.steps))

            if trained and not in_time(len(own)):
                left_out.append(f"width {network.width} was left out for lack of time")
                break
            found = _search(partial(_train, network, plan.steps, progress), own, in_time)
            trained.append(network)
            progress.expect(len(plan.widths) - len(trained))
            rows += [(network.width, rate, seed, x) for rate, losses in found.items() for seed, x in enumerate(losses)]
            best = min(found, key=lambda rate: (float(found[rate].mean()), rate))
            own = settings.learning_rates or _octaves(best, REACH_AFTER)
    runs = pd.DataFrame(rows, columns=["width", "learning_rate", "seed", settings.metric])
    runs = runs.assign(diverged=~np.isfinite(runs[settings.metric])).sort_values(["width", "learning_rate", "seed"])
    runs.insert(0, "parameterization", "mup")
    return SweptWidths(runs.reset_index(drop=True), tuple(trained), plan.steps, tuple(left_out), costs)


def _plan(
    prepare: Prepare, settings: StudySettings, deadline: Deadline
) -> tuple[list[SmallNetwork], dict[int, Cost], Plan]:
    """The networks, what they take, and what of them to train; without a deadline nothing is timed."""
    if not np.isfinite(deadline.time):
        return [prepare(width) for width in settings.widths], {}, Plan(settings.widths, settings.steps)
    networks: list[SmallNetwork] = []
    costs: dict[int, Cost] = {}
    # A learning rate so small that no run diverges.
    rate = min(settings.learning_rates or (settings.usual_rate,)) / 2**REACH
    for width in settings.widths:
        began = deadline.clock()
        networks.append(prepare(width))
        costs[width] = _timed(networks[-1], rate, settings.steps, began, deadline.clock)
    return networks, costs, plan_within(deadline.time - deadline.clock(), costs, settings.steps)


def _timed(network: SmallNetwork, rate: float, steps: int, began: float, clock: Clock) -> Cost:
    """The cost of a network whose preparation began at a time of the clock, measured by a few steps."""
    count = min(TIMED_STEPS, steps)
    runs = network.advance(network.start, rate, 1)
    network.final_loss(runs)
    ready = clock()
    runs = jax.block_until_ready(network.advance(network.start, rate, count))
    stepped = clock()
    network.final_loss(runs)
    return Cost(ready - began, (stepped - ready) / count, clock() - stepped)


def _train(network: SmallNetwork, steps: int, progress: "_Progress", rate: float) -> np.ndarray:
    losses = network.train(rate, steps)
    progress.ran(losses)
    return losses


def _search(
    train: Callable[[float], np.ndarray], own: Sequence[float], in_time: Callable[[int], bool]
) -> dict[float, np.ndarray]:
    """The losses by learning rate, of a grid that is extended and refined as long as there is time."""
    found: dict[float, np.ndarray] = {}
    wanted = list(own)
    while wanted:
        found |= {rate: train(rate) for rate in wanted}
        ordered = sorted(found)
        wanted = refined(ordered, [float(found[rate].mean()) for rate in ordered], own)
        if wanted and not in_time(len(wanted)):
            break
    return found


def _octaves(centre: float, reach: int) -> tuple[float, ...]:
    middle = round(np.log2(centre))
    return tuple(rounded(2.0**i) for i in range(middle - reach, middle + reach + 1))


class _Progress:
    """The progress of a sweep, in learning rates trained of those that are expected."""

    def __init__(self, seeds: int) -> None:
        self.seeds, self.session = seeds, Session("")

    def expect(self, widths: int) -> None:
        """Expect the learning rates of so many widths more."""
        groups = self.session.groups_done + widths * EXPECTED_RATES
        self.session = replace(self.session, groups=groups, runs=groups * self.seeds, cost=float(groups))

    def ran(self, losses: np.ndarray) -> None:
        """Count one more learning rate."""
        done, best = self.session.groups_done + 1, float(losses.min())
        self.session = replace(
            self.session,
            stored=done * self.seeds,
            groups_done=done,
            cost_done=float(done),
            best_loss=lower(self.session.best_loss, best if np.isfinite(best) else None),
        )
