"""What fits into a number of minutes: how many widths, and how long they train."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

FEWEST_WIDTHS = 3  # fewer show no scatter about the trend
SHORTEST = 0.25  # of the steps wished for
EXPECTED_RATES = 11  # learning rates per width: the coarse grid, what extends it, and what refines it
MARGIN = 1.2  # for what the measurement of a few steps does not see
COMPILED_ONCE_MORE = 2.0  # the sharpness's programs, in units of the time that training's took to be ready

Clock = Callable[[], float]
CLOCK: Clock = time.monotonic


@dataclass(frozen=True)
class Deadline:
    """The time, in seconds of a clock, by which all training must have ended; infinite where time is not limited."""

    time: float = inf
    clock: Clock = CLOCK

    @classmethod
    def after(cls, minutes: float | None, clock: Clock) -> "Deadline":
        """The deadline so many minutes from now, or none.

        Raises:
            ValueError: unless `minutes` is positive and finite.
        """
        if minutes is None:
            return cls(inf, clock)
        if not 0 < minutes < inf:
            raise ValueError(f"minutes must be positive and finite, not {minutes!r}.")
        return cls(clock() + 60 * minutes, clock)

    def allows(self, seconds: float) -> bool:
        """Whether something that takes so many seconds, begun now, ends in time."""
        return self.clock() + seconds <= self.time


@dataclass(frozen=True)
class Cost:
    """The seconds that one width takes on this machine.

    Attributes:
        ready: to draw and compile, once.
        step: for an update of all seeds.
        ending: for all else of a learning rate: the final losses, and to store them.
    """

    ready: float
    step: float
    ending: float

    def learning_rates(self, count: int, steps: int) -> float:
        """The seconds that training so many learning rates takes."""
        return MARGIN * count * (steps * self.step + self.ending)

    def remaining(self, steps: int) -> float:
        """The seconds of the width's whole sweep and of its sharpness, once it is ready."""
        return self.learning_rates(EXPECTED_RATES, steps) + self.sharpness(steps)

    def sharpness(self, steps: int) -> float:
        """The seconds of one more run and of the programs that record its sharpness."""
        return MARGIN * (steps * self.step + COMPILED_ONCE_MORE * self.ready)


@dataclass(frozen=True)
class Plan:
    """The widths to train, ascending, and the steps of each run; `left_out` says in words what did not fit."""

    widths: tuple[int, ...]
    steps: int
    left_out: tuple[str, ...] = ()


def plan_within(seconds: float, costs: Mapping[int, Cost], steps: int) -> Plan:
    """The plan that fits into the time, of all widths at this many steps.

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
