"""Checks that an operator is one matrix, and that its loss is a mean over independent examples."""

from collections.abc import Callable
from math import isfinite
from typing import Any
from weakref import ref

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature.functions import reference
from sharplab.curvature.operator import LinearOperator

SMALL, RELATIVE = 1e-4, 1e-2  # absolute and relative tolerance: smaller differences may be the loss's rounding

_INDEPENDENT: set[ref] = set()  # functions whose examples have been found independent


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


def check_mean(mean: Callable[..., PyTree], shared: Any, pair: PyTree) -> None:
    """Raise a ValueError if the mean over a pair of examples is not the mean of the two alone.

    The check is skipped under tracing, for fewer than two examples, for values that are not finite, and for functions
    that have passed before.

    Args:
        mean: (functions, params, batch) → a mean over the examples of `batch`, scalar or not.
        shared: (functions, params), the functions as `Partial`s or None.
        pair: a batch of two examples.
    """
    if tree.is_traced((shared, pair)) or len(jax.tree.leaves(pair)[0]) < 2:
        return
    functions = [function.func for function in shared[0] if isinstance(function, Partial)]
    references = [reference(function, _INDEPENDENT.discard) for function in functions]
    if all(known in _INDEPENDENT for known in references):
        return
    # Concrete values can be checked while a program is traced, too; a NaN among them is no error.
    with jax.ensure_compile_time_eval(), jax.debug_nans(False):
        both, first, second = (
            _evaluate(Partial(mean), shared, jax.tree.map(lambda x, part=part: x[part], pair))
            for part in (slice(0, 2), slice(0, 1), slice(1, 2))
        )
        difference = float(tree.norm(jax.tree.map(lambda a, b, c: a - (b + c) / 2, both, first, second)))
        size = float(jnp.maximum(tree.norm(first), tree.norm(second)))
    if difference > SMALL + RELATIVE * size:
        raise ValueError(
            f"on two examples the loss or model differs by {difference:.1e} from its mean over each alone, so "
            "chunks would not add up to the batch: either examples influence each other (batch statistics: use "
            "evaluation mode) or the loss is a sum (return the mean over examples)."
        )
    if isfinite(difference):
        _INDEPENDENT.update(known for known in references if known is not None)


@jax.jit
def _evaluate(mean: Partial, shared: Any, batch: PyTree) -> PyTree:
    return mean(*shared, batch)
