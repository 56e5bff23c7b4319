"""Unit balls of norms that are the largest of the norms of leaves: of matrices the spectral one, else the modulus."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree


class Matrices(NamedTuple):
    """A leaf as matrices: which axes are their rows, and which their columns; along others lie several of them."""

    rows: tuple[int, ...] = (0,)
    columns: tuple[int, ...] = (1,)

    def of(self, x: jax.Array) -> jax.Array:
        """The matrices of a leaf, shape (number, rows, columns)."""
        order, shape = self._order(x.shape), self._shape(x.shape)
        return x.transpose(order).reshape(shape)

    def back(self, matrices: jax.Array, like: jax.Array) -> jax.Array:
        """The leaf of matrices, shaped like another."""
        order = self._order(like.shape)
        there = matrices.reshape([like.shape[axis] for axis in order])
        return there.transpose([order.index(axis) for axis in range(like.ndim)])

    def rank(self, shape: tuple[int, ...]) -> int:
        """The most singular values that a leaf has, over all of its matrices."""
        number, rows, columns = self._shape(shape)
        return number * min(rows, columns)

    def _order(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        ours = (*self.rows, *self.columns)
        return (*(axis for axis in range(len(shape)) if axis not in ours), *ours)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        rows, columns = (prod(shape[axis] for axis in axes) for axes in (self.rows, self.columns))
        return prod(shape) // max(rows * columns, 1), rows, columns


@dataclass(frozen=True)
class UnitBall:
    """The unit ball of ‖d‖, the largest norm of a leaf: of one that is matrices their spectral norm, else the modulus.

    Attributes:
        leaves: how each leaf is matrices, in the order of `jax.tree.leaves`; None for one that is not.

    >>> ball = UnitBall((None, Matrices()))
    >>> g = (jnp.array([3.0, -4.0]), jnp.diag(jnp.array([2.0, 1.0])))
    >>> float(ball.norm(g)), float(ball.dual_norm(g))
    (4.0, 10.0)
    """

    leaves: tuple[Matrices | None, ...]

    def norm(self, d: PyTree) -> jax.Array:
        """‖d‖."""
        largest = jax.tree.map(lambda sizes: jnp.max(sizes, initial=0), self._sizes(d))
        return jax.tree.reduce(jnp.maximum, largest)

    def dual_norm(self, g: PyTree) -> jax.Array:
        """‖g‖*, the largest ⟨g, d⟩ in the ball: the sum of nuclear norms of matrices and moduli of other entries."""
        return jax.tree.reduce(operator.add, jax.tree.map(jnp.sum, self._sizes(g)))

    def farthest(self, y: PyTree, shift: jax.typing.ArrayLike = 0.0) -> PyTree:
        """The d of the ball with the largest 2⟨y, d⟩ − shift · ‖d‖₂², shift ≥ 0.

        It is the point of the ball nearest to y/shift; with a shift of 0, polar factors of matrices and signs.
        """

        def share(size: jax.Array) -> jax.Array:
            inside = size < shift
            return jnp.where(inside, size / jnp.where(inside, shift, 1), 1).astype(size.dtype)

        def of(leaf: jax.Array, matrices: Matrices | None) -> jax.Array:
            if matrices is None:
                return jnp.copysign(share(jnp.abs(leaf)), leaf)
            U, sizes, Vh = jnp.linalg.svd(matrices.of(leaf), full_matrices=False)
            return matrices.back(jnp.matmul(U * share(sizes)[:, None, :], Vh, precision="highest"), leaf)

        return self._map(of, y)

    def most_square(self, like: PyTree) -> int:
        """The largest ‖d‖₂² in the ball, of vectors like `like`."""
        sizes = self._map(lambda leaf, of: leaf.size if of is None else of.rank(leaf.shape), like)
        return sum(jax.tree.leaves(sizes))

    def _sizes(self, x: PyTree) -> PyTree:
        """The singular values of matrices, and the moduli of other entries."""

        def of(leaf: jax.Array, matrices: Matrices | None) -> jax.Array:
            return jnp.abs(leaf) if matrices is None else jnp.linalg.svd(matrices.of(leaf), compute_uv=False)

        return self._map(of, x)

    def _map(self, function: Callable[[Any, Matrices | None], Any], x: PyTree) -> PyTree:
        leaves, treedef = jax.tree.flatten(x)
        return jax.tree.unflatten(treedef, [function(*pair) for pair in zip(leaves, self.leaves, strict=True)])


def named_ball(norm: str, domain: PyTree, matrices: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> UnitBall:
    """The ball of vectors like `domain` in the norm "spectral" or "linf".

    In "spectral" a leaf with two axes is a matrix, one with fewer counts by its modulus, and of others `matrices` says
    by path which axes are rows and which columns.

    Raises:
        ValueError: for a leaf of more than two axes without an entry, and for entries that fit no leaf.
    """
    named = tree.named_leaves(domain)
    if norm == "linf":
        return UnitBall((None,) * len(named))
    if unknown := sorted(matrices.keys() - named.keys()):
        raise ValueError(f"matrices has an entry for {unknown[0]!r}, which is none of {', '.join(named)}.")
    axes = {path: Matrices(tuple(rows), tuple(columns)) for path, (rows, columns) in matrices.items()}
    return UnitBall(tuple(_matrices(path, leaf.ndim, axes.get(path)) for path, leaf in named.items()))


def _matrices(path: str, ndim: int, axes: Matrices | None) -> Matrices | None:
    if axes is None:
        if ndim > 2:
            raise ValueError(
                f"matrices: {path!r} has {ndim} axes: say which are the rows and which the columns of a matrix, as by "
                f"matrices={{{path!r}: ({tuple(range(ndim - 1))}, {(ndim - 1,)})}} for a kernel of Flax."
            )
        return Matrices() if ndim == 2 else None
    rows, columns = axes
    within = all(axis in range(ndim) for axis in (*rows, *columns))
    if not rows or not columns or not within or len({*rows, *columns}) < len(rows) + len(columns):
        raise ValueError(
            f"matrices: {path!r} has {ndim} axes, each to be named once at most, not {rows} and {columns}."
        )
    return Matrices(tuple(rows), tuple(columns))
