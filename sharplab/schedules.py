"""Learning-rate schedules, in units of the learning rate that a run is given."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import optax

from sharplab.core.naming import lookup

SCHEDULES: Mapping[str, Callable[[int], optax.Schedule] | None] = MappingProxyType(
    {
        "constant": None,
        "linear": lambda steps: optax.linear_schedule(1.0, 0.0, steps),
        "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
    }
)


@lru_cache(maxsize=64)
def find_schedule(name: str, steps: int) -> optax.Schedule | None:
    """Step → factor in front of the learning rate, the same function each time; None for a constant one.

    "linear" and "cosine" begin at 1 and would reach 0 after `steps`.

    Raises:
        ValueError: for an unknown name.

    >>> [float(find_schedule("linear", 4)(step)) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    make = lookup("schedule", name, SCHEDULES)
    return None if make is None else make(steps)
