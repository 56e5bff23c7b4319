"""A growing subspace with what is known of A in it, and the Ritz pairs there.

All rows of the basis Q are orthonormal. The first `filled` of them have been multiplied; the `pending` ones after those
are what the products reach beyond, so that A q_j = Σ_i T_ij q_i over all rows i, for every filled j: a block Krylov
relation, which holds as well after a restart with some of the Ritz vectors (Wu & Simon, SIAM J. Matrix Anal. Appl. 22
(2000): thick restart) and when random vectors are taken in at any time. The residual of a Ritz pair y is
Σ_i (T y)_i q_i over the pending rows, its norm that of a few numbers. Grown from one vector this is the Lanczos process
with full reorthogonalisation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.spectrum.rows import combine_rows, row_products, without_rows, without_some_rows


class Subspace(NamedTuple):
    """Of m rows, `filled` and then `pending` ones count; those beyond hold what was there before, and zeros in T."""

    basis: PyTree  # Q: each leaf with a leading axis m
    projected: jax.Array  # T = Q A Qᵀ (m, m); of pending rows with each other it is not known
    filled: jax.Array
    pending: jax.Array
    asymmetry: jax.Array  # the largest |⟨q_i, A q_j⟩ − ⟨A q_i, q_j⟩| so far: the product's rounding, seen for free

    def row(self, slot: jax.Array) -> PyTree:
        """One vector of the basis."""
        return jax.tree.map(lambda Q: Q[slot], self.basis)

    @property
    def direction(self) -> PyTree:
        """The row to be multiplied next, the first pending one."""
        return self.row(self.filled)

    @property
    def in_use(self) -> jax.Array:
        """How many rows count."""
        return self.filled + self.pending


class RitzPairs(NamedTuple):
    """In order of preference; slots beyond `filled` are marked unused."""

    values: jax.Array  # (m,)
    coordinates: jax.Array  # (m, m): column i holds the i-th Ritz vector in the basis
    used: jax.Array  # (m,) of booleans


def empty_subspace(like: PyTree, rows: int) -> Subspace:
    """Room for `rows` vectors shaped like `like`."""
    dtype, none = tree.dtype(like), jnp.zeros((), jnp.int32)
    basis = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), like)
    return Subspace(basis, jnp.zeros((rows, rows), dtype), none, none, jnp.zeros((), dtype))


def with_product(space: Subspace, product: PyTree, least: jax.typing.ArrayLike) -> Subspace:
    """Take in the product of A with `direction`: that row is filled now, what it reaches beyond all rows is pending.

    A part beyond that is no longer than `least` is taken for rounding. There must be a row left for it, even so.
    """
    j, end, slots = space.filled, space.in_use, jnp.arange(len(space.projected))
    row = space.projected[j]  # ⟨A q_i, q_j⟩ of the filled rows i, known from their own products
    known = jnp.where(slots < j, row, 0).at[j].set(tree.dot(space.direction, product))
    q, rest, column = orthonormal(space, product, known)
    asymmetry = jnp.max(jnp.where(slots < j, jnp.abs(column - row), 0))
    column = jnp.where(slots < j, (column + row) / 2, column)  # either is T_ij but for rounding
    reaches = (rest > least) & (end < len(slots) - 1)
    column = jnp.where(slots == end, jnp.where(reaches, rest, 0), column)
    return Subspace(
        # Written after all that is read, or a compiled loop would copy the basis; so below.
        basis=jax.tree.map(lambda Q, x: jax.lax.dynamic_update_index_in_dim(Q, x, end, 0), space.basis, q),
        projected=space.projected.at[:, j].set(column).at[j, :].set(column),
        filled=j + 1,
        pending=space.pending - 1 + reaches,
        asymmetry=jnp.maximum(space.asymmetry, asymmetry),
    )


def with_direction(space: Subspace, q: PyTree, wanted: jax.Array) -> Subspace:
    """If `wanted`, with q, of length 1 and orthogonal to all rows and their products, as a new row and `direction`."""
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
    """With the pending rows rotated among themselves, so that `direction` is along Σ weights[i] q_i of theirs.

    Where these weights are 0, all stays as it is.
    """
    slots = jnp.arange(len(space.projected))
    weights = jnp.where((slots >= space.filled) & (slots < space.in_use), weights, 0)
    weights = weights * jnp.where(weights[space.filled] < 0, -1, 1) * _reciprocal(jnp.linalg.norm(weights))
    # The reflection I − 2wwᵀ that takes the first pending row there; none where it is there.
    w = jnp.where(slots == space.filled, 1, 0) - weights
    length = jnp.linalg.norm(w)
    wanted = weights.any() & (length > jnp.finfo(w.dtype).eps)
    w = jnp.where(wanted, w * _reciprocal(length), 0)
    end = jnp.where(wanted, space.in_use, space.filled)

    def reflected(Q: jax.Array) -> jax.Array:
        along = jax.lax.cond(wanted, lambda: combine_rows(w, Q), lambda: jnp.zeros_like(Q[0]))
        return jax.lax.fori_loop(space.filled, end, lambda i, Q: Q.at[i].add(-2 * w[i].astype(Q.dtype) * along), Q)

    reflection = jnp.eye(len(slots), dtype=w.dtype) - 2 * w[:, None] * w
    projected = jnp.linalg.multi_dot([reflection, space.projected, reflection], precision="highest")
    return space._replace(basis=jax.tree.map(reflected, space.basis), projected=projected)


def ritz_pairs(space: Subspace, preference: Callable[[jax.Array, jax.Array], jax.Array]) -> RitzPairs:
    """The eigenpairs of T; `preference(values, used)`, for ascending values, is highest for what is wanted most."""
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
    """A y − θ y of every Ritz pair, by its coefficients in the rows of the basis: shape (m, m), column i of pair i."""
    slots = jnp.arange(len(space.projected))
    pending = (slots >= space.filled) & (slots < space.in_use)
    beyond = jnp.where(pending[:, None] & (slots < space.filled), space.projected, 0)
    return jnp.matmul(beyond, ritz.coordinates, precision="highest")


def orthonormal(space: Subspace, v: PyTree, known: jax.Array) -> tuple[PyTree, jax.Array, jax.Array]:
    """v less its part in the rows, normalised; the norm of what was left; the coefficients of the part, shape (m,).

    Where nothing but rounding is left, the vector and its norm are 0. By classical Gram-Schmidt, begun with the
    coefficients that are `known`, right or not, zeros for those that are not: what they leave most often needs no more
    than one pass over all rows. A pass that leaves less than half of what it was given may have left rounding in the
    rows, and is followed by another (Daniel, Gragg, Kaufman & Stewart, Math. Comp. 30 (1976)).
    """
    eps = jnp.finfo(space.projected.dtype).eps
    length = tree.norm(v)
    known = known * _reciprocal(length)
    v = without_some_rows(tree.scale(_reciprocal(length), v), space.basis, known)
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
    v = tree.scale(jnp.where(alive, _reciprocal(rest), 0), v)
    return v, jnp.where(alive, rest * length, 0), coefficients * length


def _reciprocal(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def restarted(space: Subspace, ritz: RitzPairs, keep: int) -> Subspace:
    """The subspace of the first `keep` Ritz vectors, no more than are filled, with the pending rows after them."""
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
