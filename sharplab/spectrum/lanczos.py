"""The Lanczos process as a pure step, with full reorthogonalisation and thick restart.

The basis Q holds orthonormal rows q_0…q_j, T = Q A Qᵀ is kept as a full matrix (whose restarted form is an
arrow, not a tridiagonal), and A Qᵀ = Qᵀ T + β q_{j+1} e_jᵀ throughout (Wu & Simon 2000).
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab import tree
from sharplab.tree import PyTree


class LanczosState(NamedTuple):
    """After `filled` steps since the last restart's vectors; `m` is the largest count."""

    basis: PyTree  # rows q_0…q_filled, then zeros; each leaf with a leading axis m + 1
    projected: jax.Array  # (m, m): T, filled up to `filled`; row and column `filled` hold what symmetry predicts
    filled: jax.Array
    beta: jax.Array  # the norm of the residual that q_filled was made of
    asymmetry: jax.Array  # largest ‖column of T − row of T‖ so far: the product's rounding, seen for free
    matvecs: jax.Array


def start_lanczos(start: PyTree, rows: int) -> LanczosState:
    """The state before the first step, with q_0 = start/‖start‖ and room for `rows` basis vectors."""
    dtype = tree.dtype(start)
    unit = tree.scale(1 / tree.norm(start), start)
    basis = jax.tree.map(lambda q: jnp.zeros((rows + 1, *q.shape), q.dtype).at[0].set(q), unit)
    zero = jnp.zeros((), dtype)
    none = jnp.zeros((), jnp.int32)
    return LanczosState(basis, jnp.zeros((rows, rows), dtype), none, zero, zero, none)


def lanczos_step(matvec: Callable[[PyTree], PyTree], state: LanczosState) -> LanczosState:
    """Multiply q_filled by A and append the normalised rest as the next basis vector."""
    rows = len(state.projected)
    j = state.filled
    q = jax.tree.map(lambda Q: Q[j], state.basis)
    w = matvec(q)
    # One pass of classical Gram-Schmidt loses orthogonality at the level of ε·κ; two keep it at ε.
    h = _coefficients(state.basis, w)
    w = _subtract(w, state.basis, h)
    correction = _coefficients(state.basis, w)
    w = _subtract(w, state.basis, correction)
    column = (h + correction)[:rows]

    before = jnp.arange(rows) < j
    asymmetry = jnp.linalg.norm(jnp.where(before, column - state.projected[j], 0))
    column = jnp.where(jnp.arange(rows) <= j, column, 0)
    beta = tree.norm(w)
    projected = state.projected.at[:, j].set(column).at[j, :].set(column)
    projected = projected.at[j, j + 1].set(beta, mode="drop").at[j + 1, j].set(beta, mode="drop")
    # An exhausted Krylov space leaves rounding alone: a zero vector ends the recurrence, noise would not.
    eps = jnp.finfo(projected.dtype).eps
    alive = beta > 100 * eps * jnp.linalg.norm(column)
    unit = tree.scale(jnp.where(alive, 1 / beta, 0), w)
    basis = jax.tree.map(lambda Q, u: Q.at[j + 1].set(u), state.basis, unit)
    return LanczosState(
        basis,
        projected,
        j + 1,
        jnp.where(alive, beta, 0),
        jnp.maximum(state.asymmetry, asymmetry),
        state.matvecs + 1,
    )


def _coefficients(basis: PyTree, w: PyTree) -> jax.Array:
    """⟨q_i, w⟩ for every row."""
    products = jax.tree.map(lambda Q, x: Q.reshape(len(Q), -1) @ x.reshape(-1), basis, w)
    return jax.tree.reduce(operator.add, products)


def _subtract(w: PyTree, basis: PyTree, coefficients: jax.Array) -> PyTree:
    return jax.tree.map(lambda x, Q: x - combine_rows(coefficients, Q), w, basis)


def combine_rows(coefficients: jax.Array, Q: jax.Array) -> jax.Array:
    """Σ_i coefficients[i] Q[i], with `coefficients` a vector or a stack of them."""
    return jnp.tensordot(coefficients.astype(Q.dtype), Q, axes=1)


class RitzPairs(NamedTuple):
    """What the filled part of T says; slots beyond `filled` are marked unused."""

    values: jax.Array  # (m,)
    coordinates: jax.Array  # (m, m): column i holds the i-th Ritz vector in the basis
    residuals: jax.Array  # (m,): ‖A v − θ v‖ in exact arithmetic
    used: jax.Array  # (m,) of booleans


def ritz_pairs(state: LanczosState) -> RitzPairs:
    """The Rayleigh-Ritz pairs of the basis so far."""
    rows = len(state.projected)
    inside = jnp.arange(rows) < state.filled
    T = jnp.where(inside[:, None] & inside, state.projected, 0)
    # Unused slots are decoupled and sit outside of the spectrum of T, so that nothing mixes with them.
    outside = -1.1 * jnp.linalg.norm(T) - jnp.finfo(T.dtype).tiny
    values, coordinates = jnp.linalg.eigh(T + jnp.diag(jnp.where(inside, 0, outside)))
    used = jnp.arange(rows) >= rows - state.filled
    last = coordinates[jnp.maximum(state.filled - 1, 0)]
    return RitzPairs(values, coordinates, state.beta * jnp.abs(last), used)


def thick_restart(state: LanczosState, ritz: RitzPairs, preference: jax.Array, keep: int) -> LanczosState:
    """Start again from the `keep` Ritz vectors of highest `preference` (m,) and the current residual."""
    order = jnp.argsort(jnp.where(ritz.used, -preference, jnp.inf))[:keep]
    Y = ritz.coordinates[:, order]
    rows = len(state.projected)
    basis = jax.tree.map(partial(_restarted_rows, Y.T), state.basis)
    border = state.beta * Y[state.filled - 1]
    projected = jnp.zeros_like(state.projected).at[jnp.arange(keep), jnp.arange(keep)].set(ritz.values[order])
    if keep < rows:
        projected = projected.at[keep, :keep].set(border).at[:keep, keep].set(border)
    return state._replace(basis=basis, projected=projected, filled=jnp.asarray(keep, state.filled.dtype))


def _restarted_rows(mixing: jax.Array, Q: jax.Array) -> jax.Array:
    keep = len(mixing)
    rows = combine_rows(mixing, Q[:-1])
    return jnp.zeros_like(Q).at[:keep].set(rows).at[keep].set(Q[-1])
