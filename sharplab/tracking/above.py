"""All eigenvalues above a level, tracked from record to record: as many solves as there are, and one."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator
from sharplab.curvature.factor import LinearMap
from sharplab.spectrum.bounds import kato_temple
from sharplab.spectrum.extremal import solve_extreme
from sharplab.spectrum.products import flattened, is_split, widened
from sharplab.spectrum.rows import combine_rows, row_at, row_products, with_row, without_rows
from sharplab.tracking.eigentracking import AUDIT_EVERY, TrackedPairs, identify


class Above(NamedTuple):
    """One record of the eigenvalues above a level, the largest first; NaN in the places of those that there are not."""

    number: jax.Array
    full: jax.Array  # 1 where all places are taken, so that there may be more
    values: jax.Array  # (limit,)
    errors: jax.Array
    residuals: jax.Array
    identities: jax.Array
    matvecs: jax.Array


class _Found(NamedTuple):
    """The eigenvectors so far, the last of which may lie below the level."""

    number: jax.Array
    last: jax.Array  # its value
    vectors: PyTree  # leading axis limit; zeros behind those found
    products: PyTree  # of the operator with them
    floor: jax.Array
    matvecs: jax.Array


def track_above(
    op: LinearOperator, tracked: TrackedPairs, level: jax.Array, key: jax.Array, *, tol: float, loop: Loop = "compiled"
) -> tuple[TrackedPairs, Above]:
    """The eigenvalues of an operator above a level > 0, at most as many as `tracked` has vectors.

    One after another, each is looked for in what is orthogonal to those before, from its vector at the record before,
    until one lies below the level or all places are taken. So few cost few products, and their number may change from
    record to record. Every eighth record, what comes behind those of the last is looked for from nothing. At the end
    all are the Ritz pairs of the vectors' span, with residuals of the operator itself.
    """
    op = widened(op)
    flat = not is_split(op.domain)
    solved, before = (flattened(op), jax.vmap(tree.ravel)(tracked.vectors)) if flat else (op, tracked.vectors)
    limit = len(tracked.identities)
    audit = (tracked.records + 1) % AUDIT_EVERY == 0
    known = jnp.sum(tracked.identities >= 0)
    matvec = solved.matvec() if loop == "compiled" else solved

    def one(state: _Found) -> _Found:
        cold = audit & (state.number >= known)
        start = jax.tree.map(lambda v: jnp.where(cold, 0, v)[None], row_at(before, state.number))
        rest = LinearOperator(_rest, (solved, state.vectors), solved.domain, None, op.jittable, op.error)
        found = solve_extreme(rest, 1, start, jax.random.fold_in(key, state.number), tol=tol).pairs
        v = _apart(row_at(found.vectors, jnp.zeros((), jnp.int32)), state.vectors)
        return _with(state, found.values[0], v, matvec(v), found.floor, found.matvecs)

    def unfinished(state: _Found) -> jax.Array:
        return (state.number < limit) & (state.last > level)

    last = repeat_while(unfinished, one, _none(solved, before), loop)
    return _record(tracked, before, last, level, op.domain, flat)


def _rest(args: PyTree) -> LinearMap:
    """P A P, P the projection on what is orthogonal to some vectors; rows of zeros do not matter."""
    op, vectors = args
    product = op.matvec()
    return lambda v: _without(product(_without(v, vectors)), vectors)


def _without(v: PyTree, vectors: PyTree) -> PyTree:
    return without_rows(v, vectors, row_products(vectors, v))


@jax.jit
def _apart(v: PyTree, vectors: PyTree) -> PyTree:
    v = _without(v, vectors)
    size = tree.norm(v)
    return tree.scale(1 / jnp.where(size > 0, size, 1), v)


@jax.jit
def _none(op: LinearOperator, before: PyTree) -> _Found:
    zeros, none = jax.tree.map(jnp.zeros_like, before), jnp.zeros((), jnp.int32)
    return _Found(none, jnp.full((), jnp.inf, op.dtype), zeros, zeros, jnp.zeros((), op.dtype), none)


@jax.jit
def _with(state: _Found, value: jax.Array, v: PyTree, Av: PyTree, floor: jax.Array, matvecs: jax.Array) -> _Found:
    vectors, products = (
        jax.tree.map(lambda Q, x: with_row(Q, x, state.number), rows, x)
        for rows, x in ((state.vectors, v), (state.products, Av))
    )
    floor = jnp.maximum(state.floor, floor)
    return _Found(state.number + 1, value, vectors, products, floor, state.matvecs + matvecs + 1)


@partial(jax.jit, static_argnums=5)
def _record(
    tracked: TrackedPairs, before: PyTree, found: _Found, level: jax.Array, domain: PyTree, flat: bool
) -> tuple[TrackedPairs, Above]:
    limit = len(tracked.identities)
    there = jnp.arange(limit) < found.number
    projected = jax.vmap(lambda Av: row_products(found.vectors, Av))(found.products)
    # Places without a vector are put below all others.
    scale = 1 + jnp.abs(projected).max()
    values, rotation = jnp.linalg.eigh((projected + projected.T) / 2 - jnp.diag(jnp.where(there, 0, 2 * limit * scale)))
    values, rotation = values[::-1], rotation[:, ::-1].T
    vectors, products = (
        jax.tree.map(lambda rows: combine_rows(rotation, rows), rows) for rows in (found.vectors, found.products)
    )
    off = jax.vmap(lambda value, v, Av: tree.norm(tree.moved(Av, -value, v)))(values, vectors, products)
    errors = jnp.maximum(kato_temple(values, off, there), found.floor)
    above = there & (values > level)
    identities, _ = identify(tracked, before, vectors)
    if flat:
        vectors = jax.vmap(tree.unravel, (0, None))(vectors, domain)
    unsound = jnp.isnan(found.last)

    def those(x: jax.Array) -> jax.Array:
        return jnp.where(above & ~unsound, x, jnp.nan)

    number = jnp.where(unsound, jnp.nan, above.sum())
    identities = jnp.where(there, identities, -1)
    fresh = jnp.maximum(tracked.fresh, identities.max() + 1)
    state = TrackedPairs(vectors, identities, fresh, tracked.records + 1, tracked.missed)
    return state, Above(
        number=number,
        full=above.all().astype(jnp.int32),
        values=those(values),
        errors=those(errors),
        residuals=those(off + found.floor),
        identities=those(identities),
        matvecs=found.matvecs,
    )
