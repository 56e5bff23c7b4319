"""Repeated products with one operator under either loop, random probes, and checks of arguments and results."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from sharplab.core import tree
from sharplab.core.loops import Loop, choose_loop
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import Factor
from sharplab.curvature.linear_operator import LinearOperator

LinearMap = Callable[[PyTree], PyTree]

NOT_FINITE = "the operator's product is not finite: check params and batch for NaN or inf."


def loop_of(op: LinearOperator, key: jax.Array) -> Loop:
    """The loop for products with `op`: "compiled", unless it convolves on CPUs or works on the host.

    Raises:
        ValueError: if `op` is no LinearOperator, or works on the host and is used under `jit`.
    """
    if not isinstance(op, LinearOperator):
        raise ValueError(f"op must be a LinearOperator, not {type(op).__name__}: wrap the product in one.")
    # A new array is a tracer under jit even where all of the operator's own were made outside.
    tracing = tree.is_traced((jnp.zeros(()), key, op))
    if not op.jittable:
        if tracing:
            raise ValueError("op works on the host and cannot run under jit: call this outside of jit.")
        return "python"
    return "compiled" if tracing else choose_loop(_one_product, op)


def _one_product(op: LinearOperator) -> PyTree:
    return op.matvec()(op.domain)


def product(op: LinearOperator, loop: Loop) -> LinearMap:
    """The map v → A v for v like the domain; under "compiled" the work that products share is done now, once."""
    return op.matvec() if loop == "compiled" else op


def is_split(domain: PyTree) -> bool:
    """Whether parameters are split over devices; then so is a basis, leaf by leaf, else it is of flat vectors."""
    layouts = [] if tree.is_traced(domain) else [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(domain)]
    return any(isinstance(layout, NamedSharding) and not layout.is_fully_replicated for layout in layouts)


def flattened(op: LinearOperator) -> LinearOperator:
    """The same matrix on the flat vectors of `tree.ravel`: programs around it grow with no number of leaves."""
    factor = None if op.factor is None else Factor(_flat_factor, op, op.factor.out_structure)
    return LinearOperator(_flat_product, op, tree.ravel(op.domain), factor, op.jittable, op.error)


def _flat_product(op: LinearOperator) -> LinearMap:
    matvec = op.matvec()
    return lambda v: tree.ravel(matvec(tree.unravel(v, op.domain)))


def _flat_factor(op: LinearOperator) -> tuple[LinearMap, LinearMap]:
    assert op.factor is not None
    forward, backward = op.factor.maps()
    return lambda v: forward(tree.unravel(v, op.domain)), lambda u: tree.ravel(backward(u))


def widened(op: LinearOperator) -> LinearOperator:
    """The same matrix on vectors of one type, at least float32; the products within are of the parameters' types.

    Every estimator works with this operator, so that no sum over a vector is made in 16 bits.

    Raises:
        ValueError: for a domain that is not all floats.
    """
    if tree.is_wide(op.domain) and (op.factor is None or tree.is_wide(op.factor.range)):
        return op
    domain = tree.floats(op.domain, "op.domain")
    factor = None if op.factor is None else Factor(_wide_factor, op, op.factor.out_structure.wide)
    return LinearOperator(_wide_product, op, tree.wide(domain), factor, op.jittable, op.error)


def _wide_product(op: LinearOperator) -> LinearMap:
    matvec = op.matvec()
    return lambda v: tree.wide(matvec(tree.cast(v, op.domain)))


def _wide_factor(op: LinearOperator) -> tuple[LinearMap, LinearMap]:
    assert op.factor is not None
    (forward, backward), outputs = op.factor.maps(), op.factor.range
    return lambda v: tree.wide(forward(tree.cast(v, op.domain))), lambda u: tree.wide(backward(tree.cast(u, outputs)))


def rounding_of(op: LinearOperator) -> float:
    """ε of the narrowest type that vectors have in products with `op`, which `widened` no longer shows."""
    narrow = (op.domain, None if op.factor is None else op.factor.range)
    kinds = {op.dtype, *(leaf.dtype for leaf in jax.tree.leaves(narrow))}
    return max(float(jnp.finfo(kind).eps) for kind in kinds)


def flat_product(op: LinearOperator, loop: Loop) -> Callable[[jax.Array], jax.Array]:
    """The map v → A v for flat v of shape (P,)."""
    return op if loop == "python" else flattened(op).matvec()


def each(function: Callable[[Any], PyTree], rows: jax.Array, loop: Loop) -> PyTree:
    """The values function(row) of all rows, stacked; computed one after another, in the memory of one."""
    if loop == "compiled":
        return jax.lax.map(function, rows)
    found = [function(row) for row in rows]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def rademacher(key: jax.Array, like: PyTree) -> PyTree:
    """A pytree of independent random signs ±1, shaped like `like`."""
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, signs)


def require_finite(value: PyTree) -> None:
    """Raise a ValueError outside of `jit` if a product was not finite; under `jit` NaN passes through."""
    for leaf in jax.tree.leaves(value):
        if not isinstance(leaf, jax.core.Tracer) and not jnp.isfinite(leaf).all():
            raise ValueError(NOT_FINITE)


def require_at_least(name: str, number: int, least: int) -> None:
    """Raise a ValueError if `number` is too small to tell a standard error from."""
    if number < least:
        raise ValueError(f"{name} must be at least {least}, to tell an error from, not {number}.")
