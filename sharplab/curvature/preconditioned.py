"""An operator in a diagonal metric."""

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import Factor, LinearMap, scaled_factor
from sharplab.curvature.linear_operator import LinearOperator, an_operator, match_structure


@checked(op=an_operator)
def precondition(op: LinearOperator, scale: PyTree) -> LinearOperator:
    """The preconditioned operator S A S with S = diag(scale).

    The effective sharpness in a metric D is λmax(D^½ H D^½): pass √D.

    Args:
        op: A; its factor R becomes R S.
        scale: a pytree of the same paths as the operator's domain; a leaf may be one number for all of its entries.

    Raises:
        ValueError: if the paths differ.

    >>> import jax.numpy as jnp
    >>> diagonal = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 3.0]), jnp.zeros(2))
    >>> precondition(diagonal, jnp.array([2.0, 1.0])).dense().tolist()
    [[4.0, 0.0], [0.0, 3.0]]
    """
    scale = match_structure(op.domain, scale, "scale")
    for path, like in tree.named_leaves(op.domain).items():
        entry = tree.named_leaves(scale)[path]
        if isinstance(entry, str) or jnp.shape(entry) not in ((), like.shape):
            raise ValueError(f"scale must have one number, or one for each entry of {like.shape}, for {path!r}.")
    factor = None if op.factor is None else Factor(scaled_factor, (op.factor, scale), op.factor.out_structure)
    error = None if op.error is None else _largest(scale) ** 2 * op.error
    return LinearOperator(_scaled_product, (op, scale), op.domain, factor, op.jittable, error)


def _largest(scale: PyTree) -> jax.Array:
    return jnp.stack([jnp.max(jnp.abs(jnp.asarray(leaf))) for leaf in jax.tree.leaves(scale)]).max()


def _scaled_product(args: PyTree) -> LinearMap:
    op, scale = args
    product = op.matvec()
    return lambda v: tree.multiply(scale, product(tree.multiply(scale, v)))
