"""The weights by which a loss takes the mean over examples, as a user gives them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_weight(weight: Any, number: int) -> Any:
    """The weights of `number` examples, floats of shape (number,); an array of numpy where their values are seen.

    Raises:
        ValueError: for another shape, and where they are seen for values that are negative or not finite.
    """
    if not isinstance(weight, jax.core.Tracer):
        try:
            weight = np.asarray(weight, jnp.result_type(float))
        except (TypeError, ValueError):
            raise ValueError(
                f"weight must be given as the batch is, an array or a source of them: {weight!r}."
            ) from None
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError("weight must be finite and not negative: what each example counts in the mean.")
    if weight.shape != (number,):
        raise ValueError(f"weight must have one entry for each of {number} examples, not the shape {weight.shape}.")
    return weight.astype(jnp.result_type(float))


def require_weight(total: Any) -> None:
    """Raise a ValueError if nothing weighs anything, where that is seen."""
    if not isinstance(total, jax.core.Tracer) and not total > 0:
        raise ValueError("weight is 0 for every example, or all targets are to be ignored: give some that count.")


def require_proportional(weight: Any, own: Any) -> None:
    """Raise a ValueError if weights are seen to differ from those that a loss has of its `own`: all alike for None."""
    if isinstance(weight, jax.core.Tracer) or isinstance(own, jax.core.Tracer):
        return
    own = np.ones(len(weight)) if own is None else np.asarray(own)
    total, of_own = weight.sum(), own.sum()
    if not np.allclose(weight / (total or 1), own / (of_own or 1), rtol=1e-5, atol=0):
        raise ValueError(
            "weight must be what each example counts in the loss's own mean: losses.squared_error and cross_entropy "
            "count all predictions alike, but for those that ignore= leaves out; without weight= that is known."
        )


def read_weights(weight: Any) -> Callable[[], Iterator[Any]]:
    """The function that gives the weights of each batch of a source, which may be in any form that batches have."""
    if callable(weight):
        return lambda: iter(weight())
    if not isinstance(weight, Iterable) or hasattr(weight, "shape"):
        raise ValueError("weight must be a source of arrays where the batch is a source: one array for each batch.")
    if isinstance(weight, Iterator):
        weight = list(weight)
    return lambda: iter(weight)
