"""Approximate eigenpairs with their errors."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax

from sharplab.core.tree import PyTree


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "vectors", "residuals", "errors", "floor", "matvecs", "converged"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenpairs θ, v of A with ‖v‖ = 1, in the order of preference.

    Attributes:
        values: θ, shape (k,).
        vectors: v, a pytree with a leading axis k.
        residuals: ‖A v − θ v‖ plus `floor`, shape (k,): some eigenvalue lies that near to θ, always.
        errors: an estimate of |θ − λ|, shape (k,): that of Kato and Temple (`spectrum.bounds.kato_temple`), but no less
            than what the products still change in θ (`spectrum.bounds.remaining_change`), nor than `floor`.
        floor: the rounding of the product itself, and the `error` that its operator has beyond, as an error of an
            eigenvalue.
        matvecs: the number of products made.
        converged: errors ≤ max(tol·|θ|, floor), shape (k,).
    """

    values: jax.Array
    vectors: PyTree
    residuals: jax.Array
    errors: jax.Array
    floor: jax.Array
    matvecs: jax.Array
    converged: jax.Array


class Solution(NamedTuple):
    """The result of one solve."""

    pairs: Eigenpairs
    nearby: PyTree  # the wanted vectors and the next ones, stacked: to start a later solve from
    scale: jax.Array  # a lower bound of ‖A‖, the largest modulus of a Ritz value
