"""A symmetric linear map known by its products alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sharplab import tree
from sharplab.tree import PyTree

DENSE_LIMIT = 4096


@partial(jax.tree_util.register_dataclass, data_fields=["args", "domain"], meta_fields=["prepare"])
@dataclass(frozen=True)
class LinearOperator:
    """A symmetric matrix A of shape (P, P) acting on pytrees.

    It is a pytree itself: passed through `jit` or `vmap` with new arrays in `args`, it causes no recompilation
    as long as `prepare` is the same function.

    Attributes:
        prepare: args → (v → A v). What all products share (the gradient's primal pass, say) is done in it once.
        args: pytree of all arrays that the products depend on.
        domain: a pytree of arrays shaped like the vectors; its values are not used.

    `op(v)` and `op @ v` take v like `domain` or any pytree of the same paths (a plain dict for an `nnx.State`),
    and answer like `domain`; or flat of shape (P,), or columns of shape (P, k), and answer alike.

    >>> op = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 3.0]), jnp.zeros(2))
    >>> (op @ jnp.ones(2)).tolist(), op.shape, op.dense().tolist()
    ([1.0, 3.0], (2, 2), [[1.0, 0.0], [0.0, 3.0]])
    """

    prepare: Callable[[PyTree], Callable[[PyTree], PyTree]]
    args: PyTree
    domain: PyTree

    __array_ufunc__ = None  # so that numpy's arrays leave `@` and `*` to this class

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P), with P the number of parameters."""
        return (tree.size(self.domain),) * 2

    @property
    def dtype(self) -> jnp.dtype:
        """The type in which products are summed up."""
        return tree.dtype(self.domain)

    def matvec(self) -> Callable[[PyTree], PyTree]:
        """v → A v for v like `domain`, with the shared work done now: call it once, apply it many times."""
        return self.prepare(self.args)

    def __call__(self, v: PyTree) -> PyTree:
        named, wanted = tree.named_leaves(v), tree.named_leaves(self.domain)
        if _shapes(named) == _shapes(wanted):
            leaves = [named[path] for path in wanted]
            return _product(self, jax.tree.unflatten(jax.tree.structure(self.domain), leaves))
        if isinstance(v, jax.Array | np.ndarray) and v.ndim in (1, 2) and v.shape[0] == self.shape[0]:
            v = jnp.asarray(v, self.dtype)
            return _flat_product(self, v) if v.ndim == 1 else jax.vmap(_flat_product, (None, 1), 1)(self, v)
        raise ValueError(
            f"v does not fit the operator: give a pytree like its domain ({jax.tree.structure(self.domain)}) "
            f"or an array of shape ({self.shape[0]},) or ({self.shape[0]}, k)."
        )

    def __matmul__(self, v: PyTree) -> PyTree:
        return self(v)

    def dense(self) -> jax.Array:
        """The matrix, shape (P, P), in the order of `jax.flatten_util.ravel_pytree`.

        Raises:
            ValueError: if P exceeds 4,096.
        """
        size = self.shape[0]
        if size > DENSE_LIMIT:
            raise ValueError(f"the operator has {size} rows: dense() is for at most {DENSE_LIMIT}; use eigsh.")
        return self(jnp.eye(size, dtype=self.dtype))


def _shapes(named: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {path: jnp.shape(leaf) for path, leaf in named.items()}


@jax.jit
def _product(op: LinearOperator, v: PyTree) -> PyTree:
    return op.matvec()(v)


@jax.jit
def _flat_product(op: LinearOperator, v: jax.Array) -> jax.Array:
    _, unravel = ravel_pytree(op.domain)
    return ravel_pytree(op.matvec()(unravel(v)))[0]
