"""Hessian products from gradients at two points, for losses that have no second derivative."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Examples
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import objective
from sharplab.curvature.independence import scattered
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.curvature.streaming import Shared, Stream, mean_operator, mean_value

RATIO = 4.0  # of successive steps
STEPS = 6  # tried
SAFETY = 2.0  # the direction that is tried is one of many


def difference_hessian(shared: Shared, examples: Stream) -> LinearOperator:
    """The Hessian with products that are central differences (g(w + hv) − g(w − hv))/2h, ‖v‖ = 1; its step and error.

    The truncation of such a product falls with h², its rounding grows with ε/h. From ε^⅓‖w‖ on, h is divided by 4, and
    products in one direction of much curvature are compared. What changes from one h to the next is fifteen times the
    truncation of the latter, or its rounding; and a quarter of what changes after that is its rounding, too. The larger
    of these two is least at the h that is taken, and twice that is the error. It takes fifteen gradients.

    Raises:
        ValueError: for params of 16 bits.
    """
    functions, params = shared
    if any(leaf.dtype.itemsize < 4 for leaf in jax.tree.leaves(params)):
        raise ValueError("method='difference' needs params of 32 bits or more: steps that 16 bits tell are too long.")

    def at(step: Any) -> LinearOperator:
        return mean_operator(_difference, ((*functions, step), params), examples)

    size = tree.norm(params)
    usual = jnp.finfo(size.dtype).eps ** (1 / 3) * jnp.where(size > 0, size, 1)
    v = _unit(at(usual)(_first_direction(params, mean_value(_gradient, shared, examples))))
    steps = [usual * RATIO**-i for i in range(STEPS)]
    products = [at(step)(v) for step in steps]
    changes = jnp.stack([_distance(*pair) for pair in pairwise(products)])
    errors = jnp.maximum(changes[:-1], changes[1:] / RATIO)
    best = jnp.argmin(jnp.where(jnp.isfinite(errors), errors, jnp.inf))
    step = jnp.stack(steps[1:-1])[best]
    return replace(at(step), step=step, error=SAFETY * errors[best])


def _gradient(shared: Shared, part: Examples) -> PyTree:
    functions, params = shared
    with jax.default_matmul_precision("highest"):
        return jax.grad(lambda w: objective(functions, w, part.batch))(params)


def _difference(shared: Shared, part: Examples) -> LinearMap:
    (*functions, step), params = shared

    def product(v: PyTree) -> PyTree:
        size = tree.norm(v)
        h = step / jnp.where(size > 0, size, 1)
        ahead, behind = (_gradient((functions, tree.moved(params, way * h, v)), part) for way in (1, -1))
        difference = jax.tree.map(lambda a, b: (a - b) / (2 * h), tree.wide(ahead), tree.wide(behind))
        return tree.cast(difference, params)

    return product


@jax.jit
def _first_direction(params: PyTree, gradient: PyTree) -> PyTree:
    """Of the gradient, in which there is much curvature, and of all others, as it may be 0."""
    return jax.tree.map(jnp.add, _unit(gradient), _unit(jax.tree.map(scattered, params)))


@jax.jit
def _unit(v: PyTree) -> PyTree:
    size = tree.norm(v)
    return tree.scale(1 / jnp.where(size > 0, size, 1), v)


@jax.jit
def _distance(x: PyTree, y: PyTree) -> jax.Array:
    return tree.norm(jax.tree.map(jnp.subtract, tree.wide(x), tree.wide(y)))
