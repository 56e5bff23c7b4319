"""A growing subspace with the products of its basis, and the Ritz pairs in it.

The basis Q holds orthonormal rows, W = Q A their products, and T = Q A Qᵀ the projection of A (Rayleigh-Ritz). Grown
from one vector by residuals this is the Lanczos process with full reorthogonalisation; since W is kept, it can as well
begin with several vectors or take in a random one at any time, residuals are measured rather than inferred, and a
restart keeps any Ritz vectors (Stathopoulos & Saad, ETNA 7 (1998): thick restart).
"""

import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab import tree
from sharplab.spectrum.rows import combine_rows, row_products, without_rows
from sharplab.tree import PyTree


class Subspace(NamedTuple):
    """`filled` rows of at most m count; those beyond hold what a restart left."""

    basis: PyTree  # Q: each leaf with a leading axis m
    products: PyTree  # W, likewise
    projected: jax.Array  # T (m, m)
    filled: jax.Array
    asymmetry: jax.Array  # the largest |⟨q_i, A q_j⟩ − ⟨A q_i, q_j⟩| so far: the product's rounding, seen for free


class RitzPairs(NamedTuple):
    """In order of preference; slots beyond `filled` are marked unused."""

    values: jax.Array  # (m,)
    coordinates: jax.Array  # (m, m): column i holds the i-th Ritz vector in the basis
    used: jax.Array  # (m,) of booleans


def empty_subspace(like: PyTree, rows: int) -> Subspace:
    """Room for `rows` vectors shaped like `like`."""
    dtype = tree.dtype(like)
    # No row counts yet. Two different fillings, since a compiled program would make equal ones once and copy them.
    basis = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape)), like)
    products = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), like)
    return Subspace(basis, products, jnp.zeros((rows, rows), dtype), jnp.zeros((), jnp.int32), jnp.zeros((), dtype))


def absorb(space: Subspace, q: PyTree, product: PyTree) -> Subspace:
    """Append q, a unit vector orthogonal to the basis, with its product A q."""
    j = space.filled
    # Rows are written before they are read, so that a compiled loop writes them in place, without copies.
    basis = jax.tree.map(lambda Q, x: Q.at[j].set(x), space.basis, q)
    products = jax.tree.map(lambda W, x: W.at[j].set(x), space.products, product)
    column, row = row_products(basis, product), row_products(products, q)
    filled = jnp.arange(len(space.projected)) <= j
    asymmetry = jnp.max(jnp.where(filled, jnp.abs(column - row), 0))
    column = jnp.where(filled, (column + row) / 2, 0)  # either is T_ij but for rounding
    projected = space.projected.at[:, j].set(column).at[j, :].set(column)
    return Subspace(basis, products, projected, j + 1, jnp.maximum(space.asymmetry, asymmetry))


def ritz_pairs(space: Subspace, preference: Callable[[jax.Array, jax.Array], jax.Array]) -> RitzPairs:
    """The eigenpairs of T; `preference(values, used)`, for ascending values, is highest for what is wanted most."""
    T, used = _filled_part(space, jnp.zeros((), jnp.int32))
    values, coordinates = jnp.linalg.eigh(T)
    order = jnp.argsort(jnp.where(used, -preference(values, used), jnp.inf))
    return RitzPairs(values[order], coordinates[:, order], used[order])


def ritz_values_from(space: Subspace, begin: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The Ritz values, ascending, of the basis vectors from row `begin` on alone, and which slots hold one."""
    T, used = _filled_part(space, begin)
    return jnp.linalg.eigvalsh(T), used


def _filled_part(space: Subspace, begin: jax.Array) -> tuple[jax.Array, jax.Array]:
    slots = jnp.arange(len(space.projected))
    inside = (slots >= begin) & (slots < space.filled)
    T = jnp.where(inside[:, None] & inside, space.projected, 0)
    # Unused slots are decoupled and sit below the spectrum of T, so that nothing mixes with them.
    outside = -1.1 * jnp.linalg.norm(T) - jnp.finfo(T.dtype).tiny
    return T + jnp.diag(jnp.where(inside, 0, outside)), slots >= len(slots) - inside.sum()


def residual_norms(space: Subspace, ritz: RitzPairs, count: int) -> jax.Array:
    """‖A y − θ y‖ of the first `count` Ritz pairs, shape (count,)."""
    return jnp.sqrt(
        jax.tree.reduce(
            operator.add,
            jax.tree.map(
                lambda R: jnp.sum(R**2, axis=tuple(range(1, R.ndim))),
                _residuals(space, ritz.values[:count], ritz.coordinates[:, :count]),
            ),
        )
    )


def residual(space: Subspace, ritz: RitzPairs, slot: jax.Array) -> PyTree:
    """A y − θ y of one Ritz pair."""
    return _residuals(space, ritz.values[slot], ritz.coordinates[:, slot])


def _residuals(space: Subspace, values: jax.Array, coordinates: jax.Array) -> PyTree:
    return jax.tree.map(
        lambda Q, W: combine_rows(coordinates.T, W) - combine_rows((coordinates * values).T, Q),
        space.basis,
        space.products,
    )


def orthonormal(space: Subspace, v: PyTree) -> tuple[PyTree, jax.Array]:
    """v less its part in the basis, normalised (0 where nothing but rounding is left), and the norm of what was left.

    One pass of classical Gram-Schmidt leaves a part of ε·‖v‖/‖rest‖ in the basis; two leave ε.
    """
    before = tree.norm(v)
    v = tree.scale(_reciprocal(before), v)
    filled = jnp.arange(len(space.projected)) < space.filled
    for _ in range(2):
        v = without_rows(v, space.basis, jnp.where(filled, row_products(space.basis, v), 0))
    rest = tree.norm(v)
    eps = jnp.finfo(rest.dtype).eps
    alive = rest > 10 * eps
    return tree.scale(jnp.where(alive, _reciprocal(rest), 0), v), jnp.where(alive, rest * before, 0)


def _reciprocal(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def restarted(space: Subspace, ritz: RitzPairs, keep: int) -> Subspace:
    """The subspace of the first `keep` Ritz vectors alone; what stands in later rows no longer counts."""
    mixing = ritz.coordinates[:, :keep].T
    slots = jnp.arange(len(space.projected))
    return space._replace(
        basis=jax.tree.map(lambda Q: Q.at[:keep].set(combine_rows(mixing, Q)), space.basis),
        products=jax.tree.map(lambda W: W.at[:keep].set(combine_rows(mixing, W)), space.products),
        projected=jnp.diag(jnp.where(slots < keep, ritz.values, 0)),
        filled=jnp.minimum(space.filled, keep),
    )
