"""Linear algebra on vectors that are pytrees."""

import operator
import sys
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def size(tree: PyTree) -> int:
    """The number of entries of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def dtype(tree: PyTree) -> jnp.dtype:
    """The promoted type of all leaves, in which sums over them are made."""
    return jnp.result_type(*jax.tree.leaves(tree))


def dot(x: PyTree, y: PyTree) -> jax.Array:
    """The inner product ⟨x, y⟩ over all leaves, at the highest precision."""
    # Not by jnp.vdot, whose reshaping gathers leaves that are split over devices.
    products = jax.tree.map(lambda a, b: jnp.tensordot(a, b, axes=jnp.ndim(a), precision="highest"), x, y)
    return jax.tree.reduce(operator.add, products)


def norm(x: PyTree) -> jax.Array:
    """The Euclidean norm ‖x‖₂ over all leaves."""
    return jnp.sqrt(dot(x, x))


def scale(factor: jax.Array, x: PyTree) -> PyTree:
    """The multiple factor · x, each leaf in its own type."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), x)


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves by path, as "blocks/0/kernel"; an `nnx.State` and the dict of its values have the same paths.

    Raises:
        ValueError: where two leaves have one path, as in {"a/b": 1, "a": {"b": 2}}.

    >>> named_leaves({"a": {"value": 1}, "c": [2, 3]})
    {'a/value': 1, 'c/0': 2, 'c/1': 3}
    """
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_variable)
    leaves = [leaf for path, node in nodes for leaf in (_within(path, node) if _is_variable(node) else [(path, node)])]
    named = {_name(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(f"two leaves have one path; they are {', '.join(named)}: give each a name of its own.")
    return named


@lru_cache(maxsize=4096)
def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_variable(node: Any) -> bool:
    return _holds_a_value(node.__class__)


@lru_cache(maxsize=1024)
def _holds_a_value(kind: type) -> bool:
    """Whether this is a kind of variable of Flax, or of box of Linen; whoever has one has imported Flax."""
    homes = (("flax.nnx", "Variable"), ("flax.core.meta", "AxisMetadata"))
    return issubclass(kind, tuple(getattr(sys.modules[home], name) for home, name in homes if home in sys.modules))


def _within(path: tuple, variable: Any) -> list[tuple[tuple, Any]]:
    """The leaves within a variable, whose own key, the first, is no part of their paths."""
    return [(path + inner[1:], leaf) for inner, leaf in jax.tree_util.tree_leaves_with_path(variable)]


def is_traced(tree: PyTree) -> bool:
    """Whether any leaf is being traced, by `jit` or another transformation."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def normal(key: jax.Array, like: PyTree) -> PyTree:
    """A pytree of independent standard normal entries, shaped like `like`."""
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, noise)


@jax.jit
def ravel(x: PyTree) -> jax.Array:
    """The flat vector of all leaves one after another, in at least float32."""
    leaves = jax.tree.leaves(x)
    wide = jnp.result_type(jnp.float32, *leaves)
    return jnp.concatenate([leaf.reshape(-1).astype(wide) for leaf in leaves])


@jax.jit
def unravel(flat: jax.Array, like: PyTree) -> PyTree:
    """The pytree shaped like `like`, in its types, of which `flat` is the `ravel`.

    >>> like = {"a": jnp.zeros((2, 1)), "b": jnp.zeros(1)}
    >>> {name: leaf.tolist() for name, leaf in unravel(jnp.arange(3.0), like).items()}
    {'a': [[0.0], [1.0]], 'b': [2.0]}
    """
    leaves, treedef = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = jnp.split(flat, ends[:-1])
    shaped = [p.reshape(leaf.shape).astype(leaf.dtype) for p, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(treedef, shaped)


def where(condition: jax.Array, x: PyTree, y: PyTree) -> PyTree:
    """The pytree x if the scalar condition holds, else y."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)
