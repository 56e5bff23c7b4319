"""What fits into so many minutes: how many widths, and how long they train."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

FEWEST_WIDTHS = 3  # fewer show no scatter about the trend
SHORTEST = 0.25  # of the steps wished for
EXPECTED_RATES = 11  # learning rates per width: the coarse grid, what extends it, and what refines it
MARGIN = 1.2  # for what the measurement of a few steps does not see
COMPILED_ONCE_MORE = 2.0  # the sharpness's programs, in units of the time that training's took to be ready

Clock = Callable[[], float]
CLOCK: Clock = time.monotonic


@dataclass(frozen=True)
class Cost:
    """What one width takes on this machine, in seconds.

    Attributes:
        ready: to draw and compile, once.
        step: an update of all seeds.
        ending: the final loss of all seeds.
    """

    ready: float
    step: float
    ending: float

    def learning_rates(self, count: int, steps: int) -> float:
        """To train so many learning rates."""
        return MARGIN * count * (steps * self.step + self.ending)

    def remaining(self, steps: int) -> float:
        """All of a width's sweep, and its sharpness, once it is ready."""
        return self.learning_rates(EXPECTED_RATES, steps) + self.sharpness(steps)

    def sharpness(self, steps: int) -> float:
        """One more run, and the programs that record it."""
        return MARGIN * (steps * self.step + COMPILED_ONCE_MORE * self.ready)


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        widths: ascending.
        steps: of each run.
        left_out: what did not fit, in words.
    """

    widths: tuple[int, ...]
    steps: int
    left_out: tuple[str, ...] = ()


def plan_within(seconds: float, costs: Mapping[int, Cost], steps: int) -> Plan:
    """What fits, of all widths at this many steps.

    While it does not fit, the widest width is left out, as long as three remain; then runs are shortened, to a quarter
    at least.

    Raises:
        ValueError: where even that takes longer, with the minutes that it would take.

    >>> cost = Cost(ready=0.0, step=0.01, ending=0.0)  # 11 learning rates and one more of 100 steps: 14.4 s with margin
    >>> plan_within(50.0, {16: cost, 32: cost, 64: cost, 128: cost}, steps=100).widths
    (16, 32, 64)
    >>> plan_within(30.0, {16: cost, 32: cost, 64: cost}, steps=100).steps
    69
    """
    widths, left_out = sorted(costs), []

    def taken(steps: int) -> float:
        return sum(costs[width].remaining(steps) for width in widths)

    while len(widths) > FEWEST_WIDTHS and taken(steps) > seconds:
        left_out.append(f"width {widths.pop()} was left out for lack of time")
    if taken(steps) <= seconds:
        return Plan(tuple(widths), steps, tuple(left_out))
    fixed = taken(0)
    affordable = int((seconds - fixed) / ((taken(steps) - fixed) / steps))
    if affordable < SHORTEST * steps:
        least = taken(int(SHORTEST * steps)) / 60
        raise ValueError(
            f"minutes is too short: training widths {', '.join(map(str, widths))} for {int(SHORTEST * steps)} steps "
            f"alone takes about {least:.1f} minutes. Give more minutes, or fewer or smaller widths."
        )
    left_out.append(f"runs were shortened from {steps} to {affordable} steps for lack of time")
    return Plan(tuple(widths), affordable, tuple(left_out))
