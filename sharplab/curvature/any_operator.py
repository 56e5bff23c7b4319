"""Operators of anyone's own products, in JAX or on the host."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core import tree
from sharplab.core.arguments import checked, function
from sharplab.core.reading import partial_as_it_reads
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.linear_operator import LinearOperator


@checked(matvec=function)
def operator(matvec: Callable[[PyTree], PyTree], like: PyTree, *, jittable: bool = True) -> LinearOperator:
    """The operator with the products v → A v of a symmetric matrix A, on vectors like `like`; shape (P, P).

    Args:
        matvec: v → A v, of the structure, shapes and types of v up to rounding.
        like: a pytree of floating arrays, whose values are not used.
        jittable: False for a function that computes on the host, such as with numpy, scipy or PyTorch. It is given
            arrays of numpy, and called from Python for each product, outside of compiled programs: what it raises is
            raised as it is, and the operator does not run under `jit`. Vectors are float64 where `like` is and JAX has
            it enabled, else float32.

    That A is symmetric is up to `matvec`; `sharplab.eigsh` refuses products that show that it is not. A JAX function
    should live on, with changing arrays bound by `jax.tree_util.Partial`: each new one compiles its own programs.

    Raises:
        ValueError: for a `matvec` that is no function or whose product is unlike v, and a `like` that is not floats.

    >>> A = np.diag([1.0, 3.0])
    >>> operator(lambda v: A @ v, np.zeros(2), jittable=False).dense().tolist()
    [[1.0, 0.0], [0.0, 3.0]]
    """
    like = tree.floats(like, "like")
    if not jittable:
        return LinearOperator(_on_host, _HostFunction(matvec), like, jittable=False)
    _require_alike(jax.eval_shape(matvec, like), like)
    return LinearOperator(_itself, partial_as_it_reads(matvec, like), like)


@jax.tree_util.register_static
class _HostFunction:
    """A function without leaves, that no program is given."""

    def __init__(self, function: Callable[[PyTree], PyTree]) -> None:
        self.function = function


def _itself(matvec: LinearMap) -> LinearMap:
    return matvec


def _on_host(matvec: _HostFunction) -> LinearMap:
    def product(v: PyTree) -> PyTree:
        if tree.is_traced(v):
            raise ValueError("op computes on the host and cannot run under jit, vmap or grad: call it outside of them.")
        found = jax.tree.map(np.asarray, matvec.function(jax.tree.map(np.array, v)))  # copies, which it may change
        _require_alike(found, v)
        return jax.tree.map(lambda like, x: jnp.asarray(x, like.dtype), v, found)

    return product


def _require_alike(found: PyTree, v: PyTree) -> None:
    """Raise a ValueError unless a product has the structure and shapes of the vector, and real numbers."""
    returned, wanted = (str(jax.tree.structure(of)) for of in (found, v))
    if returned != wanted:
        raise ValueError(f"matvec must return a product like v, {wanted}, not {returned}.")
    for (path, like), product in zip(tree.named_leaves(v).items(), jax.tree.leaves(found), strict=True):
        kind, shape = product.dtype, product.shape
        if shape != like.shape or not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
            of = f" for {path!r}" if path else ""
            raise ValueError(f"matvec must return real numbers of shape {like.shape}{of}, not {kind} of {shape}.")
