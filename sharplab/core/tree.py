"""Linear algebra on vectors that are pytrees."""

import operator
import sys
from collections.abc import Mapping
from functools import lru_cache, partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
APART = (
    "keep what is not trained apart (of an NNX module: graphdef, params, rest = nnx.split(model, nnx.Param, ...); of "
    "Linen: variables['params']), and give it to the function by itself or bound with jax.tree_util.Partial"
)
UNTRAINED = ("BatchStat", "Cache", "Intermediate")  # variables of NNX
COLLECTIONS = ("batch_stats", "cache", "intermediates")  # of Linen, beside "params"


def size(tree: PyTree) -> int:
    """The number of entries of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def dtype(*trees: PyTree) -> jnp.dtype:
    """The type in which vectors and sums over all leaves are made: float64 where a leaf is, else float32."""
    double = any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(trees))
    return jax.dtypes.canonicalize_dtype(np.float64 if double else np.float32)


def floats(tree: PyTree, name: str) -> PyTree:
    """The same pytree with every leaf a real floating array; Python's and numpy's numbers count as such.

    Raises:
        ValueError: naming the argument `name` and the path of a leaf that is an integer, a boolean, complex, a random
            key or no array, or that Flax keeps beside the parameters, as batch statistics.

    >>> floats({"w": 1.5, "none": None}, "params")["w"].dtype
    dtype('float32')
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise ValueError(f"{name} must hold floating arrays, and holds none: {tree!r}.")
    if (untrained := _untrained(tree)) is not None:
        raise ValueError(f"{name} has {untrained}, which is not trained: {APART}.")
    if all(isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        return tree
    for path, leaf in named_leaves(tree).items():
        kind = np.dtype(float) if isinstance(leaf, float) else getattr(leaf, "dtype", type(leaf).__name__)
        if not (isinstance(kind, np.dtype) and jnp.issubdtype(kind, jnp.floating)):
            raise ValueError(
                f"{name} must be floating arrays throughout, but {path or 'its only leaf'} is of type {kind}: {APART}."
            )
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf)), tree)


def _untrained(tree: PyTree) -> str | None:
    """Where a pytree holds what Flax does not train, of which derivatives are no curvature; None if nowhere."""
    if isinstance(tree, Mapping) and "params" in tree:
        return next((f"the collection {name!r}" for name in COLLECTIONS if name in tree), None)
    nnx = sys.modules.get("flax.nnx")  # whoever has its variables has imported it
    if nnx is None:
        return None
    kinds = tuple(getattr(nnx, name) for name in UNTRAINED)
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_variable)
    return next((f"{_name(path)} ({type(node).__name__})" for path, node in nodes if isinstance(node, kinds)), None)


def is_wide(x: PyTree) -> bool:
    """Whether all leaves are of the one type `dtype(x)`."""
    kinds = {leaf.dtype for leaf in jax.tree.leaves(x)}
    return len(kinds) == 1 and kinds <= {dtype(x)}


def wide(x: PyTree) -> PyTree:
    """The same vector with all leaves in the one type `dtype(x)`."""
    common = dtype(x)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, common), x)


def cast(x: PyTree, like: PyTree) -> PyTree:
    """The same vector with each leaf in the type that it has in `like`."""
    return jax.tree.map(lambda leaf, other: jnp.asarray(leaf, other.dtype), x, like)


def dot(x: PyTree, y: PyTree) -> jax.Array:
    """The inner product ⟨x, y⟩ over all leaves, at the highest precision, in the type `dtype(x, y)`."""
    common = dtype(x, y)

    # Not by jnp.vdot, whose reshaping gathers leaves that are split over devices.
    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = jnp.asarray(a, common), jnp.asarray(b, common)
        return jnp.tensordot(a, b, axes=a.ndim, precision="highest")

    return jax.tree.reduce(operator.add, jax.tree.map(product, x, y))


def norm(x: PyTree) -> jax.Array:
    """The Euclidean norm ‖x‖₂ over all leaves."""
    return jnp.sqrt(dot(x, x))


def multiply(factors: PyTree, x: PyTree) -> PyTree:
    """The product diag(factors) x, each leaf in its own type; a factor may be one number for all of a leaf."""

    def one(leaf: jax.Array, factor: Any) -> jax.Array:
        common = dtype(factor, leaf)
        return (jnp.asarray(factor, common) * leaf.astype(common)).astype(leaf.dtype)

    return jax.tree.map(one, x, factors)


def scale(factor: jax.Array, x: PyTree) -> PyTree:
    """The multiple factor · x, each leaf in its own type."""
    return jax.tree.map(lambda leaf: multiply(factor, leaf), x)


def moved(x: PyTree, factor: Any, v: PyTree) -> PyTree:
    """The point x + factor · v, each leaf in the type that it has in x."""

    def one(leaf: jax.Array, other: jax.Array) -> jax.Array:
        a, b, c = (jnp.asarray(of, dtype(leaf, other, factor)) for of in (leaf, factor, other))
        return (a + b * c).astype(leaf.dtype)

    return jax.tree.map(one, x, v)


def binary_size(x: PyTree) -> jax.Array:
    """A power of two near the largest modulus of an entry of a wide vector, 0 for zeros and what is not finite."""
    sizes = [jnp.abs(leaf).max() for leaf in jax.tree.leaves(x) if leaf.size]
    largest = reduce(jnp.maximum, sizes, jnp.zeros((), dtype(x)))
    _, exponent = jnp.frexp(largest)  # exp2 is not exact
    exponent = jnp.minimum(exponent - 1, -jnp.finfo(largest.dtype).minexp)  # so that its reciprocal is a float
    size = jnp.where(jnp.isfinite(largest) & (largest > 0), jnp.ldexp(jnp.ones_like(largest), exponent), 0)
    return jax.lax.stop_gradient(size)  # a unit is no part of what is measured in it


@partial(jax.jit, inline=True)
def in_own_unit(x: PyTree) -> tuple[PyTree, jax.Array]:
    """The wide vector x/u and u, its `binary_size`, or 1: squares of x/u stay in the range of floats, digits as in x.

    >>> in_own_unit(2.0**-100 * jnp.array([3.0, -0.5]))[0].tolist()
    [1.5, -0.25]
    """
    x = wide(x)
    size = binary_size(x)
    unit = jnp.where(size > 0, size, 1)
    return scale(1 / unit, x), unit


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
    """The flat vector of all leaves one after another, in the type `dtype(x)`."""
    common = dtype(x)
    return jnp.concatenate([leaf.reshape(-1).astype(common) for leaf in jax.tree.leaves(x)])


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
