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
from sharplab.spectrum.rows import (
    combine_rows,
    reciprocal,
    recombine,
    row_at,
    row_products,
    with_row,
    without_rows,
    without_some_rows,
)


class Subspace(NamedTuple):
    """A basis of m rows, of which first `filled` and then `pending` ones are in use; the others hold stale vectors."""

    basis: PyTree  # Q: each leaf with a leading axis m
    projected: (
        jax.Array
    )  # T = Q A Qᵀ (m, m), zero in unused rows; between pending rows it is not known. Or, where a last
    # row is yet to be written or combined with the others, (m + 1, m + 1)
    filled: jax.Array
    pending: jax.Array
    asymmetry: jax.Array  # the largest |⟨q_i, A q_j⟩ − ⟨A q_i, q_j⟩| so far: the rounding of products

    def row(self, slot: jax.Array) -> PyTree:
        """One vector of the basis."""
        return row_at(self.basis, slot)

    @property
    def direction(self) -> PyTree:
        """The row to be multiplied next, the first pending one."""
        return self.row(self.filled)

    @property
    def rows(self) -> int:
        """The number of rows that the basis has room for."""
        return len(jax.tree.leaves(self.basis)[0])

    @property
    def size(self) -> int:
        """The number of entries of a vector."""
        return tree.size(self.basis) // self.rows

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


def subspace_of(direction: PyTree, rows: int) -> Subspace:
    """The subspace of one vector of length 1, which is yet to be multiplied."""
    space = empty_subspace(direction, rows)
    basis = jax.tree.map(lambda Q, x: Q.at[0].set(x), space.basis, direction)
    return space._replace(basis=basis, pending=jnp.ones((), jnp.int32))


def with_product(space: Subspace, product: PyTree, negligible: jax.typing.ArrayLike) -> Subspace:
    """The subspace with the product of A with `direction`: that row is filled, and the part outside is a pending row.

    A part outside of all rows that is no longer than `negligible` counts as rounding. A row must be left even so.
    """
    grown, q = projected_product(space, product, negligible)
    # Written after all that is read, or a compiled loop would copy the basis; so below.
    return with_row_written(grown, q, space.in_use)


def with_row_written(space: Subspace, q: PyTree, slot: jax.Array) -> Subspace:
    """The subspace with q in that row of its basis."""
    return space._replace(basis=jax.tree.map(lambda Q, x: with_row(Q, x, slot), space.basis, q))


def projected_product(space: Subspace, product: PyTree, negligible: jax.typing.ArrayLike) -> tuple[Subspace, PyTree]:
    """The subspace of `with_product` and its last row, which is yet to be written."""
    j, end, slots = space.filled, space.in_use, jnp.arange(len(space.projected))
    row = row_at(space.projected, j)  # ⟨A q_i, q_j⟩ of the filled rows i, known from their own products
    known = jnp.where(slots == j, tree.dot(space.direction, product), jnp.where(slots < j, row, 0))
    q, rest, column = orthonormal(space, product, known)
    asymmetry = jnp.max(jnp.where(slots < j, jnp.abs(column - row), 0))
    column = jnp.where(slots < j, (column + row) / 2, column)  # either is T_ij but for rounding
    outside = (rest > negligible) & (end < min(len(slots), space.size))
    column = jnp.where(slots == end, jnp.where(outside, rest, 0), column)
    projected = jnp.where(
        slots[None] == j, column[:, None], jnp.where(slots[:, None] == j, column[None], space.projected)
    )
    grown = space._replace(
        projected=projected,
        filled=j + 1,
        pending=jnp.where(outside, space.pending, space.pending - 1),
        asymmetry=jnp.maximum(space.asymmetry, asymmetry),
    )
    return grown, q


def with_direction(space: Subspace, q: PyTree, wanted: jax.Array) -> Subspace:
    """The subspace with q as a new row and `direction`, if `wanted`.

    q has length 1 and is orthogonal to all rows.
    """
    j, end, slots = space.filled, space.in_use, jnp.arange(len(space.projected))
    slot = jnp.where(wanted, end, j)  # where the row goes that stood first among the pending ones
    exchange = jnp.where(slots == j, slot, jnp.where(slots == slot, j, slots))
    places = jnp.stack([slot, j])

    def written(Q: jax.Array, x: jax.Array) -> jax.Array:
        rows = jnp.stack([row_at(Q, j), jnp.where(wanted, x, row_at(Q, j))])
        return jax.lax.fori_loop(0, 2, lambda i, Q: with_row(Q, *row_at((rows, places), i)), Q)

    return space._replace(
        basis=jax.tree.map(written, space.basis, q),
        projected=space.projected[exchange][:, exchange],
        pending=jnp.where(wanted, space.pending + 1, space.pending),
    )


