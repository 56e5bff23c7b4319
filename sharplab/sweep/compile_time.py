"""The time in which this thread compiles programs, as jax tells it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import jax

Interval = tuple[float, float]  # from, to

# A variable of the context: what other threads compile meanwhile is theirs.
_compiled: ContextVar[list[Interval] | None] = ContextVar("compiled", default=None)


@contextmanager
def timing_compilation() -> Iterator[Callable[[], float]]:
    """A block and a function: the seconds in which this thread has traced, lowered and compiled in it so far."""
    _listen()
    intervals: list[Interval] = []
    token = _compiled.set(intervals)
    try:
        yield lambda: union(intervals)
    finally:
        _compiled.reset(token)


def union(intervals: Sequence[Interval]) -> float:
    """The length of a union of intervals: what is compiled while another program is traced counts once.

    >>> union([(1.0, 2.0), (0.0, 3.0), (4.0, 5.0)])
    4.0
    """
    length = reached = 0.0
    for start, end in sorted(intervals):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length


@cache
def _listen() -> None:
    def note(event: str, duration_secs: float, **_: str | int) -> None:
        intervals = _compiled.get()
        if intervals is not None and event.startswith("/jax/core/compile/") and event.endswith("_duration"):
            now = time.monotonic()
            intervals.append((now - duration_secs, now))

    jax.monitoring.register_event_duration_secs_listener(note)
