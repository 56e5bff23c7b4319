"""Loops over a step: compiled, or dispatched from Python.

Both give the same results. Their speed differs: XLA's CPU backend runs the gradient of a convolution inside a
compiled loop tens of times slower than outside of one.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sharplab.core.jaxprs import contains

Loop = Literal["compiled", "python"]


def choose_loop(function: Callable[..., Any], *args: Any) -> Loop:
    """The faster loop over `function(*args)`: "python" where it convolves and runs on CPUs, else "compiled".

    `args` may be abstract (`jax.ShapeDtypeStruct`); nothing is computed, and the answer is cached by
    function and shapes.
    """
    if jax.default_backend() != "cpu":
        return "compiled"
    leaves, treedef = jax.tree.flatten(args)
    return _choose_on_cpu(function, treedef, tuple(jax.ShapeDtypeStruct(jnp.shape(x), _type(x)) for x in leaves))


def _type(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


@lru_cache(maxsize=256)
def _choose_on_cpu(function: Callable[..., Any], treedef: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]) -> Loop:
    args = jax.tree.unflatten(treedef, leaves)
    return "python" if contains(jax.make_jaxpr(function)(*args), "conv_general_dilated") else "compiled"


def repeat_while(
    unfinished: Callable[[Any], jax.Array], step: Callable[[Any], Any], state: Any, loop: Loop = "compiled"
) -> Any:
    """The last state of state ← step(state), repeated while `unfinished(state)`, a scalar boolean array.

    Under "python" `step` should be compiled, and the host waits for `unfinished` at each step.
    """
    if loop == "compiled":
        return jax.lax.while_loop(unfinished, step, state)
    while unfinished(state):
        state = step(state)
    return state


def dispatch(step: Callable[[Any, int], Any], state: Any, times: int) -> Any:
    """The last state of state ← step(state, i) for i < times; the host does not wait for a compiled `step`."""
    for i in range(times):
        state = step(state, i)
    return state