def rotated(space: Subspace, weights: jax.Array) -> Subspace:
    """The subspace with `direction` along Σ weights[i] q_i over the pending rows, which are reflected to that end.

    Where these weights are 0, nothing changes.
    """
    slots = jnp.arange(len(space.projected))
    weights = jnp.where((slots >= space.filled) & (slots < space.in_use), weights, 0)
    size = jnp.linalg.norm(weights)
    weights = weights * jnp.where(row_at(weights, space.filled) < 0, -1, 1) * reciprocal(size)
    # The reflection I − 2wwᵀ that takes the first pending row there; none where it is there.
    w = jnp.where(slots == space.filled, 1, 0) - weights
    length = jnp.linalg.norm(w)
    wanted = (size > 0) & (length > jnp.finfo(w.dtype).eps)
    w = jnp.where(wanted, w * reciprocal(length), 0)
    end = jnp.where(wanted, space.in_use, space.filled)

    def reflected(Q: jax.Array) -> jax.Array:
        along = jax.lax.cond(wanted, lambda: combine_rows(w, Q), lambda: jnp.zeros_like(Q[0]))

        def one(i: jax.Array, Q: jax.Array) -> jax.Array:
            share, row = row_at((w, Q), i)
            return with_row(Q, row - 2 * share.astype(Q.dtype) * along, i)

        return jax.lax.fori_loop(space.filled, end, one, Q)

    reflection = jnp.eye(len(slots), dtype=w.dtype) - 2 * w[:, None] * w[None]
    projected = jnp.linalg.multi_dot([reflection, space.projected, reflection], precision="highest")
    return space._replace(basis=jax.tree.map(reflected, space.basis), projected=projected)


def ritz_pairs(space: Subspace, preference: Callable[[jax.Array, jax.Array], jax.Array]) -> RitzPairs:
    """The Ritz pairs, in descending order of `preference(values, used)` of the ascending values."""
    T, used = _filled_part(space, jnp.zeros((), jnp.int32))
    values, coordinates = jnp.linalg.eigh(T)
    order = jnp.argsort(jnp.where(used, -preference(values, used).astype(values.dtype), jnp.inf))
    return RitzPairs(values[order], coordinates[:, order], used[order])


def known_ritz_pairs(values: jax.Array, count: int) -> RitzPairs:
    """The Ritz pairs of a subspace whose first `count` rows are the Ritz vectors of the first `values`."""
    slots = jnp.arange(len(values))
    return RitzPairs(values, jnp.eye(len(values), dtype=values.dtype), slots < count)


