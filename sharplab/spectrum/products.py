"""Many products with one operator, in a compiled loop or dispatched from Python, and the probes for them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from sharplab.core.loops import Loop, choose_loop
from sharplab.core.tree import PyTree
from sharplab.curvature.operator import LinearOperator

LinearMap = Callable[[PyTree], PyTree]


def loop_of(op: LinearOperator, key: jax.Array) -> Loop:
    """How products with `op` are repeated best here: a compiled loop, unless it convolves on CPUs or reads the host.

    Raises:
        ValueError: if `op` is no LinearOperator, or reads batches from the host and is used under `jit`.
    """
    if not isinstance(op, LinearOperator):
        raise ValueError(f"op must be a LinearOperator, not {type(op).__name__}: wrap the product in one.")
    # A new array is a tracer under jit even where all of the operator's own were made outside.
    tracing = any(isinstance(leaf, jax.core.Tracer) for leaf in (jnp.zeros(()), key, *jax.tree.leaves(op)))
    if not op.jittable:
        if tracing:
            raise ValueError("op reads batches from the host and cannot run under jit: call this outside of jit.")
        return "python"
    return "compiled" if tracing else choose_loop(_one_product, op)


def _one_product(op: LinearOperator) -> PyTree:
    return op.matvec()(op.domain)


def product(op: LinearOperator, loop: Loop) -> LinearMap:
    """v → A v for v like the domain; under "compiled" what the products share is done now, once."""
    return op.matvec() if loop == "compiled" else op


def flat_product(op: LinearOperator, loop: Loop) -> Callable[[jax.Array], jax.Array]:
    """v → A v for flat v of shape (P,)."""
    if loop == "python":
        return op
    matvec, (_, unravel) = op.matvec(), ravel_pytree(op.domain)
    return lambda v: ravel_pytree(matvec(unravel(v)))[0]


def each(function: Callable[[Any], PyTree], rows: jax.Array, loop: Loop) -> PyTree:
    """function(row) for every row, one after another (so that memory is that of one), stacked."""
    if loop == "compiled":
        return jax.lax.map(function, rows)
    found = [function(row) for row in rows]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def rademacher(key: jax.Array, like: PyTree) -> PyTree:
    """Independent entries ±1, shaped like `like`."""
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, signs)


def require_finite(value: PyTree) -> None:
    """Outside of `jit`, a ValueError if a product was not finite; under `jit` NaN passes through."""
    for leaf in jax.tree.leaves(value):
        if not isinstance(leaf, jax.core.Tracer) and not jnp.isfinite(leaf).all():
            raise ValueError("the operator's product is not finite: check params and batch for NaN or inf.")


def require_at_least(name: str, number: int, least: int) -> None:
    """A ValueError if there is too little to tell a standard error from."""
    if number < least:
        raise ValueError(f"{name} must be at least {least}, to tell an error from, not {number}.")
