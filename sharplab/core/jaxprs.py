"""What a traced program holds."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core as jex_core


def contains(jaxpr: Any, primitive: str) -> bool:
    """Whether a jaxpr, or one within it, has an operation of this name.

    >>> contains(jax.make_jaxpr(jax.jit(jax.numpy.sin))(1.0), "sin")
    True
    """
    return any(
        equation.primitive.name == primitive or any(contains(inner, primitive) for inner in _within(equation))
        for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns
    )


def product_flops(jaxpr: Any) -> int:
    """The floating-point operations of a jaxpr's matrix products and convolutions, two per multiplication.

    All else is left out, and a loop of unknown length counts as one pass.

    >>> product_flops(jax.make_jaxpr(jax.numpy.matmul)(jax.numpy.ones((2, 3)), jax.numpy.ones((3, 5))))
    60
    """
    return sum(map(_flops_of, getattr(jaxpr, "jaxpr", jaxpr).eqns))


def _flops_of(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, axes = equation.invars[1].aval, equation.params["dimension_numbers"].rhs_spec
        return 2 * equation.outvars[0].aval.size * kernel.size // kernel.shape[axes[0]]
    inner = [product_flops(each) for each in _within(equation)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (equation.params["length"] if name == "scan" else 1)


def _within(equation: Any) -> list[Any]:
    return [each for each in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr) if _is_jaxpr(each)]


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, jex_core.Jaxpr | jex_core.ClosedJaxpr)


def leaves_read(function: Callable[..., Any], *args: Any) -> list[bool]:
    """Of each leaf of the arguments, arrays or their shapes, whether the function's values depend on it.

    What goes into an inner program counts as read by all that comes out of it.

    >>> leaves_read(lambda x, y: 2 * x, 1.0, 2.0)
    [True, False]
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    read = {v for v in jaxpr.outvars if not isinstance(v, jex_core.Literal)}
    for equation in reversed(jaxpr.eqns):
        if not read.isdisjoint(equation.outvars):
            read |= {v for v in equation.invars if not isinstance(v, jex_core.Literal)}
    return [v in read for v in jaxpr.invars]
