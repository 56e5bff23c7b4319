"""Products with derivatives, also where a backward pass written by hand leaves a function without forward mode.

A function of `jax.custom_vjp`, such as fused attention, has no forward mode. There J v is the transpose of u → Jᵀ u,
and a Hessian, which is symmetric, its own transpose: reverse over reverse mode. Both ask that the backward pass itself
be made of operations that JAX can differentiate.
"""

from collections.abc import Callable

import jax
from jax.extend import core as jex_core

from sharplab.core.jaxprs import contains
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import LinearMap

Function = Callable[[PyTree], PyTree]

_BY_HAND = "custom_lin"  # what JAX linearises a function of custom_vjp to, which it transposes but cannot evaluate


def linearized(function: Function, params: PyTree) -> tuple[PyTree, LinearMap, LinearMap]:
    """The outputs of `function` at `params` and the maps v → J v and u → Jᵀ u, with the forward pass done once."""
    outputs, jvp = jax.linearize(function, params)
    transposed = jax.linear_transpose(jvp, params)

    def vjp(u: PyTree) -> PyTree:
        return transposed(u)[0]

    if not contains(jax.make_jaxpr(jvp)(params), _BY_HAND):
        return outputs, jvp, vjp
    return outputs, lambda v: jax.linear_transpose(vjp, outputs)(v)[0], vjp


def linearized_gradient(function: Callable[[PyTree], jax.Array], params: PyTree) -> tuple[PyTree, LinearMap]:
    """The gradient g of `function` at `params` and the map v → H v of its Hessian, with both passes done once."""
    gradient, product = jax.linearize(jax.grad(function), params)
    if not contains(jax.make_jaxpr(product)(params), _BY_HAND):
        return gradient, product
    transposed = jax.linear_transpose(product, params)
    return gradient, lambda v: transposed(v)[0]


def derivative_along(function: Function, params: PyTree, v: PyTree) -> PyTree:
    """The derivative J v in one direction, for which forward mode holds no activations."""
    traced, structure = jax.make_jaxpr(lambda w, v: jax.jvp(function, (w,), (v,))[1], return_shape=True)(params, v)
    if contains(traced, _BY_HAND):
        return linearized(function, params)[1](v)
    values = jex_core.jaxpr_as_fun(traced)(*jax.tree.leaves((params, v)))
    return jax.tree.unflatten(jax.tree.structure(structure), values)
