"""Learning-rate sweeps of a network's small widths, within a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
import pandas as pd

from sharplab.core.grid import rounded
from sharplab.studies.suggest_lr.budget import CLOCK, EXPECTED_RATES, Clock, Cost, Plan, plan_within
from sharplab.studies.suggest_lr.small_networks import SmallNetwork
from sharplab.sweep.plan import refined
from sharplab.sweep.progress import show_progress
from sharplab.sweep.session import Session, lower

REACH = 3  # octaves on either side of the optimizer's usual learning rate, at the smallest width
REACH_AFTER = 2  # octaves on either side of the narrower width's best
TIMED_STEPS = 16

Prepare = Callable[[int], SmallNetwork]


@dataclass(frozen=True)
class SweptWidths:
    """What was trained.

    Attributes:
        runs: the columns parameterization, width, learning_rate, seed, `metric` (inf where diverged), diverged.
        metric: the name of the final loss.
        networks: of the widths trained, ascending.
        steps: of each run.
        left_out: what the budget did not allow, in words.
        costs: of the widths, where time is limited.
    """

    runs: pd.DataFrame
    metric: str
    networks: tuple[SmallNetwork, ...]
    steps: int
    left_out: tuple[str, ...]
    costs: Mapping[int, Cost]


def sweep_widths(
    prepare: Prepare,
    widths: Sequence[int],
    *,
    usual: float | None,
    learning_rates: Sequence[float],
    steps: int,
    metric: str,
    deadline: float = np.inf,
    clock: Clock = CLOCK,
) -> SweptWidths:
    """Sweep each width, the narrowest first.

    The grid, a rule that depends on the final losses alone: `learning_rates`, or without them octaves within 3 of the
    `usual` one, and at the wider widths octaves within 2 of the best of the width before. While the best is at an end
    of the grid, one more beyond it, six at most; then the geometric mean of the best and each neighbour until both lie
    within √2 (`sharplab.sweep.plan.wanted_runs`).

    With a deadline, a few steps of each width are timed first, and what fits is planned (`plan_within`); further
    learning rates and wider widths are begun only if they are expected to end in time.

    Raises:
        ValueError: where the time is too short for three widths.
    """
    networks, costs, plan = _plan(prepare, widths, learning_rates or (usual or 1.0,), steps, deadline, clock)
    left_out, rows = list(plan.left_out), []
    trained: list[SmallNetwork] = []
    progress = _Progress(networks[0].seeds)
    progress.expect(len(plan.widths))
    own = tuple(learning_rates) or _octaves(usual or 1.0, REACH)
    with show_progress(lambda: (progress.session, ())):
        for network in networks[: len(plan.widths)]:
            cost = costs.get(network.width)

            def in_time(count: int, cost: Cost | None = cost) -> bool:
                return cost is None or clock() + cost.learning_rates(count, plan.steps) <= deadline

            if trained and not in_time(len(own)):
                left_out.append(f"width {network.width} was left out for lack of time")
                break
            found = _search(partial(_train, network, plan.steps, progress), own, in_time)
            trained.append(network)
            progress.expect(len(plan.widths) - len(trained))
            rows += [(network.width, rate, seed, x) for rate, losses in found.items() for seed, x in enumerate(losses)]
            best = min(found, key=lambda rate: (float(found[rate].mean()), rate))
            own = tuple(learning_rates) or _octaves(best, REACH_AFTER)
    runs = pd.DataFrame(rows, columns=["width", "learning_rate", "seed", metric])
    runs = runs.assign(diverged=~np.isfinite(runs[metric])).sort_values(["width", "learning_rate", "seed"])
    runs.insert(0, "parameterization", "mup")
    return SweptWidths(runs.reset_index(drop=True), metric, tuple(trained), plan.steps, tuple(left_out), costs)


def _plan(
    prepare: Prepare, widths: Sequence[int], rates: Sequence[float], steps: int, deadline: float, clock: Clock
) -> tuple[list[SmallNetwork], dict[int, Cost], Plan]:
    """The networks, what they take, and what of them to train; without a deadline nothing is timed."""
    ordered = sorted(widths)
    if not np.isfinite(deadline):
        return [prepare(width) for width in ordered], {}, Plan(tuple(ordered), steps)
    networks: list[SmallNetwork] = []
    costs: dict[int, Cost] = {}
    for width in ordered:
        began = clock()
        networks.append(prepare(width))
        costs[width] = _timed(networks[-1], min(rates), steps, began, clock)
    return networks, costs, plan_within(deadline - clock(), costs, steps)


def _timed(network: SmallNetwork, rate: float, steps: int, began: float, clock: Clock) -> Cost:
    """By a few steps at a learning rate so small that none diverges."""
    count = min(TIMED_STEPS, steps)
    runs = network.advance(network.start, rate / 2**REACH, 0, 1)
    network.final_loss(runs)
    ready = clock()
    runs = jax.block_until_ready(network.advance(network.start, rate / 2**REACH, 0, count))
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
    """learning rate → losses, of a grid that is extended and refined as long as there is time."""
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
    """How many learning rates were trained, of those that are expected."""

    def __init__(self, seeds: int) -> None:
        self.seeds, self.session = seeds, Session("")

    def expect(self, widths: int) -> None:
        """So many widths more."""
        groups = self.session.groups_done + widths * EXPECTED_RATES
        self.session = replace(self.session, groups=groups, runs=groups * self.seeds, cost=float(groups))

    def ran(self, losses: np.ndarray) -> None:
        """One more learning rate."""
        done, best = self.session.groups_done + 1, float(losses.min())
        self.session = replace(
            self.session,
            stored=done * self.seeds,
            groups_done=done,
            cost_done=float(done),
            best_loss=lower(self.session.best_loss, best if np.isfinite(best) else None),
        )
