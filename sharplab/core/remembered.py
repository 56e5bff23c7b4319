"""Answers that are kept within a process, each for the precision that jax computed it in."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def cached_by_precision(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`lru_cache` of a function whose answer holds arrays or their types, which go by whether jax has 64 bits.

    >>> import jax, jax.numpy as jnp
    >>> @cached_by_precision(maxsize=8)
    ... def third():
    ...     return jnp.ones(()) / 3
    >>> with jax.enable_x64(True):
    ...     wide = third()
    >>> wide.dtype.name, third().dtype.name
    ('float64', 'float32')
    """

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        @lru_cache(maxsize)
        def kept(wide: bool, *args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **kwargs)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            import jax  # here, since who plans or reads runs needs none

            return kept(jax.config.read("jax_enable_x64"), *args, **kwargs)  # type: ignore[arg-type]

        return call

    return decorated
