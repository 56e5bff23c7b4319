"""What a traced program holds."""

from typing import Any

import jax
from jax.extend import core as jex_core


def contains(jaxpr: Any, primitive: str) -> bool:
    """Whether a jaxpr, or one within it, has an operation of this name.

    >>> contains(jax.make_jaxpr(jax.jit(jax.numpy.sin))(1.0), "sin")
    True
    """
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name == primitive:
            return True
        for parameter in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(parameter) and contains(parameter, primitive):
                return True
    return False


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, jex_core.Jaxpr | jex_core.ClosedJaxpr)
