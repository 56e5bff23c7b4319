"""A growing subspace with the projection of A on it, and Rayleigh-Ritz there.

All rows of the basis Q are orthonormal. The first `filled` rows have been multiplied; the `pending` rows after them
span what the products have outside of those, so that A q_j = Σ_i T_ij q_i over all rows i, for every filled j. This
block Krylov relation holds after a restart with some of the Ritz vectors too (thick restart: Wu & Simon, SIAM J. Matrix
Anal. Appl. 22 (2000)), and when random vectors are added at any time. The residual of a Ritz pair y is Σ_i (T y)_i q_i
over the pending rows, so its norm is that of a few numbers. Grown from one vector this is the Lanczos process with full
reorthogonalisation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.spectrum.rows import combine_rows, reciprocal, row_products, without_rows, without_some_rows


class Subspace(NamedTuple):
    """A basis of m rows, of which first `filled` and then `pending` ones are in use; the others hold stale vectors."""

    basis: PyTree  # Q: each leaf with a leading axis m
    projected: jax.Array  # T = Q A Qᵀ (m, m), zero in unused rows; between pending rows it is not known
    filled: jax.Array
    pending: jax.Array
    asymmetry: jax.Array  # the largest |⟨q_i, A q_j⟩ − ⟨A q_i, q_j⟩| so far: the rounding of products

    def row(self, slot: jax.Array) -> PyTree:
        """One vector of the basis."""
        return jax.tree.map(lambda Q: Q[slot], self.basis)

    @property
    def direction(self) -> PyTree:
        """The row to be multiplied next, the first pending one."""
        return self.row(self.filled)

    @property
    def in_use(self) -> jax.Array:
        """The number of rows in use."""
        return self.filled + self.pending


class RitzPairs(NamedTuple):
    """Ritz pairs in order of preference; slots beyond `filled` are marked unused."""

    values: jax.Array  # (m,)
    coordinates: jax.Array  # (m, m): column i holds the i-th Ritz vector in the basis
    used: jax.Array  # (m,) of booleans


def empty_subspace(like: PyTree, rows: int) -> Subspace:
    """The subspace without vectors, with room for `rows` of them shaped like `like`."""
    dtype, none = tree.dtype(like), jnp.zeros((), jnp.int32)
    basis = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), like)
    return Subspace(basis, jnp.zeros((rows, rows), dtype), none, none, jnp.zeros((), dtype))


def with_product(space: Subspace, product: PyTree, negligible: jax.typing.ArrayLike) -> Subspace:
    """The subspace with the product of A with `direction`: that row is filled, and the part outside is a pending row.

    A part outside of all rows that is no longer than `negligible` counts as rounding. A row must be left even so.
    """
    j, end, slots = space.filled, space.in_use, jnp.arange(len(space.projected))
    row = space.projected[j]  # ⟨A q_i, q_j⟩ of the filled rows i, known from their own products
    known = jnp.where(slots < j, row, 0).at[j].set(tree.dot(space.direction, product))
    q, rest, column = orthonormal(space, product, known)
    asymmetry = jnp.max(jnp.where(slots < j, jnp.abs(column - row), 0))
    column = jnp.where(slots < j, (column + row) / 2, column)  # either is T_ij but for rounding
    outside = (rest > negligible) & (end < len(slots) - 1)
    column = jnp.where(slots == end, jnp.where(outside, rest, 0), column)
    return Subspace(
        # Written after all that is read, or a compiled loop would copy the basis; so below.
        basis=jax.tree.map(lambda Q, x: jax.lax.dynamic_update_index_in_dim(Q, x, end, 0), space.basis, q),
        projected=space.projected.at[:, j].set(column).at[j, :].set(column),
        filled=j + 1,
        pending=space.pending - 1 + outside,
        asymmetry=jnp.maximum(space.asymmetry, asymmetry),
    )


def with_direction(space: Subspace, q: PyTree, wanted: jax.Array) -> Subspace:
    """The subspace with q as a new row and `direction`, if `wanted`.

    q has length 1 and is orthogonal to all rows.
    """
    j, end, slots = space.filled, space.in_use, jnp.arange(len(space.projected))
    slot = jnp.where(wanted, end, j)  # where the row goes that stood first among the pending ones
    exchange = jnp.where(slots == j, slot, jnp.where(slots == slot, j, slots))
    places = jnp.stack([slot, j])

    def written(Q: jax.Array, x: jax.Array) -> jax.Array:
        rows = jnp.stack([Q[j], jnp.where(wanted, x, Q[j])])
        return jax.lax.fori_loop(0, 2, lambda i, Q: Q.at[places[i]].set(rows[i]), Q)

    return space._replace(
        basis=jax.tree.map(written, space.basis, q),
        projected=space.projected[exchange][:, exchange],
        pending=space.pending + wanted,
    )


def rotated(space: Subspace, weights: jax.Array) -> Subspace:
    """The subspace with `direction` along Σ weights[i] q_i over the pending rows, which are reflected to that end.

    Where these weights are 0, nothing changes.
    """
    slots = jnp.arange(len(space.projected))
    weights = jnp.where((slots >= space.filled) & (slots < space.in_use), weights, 0)
    weights = weights * jnp.where(weights[space.filled] < 0, -1, 1) * reciprocal(jnp.linalg.norm(weights))
    # The reflection I − 2wwᵀ that takes the first pending row there; none where it is there.
    w = jnp.where(slots == space.filled, 1, 0) - weights
    length = jnp.linalg.norm(w)
    wanted = weights.any() & (length > jnp.finfo(w.dtype).eps)
    w = jnp.where(wanted, w * reciprocal(length), 0)
    end = jnp.where(wanted, space.in_use, space.filled)

    def reflected(Q: jax.Array) -> jax.Array:
        along = jax.lax.cond(wanted, lambda: combine_rows(w, Q), lambda: jnp.zeros_like(Q[0]))
        return jax.lax.fori_loop(space.filled, end, lambda i, Q: Q.at[i].add(-2 * w[i].astype(Q.dtype) * along), Q)

    reflection = jnp.eye(len(slots), dtype=w.dtype) - 2 * w[:, None] * w
    projected = jnp.linalg.multi_dot([reflection, space.projected, reflection], precision="highest")
    return space._replace(basis=jax.tree.map(reflected, space.basis), projected=projected)


def ritz_pairs(space: Subspace, preference: Callable[[jax.Array, jax.Array], jax.Array]) -> RitzPairs:
    """The Ritz pairs, in descending order of `preference(values, used)` of the ascending values."""
    T, used = _filled_part(space, jnp.zeros((), jnp.int32))
    values, coordinates = jnp.linalg.eigh(T)
    order = jnp.argsort(jnp.where(used, -preference(values, used), jnp.inf))
    return RitzPairs(values[order], coordinates[:, order], used[order])


def ritz_values_from(space: Subspace, begin: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The Ritz values, ascending, of the filled rows from `begin` on alone, and which slots hold one."""
    T, used = _filled_part(space, begin)
    return jnp.linalg.eigvalsh(T), used


