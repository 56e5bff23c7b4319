"""The plain Lanczos process, and the Gauss quadrature that its tridiagonal matrix defines.

From a unit vector q_0 the basis Q and the tridiagonal T = Q A Qᵀ grow by one row with each product. With eigenpairs
θ_i, y_i of T, Σ_i (first entry of y_i)² f(θ_i) is the Gauss rule for q_0ᵀ f(A) q_0: exact for polynomials of degree
2m − 1 after m products (Golub & Meurant, Matrices, Moments and Quadrature, 2010, §6).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.spectrum.rows import row_products, without_rows

# Residuals up to these multiples of ε times the norm of their column of T, or of all of T, count as rounding.
OF_COLUMN, OF_WHOLE = 100, 4


class Tridiagonal(NamedTuple):
    """The basis Q and the tridiagonal T after `filled` of at most m products."""

    basis: PyTree  # rows q_0…q_filled, then zeros; each leaf with a leading axis m
    diagonal: jax.Array  # (m,)
    off_diagonal: jax.Array  # (m,): entry j couples rows j and j + 1; 0 where the Krylov space is exhausted
    filled: jax.Array
    exhausted: jax.Array
    unit: jax.Array  # the power of two that T is in units of, so that its squares are floats; 1 in the end


def tridiagonalize(
    matvec: Callable[[PyTree], PyTree], start: PyTree, rows: int, loop: Loop = "compiled"
) -> Tridiagonal:
    """The Lanczos basis and tridiagonal after `rows` steps from start/‖start‖, or fewer if the space is exhausted.

    Memory: `rows` vectors.
    """
    last = repeat_while(_unfinished, lambda s: _lanczos_step(s, matvec(_last_row(s))), _init(start, rows), loop)
    return _in_unit_one(last)


@partial(jax.jit, static_argnames="rows")
def _init(start: PyTree, rows: int) -> Tridiagonal:
    unit = tree.scale(1 / tree.norm(start), start)
    basis = jax.tree.map(lambda q: jnp.zeros((rows, *q.shape), q.dtype).at[0].set(q), unit)
    blank = jnp.zeros(rows, tree.dtype(start))
    return Tridiagonal(basis, blank, blank, jnp.zeros((), jnp.int32), jnp.zeros((), bool), jnp.zeros((), blank.dtype))


@jax.jit
def _unfinished(state: Tridiagonal) -> jax.Array:
    return (state.filled < len(state.diagonal)) & ~state.exhausted


@jax.jit
def _last_row(state: Tridiagonal) -> PyTree:
    return jax.tree.map(lambda Q: Q[state.filled], state.basis)


@partial(jax.jit, donate_argnums=0)
def _lanczos_step(state: Tridiagonal, w: PyTree) -> Tridiagonal:
    """The state with the product w = A q_filled: its column of T, and its part outside of the basis as a new row."""
    j = state.filled
    unit = jnp.where(state.unit > 0, state.unit, tree.binary_size(w))
    w = tree.scale(jnp.where(unit > 0, 1 / unit, 1), w)
    column = jnp.zeros_like(state.diagonal)
    # One pass of classical Gram-Schmidt loses orthogonality at the level of ε·κ; two keep it at ε.
    for _ in range(2):
        h = row_products(state.basis, w)
        w = without_rows(w, state.basis, h)
        column += h
    beta = tree.norm(w)
    whole = jnp.maximum(jnp.abs(state.diagonal).max(), state.off_diagonal.max())
    rounding = jnp.maximum(OF_COLUMN * jnp.linalg.norm(column), OF_WHOLE * whole) * jnp.finfo(column.dtype).eps
    exhausted = ~(beta > rounding)
    q = tree.scale(jnp.where(exhausted, 0, 1 / beta), w)
    return Tridiagonal(
        jax.tree.map(lambda Q, x: Q.at[j + 1].set(x, mode="drop"), state.basis, q),
        state.diagonal.at[j].set(column[j]),
        state.off_diagonal.at[j].set(jnp.where(exhausted, 0, beta)),
        j + 1,
        exhausted,
        unit,
    )


@partial(jax.jit, donate_argnums=0)
def _in_unit_one(state: Tridiagonal) -> Tridiagonal:
    unit = jnp.where(state.unit > 0, state.unit, 1)
    return state._replace(
        diagonal=unit * state.diagonal, off_diagonal=unit * state.off_diagonal, unit=jnp.ones_like(unit)
    )


class Rule(NamedTuple):
    """A quadrature rule ∫ f ≈ Σ weights · f(nodes); an unused slot has weight 0 and repeats a node."""

    nodes: jax.Array
    weights: jax.Array


@jax.jit
def gauss_rule(diagonal: jax.Array, off_diagonal: jax.Array, count: jax.Array) -> Rule:
    """The Gauss rule of the leading `count` rows of a tridiagonal matrix, in arrays of shape (m,); weights sum to 1.

    >>> nodes, weights = gauss_rule(jnp.zeros(2), jnp.ones(2), jnp.asarray(2))
    >>> [round(float(x), 4) for x in (*nodes, *weights)]  # of [[0, 1], [1, 0]]
    [-1.0, 1.0, 0.5, 0.5]
    """
    rows = len(diagonal)
    (diagonal, off_diagonal), unit = tree.in_own_unit((diagonal, off_diagonal))  # the norm below is of squares
    inside = jnp.arange(rows) < count
    coupling = jnp.where(inside[1:], off_diagonal[:-1], 0)
    T = jnp.diag(jnp.where(inside, diagonal, 0)) + jnp.diag(coupling, 1) + jnp.diag(coupling, -1)
    # Unused rows are decoupled and sit below the spectrum of the rest, so that nothing mixes with them.
    norm = jnp.linalg.norm(T)
    below = jnp.where(norm > 0, -1.1 * norm, -1)
    nodes, vectors = jnp.linalg.eigh(T + jnp.diag(jnp.where(inside, 0, below)))
    used = jnp.arange(rows) >= rows - count
    weights = jnp.where(used, vectors[0] ** 2, 0)
    return Rule(unit * jnp.where(used, nodes, nodes[rows - count]), weights / weights.sum())
