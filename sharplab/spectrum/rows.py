"""Bases as pytrees whose leaves have a leading axis of rows."""

import operator

import jax
import jax.numpy as jnp

from sharplab.tree import PyTree


def row_products(rows: PyTree, v: PyTree) -> jax.Array:
    """⟨row_i, v⟩ for every row."""
    # Not by reshaping to matrices: that would gather leaves that are split over devices.
    products = jax.tree.map(lambda Q, x: jnp.tensordot(Q, x, axes=x.ndim), rows, v)
    return jax.tree.reduce(operator.add, products)


def combine_rows(coefficients: jax.Array, rows: jax.Array) -> jax.Array:
    """Σ_i coefficients[…, i] rows[i], of one leaf."""
    return jnp.tensordot(coefficients.astype(rows.dtype), rows, axes=1)


def without_rows(v: PyTree, rows: PyTree, coefficients: jax.Array) -> PyTree:
    """v − Σ_i coefficients[i] row_i."""
    return jax.tree.map(lambda x, Q: x - combine_rows(coefficients, Q), v, rows)
