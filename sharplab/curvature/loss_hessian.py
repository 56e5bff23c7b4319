"""The Hessian of a loss."""

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

from sharplab.curvature.operator import LinearOperator
from sharplab.tree import PyTree


def hessian(
    loss: Callable[..., jax.Array], params: PyTree, batch: PyTree, *, model: Callable[..., Any] | None = None
) -> LinearOperator:
    """H = ∇²L(w), L(w) = the mean of the loss over the examples of `batch`.

    Products are forward over reverse mode, with the gradient's own pass linearised once per matvec(), so that
    a product costs one to two gradients (Pearlmutter 1994).

    Args:
        loss: `loss(params, batch)` → scalar; with `model`, `loss(outputs, targets)` → scalar.
        params: w, any pytree of floats: dicts, tuples, an `nnx.State`, Linen variables.
        batch: a pytree of arrays with a leading example axis; with `model`, a pair (inputs, targets).
        model: `model(params, inputs)` → outputs.

    Pass functions that live on (not fresh lambdas): a program is compiled once per function object. A
    `jax.tree_util.Partial` counts as its function.

    >>> import jax.numpy as jnp
    >>> def loss(w, batch):
    ...     x, y = batch
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
    >>> hessian(loss, jnp.zeros(2), (x, jnp.zeros(2))).dense().tolist()  # xᵀx / n
    [[1.0, 1.0], [1.0, 2.0]]
    """
    functions = (_partial(loss), None if model is None else _partial(model))
    return LinearOperator(_linearized_gradient, (functions, params, batch), params)


def _partial(function: Callable[..., Any]) -> Partial:
    return function if isinstance(function, Partial) else Partial(function)


def _linearized_gradient(args: PyTree) -> Callable[[PyTree], PyTree]:
    (loss, model), params, batch = args

    def objective(w: PyTree) -> jax.Array:
        if model is None:
            return loss(w, batch)
        inputs, targets = batch
        return loss(model(w, inputs), targets)

    return jax.linearize(jax.grad(objective), params)[1]
