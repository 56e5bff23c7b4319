"""Bases as pytrees whose leaves have a leading axis of rows.

Products with them are made at JAX's highest precision: what TF32 leaves of orthogonality would void every bound.
"""

import operator

import jax
import jax.numpy as jnp

from sharplab.core.tree import PyTree

COLUMNS = 1 << 16  # combined at a time, so that no second basis is made


def row_at(rows: PyTree, slot: jax.Array) -> PyTree:
    """One row, whose number is not negative: an index that may be is a program three times as long."""
    return jax.tree.map(
        lambda Q: jax.lax.dynamic_index_in_dim(Q, slot, 0, keepdims=False, allow_negative_indices=False), rows
    )


def with_row(rows: jax.Array, row: jax.Array, slot: jax.Array) -> jax.Array:
    """The rows of one leaf with another one at `slot`, which is not negative."""
    return jax.lax.dynamic_update_index_in_dim(rows, row, slot, 0, allow_negative_indices=False)


def row_products(rows: PyTree, v: PyTree) -> jax.Array:
    """The inner products ⟨row_i, v⟩ with all rows, shape (m,)."""
    # Not by reshaping to matrices: that would gather leaves that are split over devices.
    products = jax.tree.map(lambda Q, x: jnp.tensordot(Q, x, axes=x.ndim, precision="highest"), rows, v)
    return jax.tree.reduce(operator.add, products)


def combine_rows(coefficients: jax.Array, rows: jax.Array) -> jax.Array:
    """The linear combinations Σ_i coefficients[…, i] rows[i] of one leaf."""
    return jnp.tensordot(coefficients[..., : len(rows)].astype(rows.dtype), rows, axes=1, precision="highest")


def recombine(coefficients: jax.Array, rows: jax.Array, last: jax.Array | None = None) -> jax.Array:
    """The rows of one leaf, the first ones replaced by linear combinations of all and a last; flat rows in place."""
    count, size = len(coefficients), rows[0].size

    def combined(part: jax.Array, of_last: jax.Array | None) -> jax.Array:
        found = combine_rows(coefficients, part)
        if of_last is None:
            return found
        return found + jnp.tensordot(coefficients[:, len(rows)].astype(rows.dtype), of_last, axes=0)

    if rows.ndim != 2 or size <= COLUMNS:
        return rows.at[:count].set(combined(rows, last))

    def some_columns(i: jax.Array, rows: jax.Array) -> jax.Array:
        begin = i * COLUMNS
        part = jax.lax.dynamic_slice(rows, (0, begin), (len(rows), COLUMNS))
        replaced = combined(part, None if last is None else jax.lax.dynamic_slice(last, (begin,), (COLUMNS,)))
        return jax.lax.dynamic_update_slice(rows, replaced, (0, begin))

    done = size - size % COLUMNS
    rows = jax.lax.fori_loop(0, size // COLUMNS, some_columns, rows)
    return rows.at[:count, done:].set(combined(rows[:, done:], None if last is None else last[done:]))


def reciprocal(x: jax.Array) -> jax.Array:
    """The reciprocals 1/x of positive numbers, and 0 elsewhere."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def without_rows(v: PyTree, rows: PyTree, coefficients: jax.Array) -> PyTree:
    """The vector v − Σ_i coefficients[i] row_i."""
    return jax.tree.map(lambda x, Q: x - combine_rows(coefficients, Q), v, rows)


def without_some_rows(v: PyTree, rows: PyTree, coefficients: jax.Array) -> PyTree:
    """The same vector as `without_rows`, reading only the rows whose coefficient is not 0."""
    order = jnp.argsort(coefficients == 0)

    def without(i: jax.Array, v: PyTree) -> PyTree:
        c, row = row_at((coefficients, rows), row_at(order, i))
        return jax.tree.map(lambda x, q: x - c.astype(x.dtype) * q, v, row)

    return jax.lax.fori_loop(0, jnp.count_nonzero(coefficients), without, v)
