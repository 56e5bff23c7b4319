"""Diagonal blocks of an operator, on some of its parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import Factor, LinearMap
from sharplab.curvature.linear_operator import LinearOperator, an_operator


@checked(op=an_operator)
def block(op: LinearOperator, select: Callable[[str], bool]) -> LinearOperator:
    """The diagonal block E A Eᵀ of A, where E keeps the parameters that `select` chooses.

    Args:
        op: A; its factor R becomes R Eᵀ.
        select: path → whether the leaf belongs to the block, path as "layers/0/kernel".

    The block's domain is a plain dict {path: leaf}, in which leaves are sorted by path.

    Raises:
        ValueError: if no leaf is chosen.

    >>> two = LinearOperator(lambda d: lambda v: {"a": d * v["a"], "b": 5 * v["b"]}, jnp.array([1.0, 3.0]),
    ...                      {"a": jnp.zeros(2), "b": jnp.zeros(1)})
    >>> block(two, lambda path: path == "b").dense().tolist()
    [[5.0]]
    """
    named = tree.named_leaves(op.domain)
    chosen = {path: leaf for path, leaf in named.items() if select(path)}
    if not chosen:
        raise ValueError(f"select chooses none of the parameters: choose among {', '.join(named)}.")
    factor = (
        None if op.factor is None else Factor(_block_factor, (op.factor, op.domain, chosen), op.factor.out_structure)
    )
    return LinearOperator(_block_product, (op, chosen), chosen, factor, op.jittable, op.error)


def _block_product(args: PyTree) -> LinearMap:
    op, chosen = args
    product = op.matvec()
    return lambda v: _restrict(product(_embed(v, op.domain)), chosen)


def _block_factor(args: PyTree) -> tuple[LinearMap, LinearMap]:
    factor, domain, chosen = args
    forward, backward = factor.maps()
    return lambda v: forward(_embed(v, domain)), lambda u: _restrict(backward(u), chosen)


def _embed(v: dict[str, jax.Array], domain: PyTree) -> PyTree:
    leaves = [v[path] if path in v else jnp.zeros_like(leaf) for path, leaf in tree.named_leaves(domain).items()]
    return jax.tree.unflatten(jax.tree.structure(domain), leaves)


def _restrict(v: PyTree, chosen: dict[str, jax.Array]) -> dict[str, jax.Array]:
    named = tree.named_leaves(v)
    return {path: named[path] for path in chosen}