def _filled_part(space: Subspace, begin: jax.Array) -> tuple[jax.Array, jax.Array]:
    slots = jnp.arange(len(space.projected))
    inside = (slots >= begin) & (slots < space.filled)
    T = jnp.where(inside[:, None] & inside, space.projected, 0)
    # Unused slots are decoupled and sit below the spectrum of T, so that nothing mixes with them.
    outside = -1.1 * jnp.linalg.norm(T) - jnp.finfo(T.dtype).tiny
    return T + jnp.diag(jnp.where(inside, 0, outside)), slots >= len(slots) - inside.sum()


def residuals(space: Subspace, ritz: RitzPairs) -> jax.Array:
    """The residuals A y − θ y of all Ritz pairs, as coefficients in the basis: shape (m, m), column i of pair i."""
    slots = jnp.arange(len(space.projected))
    pending = (slots >= space.filled) & (slots < space.in_use)
    beyond = jnp.where(pending[:, None] & (slots < space.filled), space.projected, 0)
    return jnp.matmul(beyond, ritz.coordinates, precision="highest")


def orthonormal(space: Subspace, v: PyTree, known: jax.Array) -> tuple[PyTree, jax.Array, jax.Array]:
    """The normalised part of v outside of the rows, its norm, and the coefficients of the part inside, shape (m,).

    Where only rounding is left, the vector and its norm are 0. Classical Gram-Schmidt begins with the coefficients that
    are `known`, approximately, with zeros for the others; after these, one pass over all rows most often suffices. A
    pass that leaves less than half of the norm is followed by another (Daniel, Gragg, Kaufman & Stewart, Math. Comp. 30
    (1976)).
    """
    eps = jnp.finfo(space.projected.dtype).eps
    length = tree.norm(v)
    known = known * reciprocal(length)
    v = without_some_rows(tree.scale(reciprocal(length), v), space.basis, known)
    counted = jnp.arange(len(space.projected)) < space.in_use

    def leaves_little(passed: tuple[PyTree, ...]) -> jax.Array:
        _, _, before, rest = passed
        return (rest < before / 2) & (rest > 10 * eps)

    def another(passed: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        v, coefficients, _, rest = passed
        part = jnp.where(counted, row_products(space.basis, v), 0)
        v = without_rows(v, space.basis, part)
        return v, coefficients + part, rest, tree.norm(v)

    first = (v, known, jnp.full_like(length, jnp.inf), tree.norm(v))
    v, coefficients, _, rest = jax.lax.while_loop(leaves_little, another, first)
    alive = rest > 10 * eps
    v = tree.scale(jnp.where(alive, reciprocal(rest), 0), v)
    return v, jnp.where(alive, rest * length, 0), coefficients * length


def restarted(space: Subspace, ritz: RitzPairs, keep: int) -> Subspace:
    """The subspace of the first `keep` Ritz vectors (at most `filled`), with the pending rows after them."""
    slots = jnp.arange(len(space.projected))
    mixing = ritz.coordinates[:, :keep].T
    kept = jax.tree.map(lambda Q: combine_rows(mixing, Q), space.basis)
    lengths = jax.vmap(tree.norm)(kept)  # 1 but for rounding, which would add up from restart to restart

    def mixed(Q: jax.Array, y: jax.Array) -> jax.Array:
        Q = Q.at[:keep].set(y / jnp.expand_dims(lengths, range(1, y.ndim)).astype(y.dtype))
        # In place and in order: rows move down, so that none is written before it is read.
        return jax.lax.fori_loop(0, space.pending, lambda i, Q: Q.at[keep + i].set(Q[space.filled + i]), Q)

    beyond = jnp.roll(residuals(space, ritz), keep - space.filled, axis=0)
    couplings = jnp.where((slots < keep) & (slots >= keep)[:, None], beyond, 0)
    return space._replace(
        basis=jax.tree.map(mixed, space.basis, kept),
        projected=jnp.diag(jnp.where(slots < keep, ritz.values, 0)) + couplings + couplings.T,
        filled=jnp.full((), keep, jnp.int32),
    )
