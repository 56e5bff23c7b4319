"""An operator in a diagonal metric."""

from collections.abc import Callable
from operator import mul

import jax

from sharplab.curvature.operator import LinearOperator
from sharplab.tree import PyTree


def precondition(op: LinearOperator, scale: PyTree) -> LinearOperator:
    """S A S with S = diag(scale), `scale` a pytree like the operator's domain.

    The effective sharpness in a metric D is λmax(D^½ H D^½): pass √D.

    >>> import jax.numpy as jnp
    >>> diagonal = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 3.0]), jnp.zeros(2))
    >>> precondition(diagonal, jnp.array([2.0, 1.0])).dense().tolist()
    [[4.0, 0.0], [0.0, 3.0]]
    """
    return LinearOperator(_scaled_product, (op, scale), op.domain)


def _scaled_product(args: PyTree) -> Callable[[PyTree], PyTree]:
    op, scale = args
    product = op.matvec()
    return lambda v: jax.tree.map(mul, scale, product(jax.tree.map(mul, scale, v)))
