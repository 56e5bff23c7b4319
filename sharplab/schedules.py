"""Learning-rate schedules, in units of the learning rate that a run is given."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import optax

from sharplab.core.imports import find_function

# Name → (steps → schedule), None for a factor of 1.
SCHEDULES: Mapping[str, Callable[[int], optax.Schedule] | None] = {
    "constant": None,
    "linear": lambda steps: optax.linear_schedule(1.0, 0.0, steps),
    "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
}


@lru_cache(maxsize=64)
def find_schedule(name: str, steps: int) -> optax.Schedule | None:
    """The schedule step → factor in front of the learning rate, one object per name and steps; None for a constant one.

    "linear" and "cosine" begin at 1 and would reach 0 after `steps`. One's own is "module:make@tag", a function of the
    number of steps.

    Raises:
        ValueError: for an unknown name, and for a function that makes something else than a schedule.

    >>> [float(find_schedule("linear", 4)(step)) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    make = find_function("schedule", name, SCHEDULES)
    schedule = None if make is None else make(steps)
    if schedule is not None and not callable(schedule):
        raise ValueError(f"schedule {name!r} made a {type(schedule).__name__}: let it return a function of the step.")
    return schedule
