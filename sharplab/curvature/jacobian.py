"""Products with the Jacobian of a function, also where a hand-written backward pass leaves it without a forward one."""

from collections.abc import Callable

import jax

from sharplab.core.tree import PyTree
from sharplab.curvature.factor import LinearMap


def linearized(function: Callable[[PyTree], PyTree], params: PyTree) -> tuple[PyTree, LinearMap, LinearMap]:
    """The outputs of `function` at `params` and the maps v → J v and u → Jᵀ u, with the forward pass done once.

    Functions of `jax.custom_vjp`, such as fused attention, have no forward mode: there J v is the transpose of
    u → Jᵀ u, which asks that their backward pass be written in operations that JAX can transpose.
    """
    outputs, jvp = jax.linearize(function, params)
    transposed = jax.linear_transpose(jvp, params)

    def vjp(u: PyTree) -> PyTree:
        return transposed(u)[0]

    def product(v: PyTree) -> PyTree:
        try:
            return jvp(v)
        except TypeError as error:
            _require_custom(error)
            return jax.linear_transpose(vjp, outputs)(v)[0]

    return outputs, product, vjp


def derivative_along(function: Callable[[PyTree], PyTree], params: PyTree, v: PyTree) -> PyTree:
    """The derivative J v in one direction, for which forward mode holds no activations."""
    try:
        return jax.jvp(function, (params,), (v,))[1]
    except TypeError as error:
        _require_custom(error)
        return linearized(function, params)[1](v)


def _require_custom(error: TypeError) -> None:
    if "custom_vjp" not in str(error):
        raise error
