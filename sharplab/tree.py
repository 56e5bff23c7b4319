"""Vectors that are pytrees: the linear algebra that Lanczos and the operators need."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def size(tree: PyTree) -> int:
    """How many numbers the leaves hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def dtype(tree: PyTree) -> jnp.dtype:
    """The type in which sums over all leaves are made."""
    return jnp.result_type(*jax.tree.leaves(tree))


def dot(x: PyTree, y: PyTree) -> jax.Array:
    """⟨x, y⟩ over all leaves."""
    return jax.tree.reduce(operator.add, jax.tree.map(jnp.vdot, x, y))


def norm(x: PyTree) -> jax.Array:
    """‖x‖₂ over all leaves."""
    return jnp.sqrt(dot(x, x))


def scale(factor: jax.Array, x: PyTree) -> PyTree:
    """factor · x, each leaf in its own type."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), x)


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves by path, as "blocks/0/kernel"; an `nnx.State` and the dict of its values have the same paths.

    >>> named_leaves({"a": {"b": 1}, "c": [2, 3]})
    {'a/b': 1, 'c/0': 2, 'c/1': 3}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value"): leaf for path, leaf in leaves
    }


def normal(key: jax.Array, like: PyTree) -> PyTree:
    """Independent standard normal entries, shaped like `like`."""
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, noise)


def where(condition: jax.Array, x: PyTree, y: PyTree) -> PyTree:
    """x if the scalar condition holds, else y."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)
