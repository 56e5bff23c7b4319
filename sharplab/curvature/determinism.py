"""The check that an operator is one matrix."""

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.curvature.linear_operator import LinearOperator


def check_deterministic(op: LinearOperator, key: jax.Array | None = None) -> None:
    """Raise a ValueError if two products with one vector differ beyond rounding.

    A loss that draws dropout masks, moves batch statistics, or reads shuffled and augmented data is a different
    function at each product, and its eigenvalues mean nothing. Both products are evaluated outside of compiled
    programs.

    Raises:
        ValueError: if they differ by more than √ε of their norm, ε the unit of rounding.

    >>> check_deterministic(LinearOperator(lambda d: lambda v: d * v, jnp.ones(2), jnp.zeros(2)))
    """
    v = tree.normal(jax.random.key(0) if key is None else key, op.domain)
    first, second = op.matvec()(v), op.matvec()(v)
    size = tree.norm(first)
    difference = tree.norm(jax.tree.map(jnp.subtract, first, second))
    same = difference <= jnp.finfo(op.dtype).eps ** 0.5 * size
    both_broken = ~jnp.isfinite(size) & ~jnp.isfinite(tree.norm(second))
    if not (same | both_broken):
        raise ValueError(
            f"two products with one vector differ by {float(difference / size):.1e} of their norm, so the operator is "
            "not one matrix: switch dropout off, fix batch statistics (evaluation mode), and read the same examples "
            "without shuffling or augmentation each time."
        )
