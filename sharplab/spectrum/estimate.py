"""Estimates by sampling, with their standard errors."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree

ROUNDING = 4  # units of ε: the relative rounding of a sum of many products


@partial(jax.tree_util.register_dataclass, data_fields=["value", "stderr", "matvecs"], meta_fields=[])
@dataclass(frozen=True)
class Estimate:
    """An estimate with its error; `float(estimate)` is its value.

    Attributes:
        value: a scalar, or a pytree where a vector was estimated.
        stderr: one standard error of `value`, shaped like it, including rounding.
        matvecs: the number of products made.

    >>> float(Estimate(jnp.asarray(2.0), jnp.asarray(0.1), jnp.asarray(10)))
    2.0
    """

    value: PyTree
    stderr: PyTree
    matvecs: jax.Array

    def __float__(self) -> float:
        return float(self.value)


def mean_of(samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean over the last axis of independent samples, and its standard error."""
    samples, unit = tree.in_own_unit(samples)  # whose squares do not underflow
    return unit * samples.mean(-1), unit * samples.std(-1, ddof=1) / jnp.sqrt(samples.shape[-1])


def with_rounding(eps: float, stderr: jax.Array, magnitude: jax.Array) -> jax.Array:
    """The standard error including the rounding of a sum of terms, given ε of these and the sum of their moduli."""
    return jnp.hypot(stderr, ROUNDING * eps * magnitude)