def ritz_values_from(space: Subspace, begin: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The Ritz values, ascending, of the filled rows from `begin` on alone, and which slots hold one."""
    T, used = _filled_part(space, begin)
    return jnp.linalg.eigvalsh(T), used


def _filled_part(space: Subspace, begin: jax.Array) -> tuple[jax.Array, jax.Array]:
    slots = jnp.arange(len(space.projected))
    inside = (slots >= begin) & (slots < space.filled)
    T = jnp.where(inside[:, None] & inside[None], space.projected, 0)
    # Unused slots are decoupled and sit below the spectrum of T, so that nothing mixes with them.
    outside = -1.1 * jnp.linalg.norm(T) - jnp.finfo(T.dtype).tiny
    return T + jnp.diag(jnp.where(inside, 0, outside)), slots >= len(slots) - inside.sum()


def residuals(space: Subspace, ritz: RitzPairs) -> jax.Array:
    """The residuals A y − θ y of all Ritz pairs, as coefficients in the basis: shape (m, m), column i of pair i."""
    slots = jnp.arange(len(space.projected))
    pending = (slots >= space.filled) & (slots < space.in_use)
    beyond = jnp.where(pending[:, None] & (slots < space.filled)[None], space.projected, 0)
    return jnp.matmul(beyond, ritz.coordinates, precision="highest")


def orthonormal(space: Subspace, v: PyTree, known: jax.Array) -> tuple[PyTree, jax.Array, jax.Array]:
    """The normalised part of v outside of the rows, its norm, and the coefficients of the part inside, shape (m,).

    Where only rounding is left, the vector and its norm are 0. Classical Gram-Schmidt begins with the coefficients that
    are `known`, approximately, with zeros for the others; after these, one pass over all rows most often suffices. A
    pass that leaves less than half of the norm is followed by another (Daniel, Gragg, Kaufman & Stewart, Math. Comp. 30
    (1976)), so what a pass leaves is told by Pythagoras, without a sum over the vector.
    """
    rounding = 10 * jnp.finfo(space.projected.dtype).eps
    counted = jnp.arange(len(space.projected)) < space.in_use
    # With few rows, one after another costs little time, and the memory of a vector less.
    remove = without_some_rows if space.rows < len(space.projected) else without_rows

    def another(passed: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        v, coefficients, _, _ = passed
        before = tree.dot(v, v)
        products = row_products(space.basis, v)
        part = jnp.where(counted, jnp.pad(products, (0, len(counted) - len(products))), 0)
        coefficients += part
        rest = before - jnp.sum(part**2)
        alive = rest > rounding**2 * (jnp.sum(coefficients**2) + before)
        return remove(v, space.basis, part), coefficients, jnp.where(alive, rest, 0), alive & (rest < before / 4)

    first = (without_some_rows(v, space.basis, known), known, jnp.zeros((), known.dtype), jnp.asarray(True))
    v, coefficients, rest, _ = jax.lax.while_loop(lambda passed: passed[-1], another, first)
    rest = jnp.sqrt(rest)
    return tree.scale(reciprocal(rest), v), rest, coefficients


def restarted(space: Subspace, ritz: RitzPairs, keep: int) -> Subspace:
    """The subspace of the first `keep` Ritz vectors (at most `filled`), with the pending rows after them."""
    slots = jnp.arange(len(space.projected))
    mixing = ritz.coordinates[:, :keep].T
    kept = jax.tree.map(lambda Q: combine_rows(mixing, Q), space.basis)
    lengths = jax.vmap(tree.norm)(kept)  # 1 but for rounding, which would add up from restart to restart

    def mixed(Q: jax.Array, y: jax.Array) -> jax.Array:
        Q = Q.at[:keep].set(y / jnp.expand_dims(lengths, range(1, y.ndim)).astype(y.dtype))
        # In place and in order: rows move down, so that none is written before it is read.
        return jax.lax.fori_loop(0, space.pending, lambda i, Q: with_row(Q, row_at(Q, space.filled + i), keep + i), Q)

    beyond = residuals(space, ritz)[(slots + space.filled - keep) % len(slots)]
    couplings = jnp.where((slots < keep)[None] & (slots >= keep)[:, None], beyond, 0)
    return space._replace(
        basis=jax.tree.map(mixed, space.basis, kept),
        projected=jnp.diag(jnp.where(slots < keep, ritz.values, 0)) + couplings + couplings.T,
        filled=jnp.full((), keep, jnp.int32),
    )


def compressed(
    space: Subspace, ritz: RitzPairs, q: PyTree, preference: Callable[[jax.Array, jax.Array], jax.Array]
) -> Subspace:
    """The subspace in four rows, made of all and of q, a last one that there was no room for.

    They serve the best Ritz vector y almost as well as all did. Filled are y and p, the part outside of y of the best
    Ritz vector before the last product; pending is the span of what A y and A p have outside of these two, the residual
    of y first. With it, Rayleigh-Ritz is that of locally optimal conjugate gradients: Knyazev, SIAM J. Sci. Comput. 23
    (2001); Stathopoulos & Saad, ETNA 7 (1998).
    """
    T = space.projected
    eps = jnp.finfo(T.dtype).eps

    def outside(v: jax.Array, *rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        for row in (*rows, *rows):
            v = v - jnp.sum(row * v) * row
        size = jnp.linalg.norm(v)
        return v * reciprocal(size), size

    y = ritz.coordinates[:, 0]
    earlier = ritz_pairs(space._replace(filled=space.filled - 1), preference).coordinates[:, 0]
    p, moved = outside(earlier, y)
    p = jnp.where(moved > eps, p, ritz.coordinates[:, 1])
    Ay, Ap = jnp.matmul(jnp.stack([y, p]), T, precision="highest")
    r, _ = outside(Ay, y, p)
    s, rest = outside(Ap, y, p, r)
    mixing = jnp.stack([y, p, r, s])
    count = len(mixing)
    basis = jax.tree.map(lambda Q, x: recombine(mixing, Q, x), space.basis, q)

    def normalised(i: jax.Array, basis: PyTree) -> PyTree:
        row = row_at(basis, i)
        length = tree.norm(row)  # 1 but for rounding, which would add up from product to product
        return jax.tree.map(lambda Q, x: with_row(Q, x * reciprocal(length).astype(x.dtype), i), basis, row)

    projected = jnp.linalg.multi_dot([mixing, T, mixing.T], precision="highest").at[2:, 2:].set(0)
    return Subspace(
        basis=jax.lax.fori_loop(0, count, normalised, basis),
        projected=jnp.zeros_like(T).at[:count, :count].set((projected + projected.T) / 2),
        filled=jnp.full((), 2, jnp.int32),
        pending=jnp.where(rest > eps * jnp.linalg.norm(T), 2, 1).astype(jnp.int32),
        asymmetry=space.asymmetry,
    )
