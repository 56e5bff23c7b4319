"""The Gauss-Newton matrix, with a factor where the loss's Hessian has one in closed form."""

from collections.abc import Callable
from typing import Any

import jax

from sharplab.core.tree import PyTree
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import as_partial, objective
from sharplab.curvature.operator import LinearOperator
from sharplab.curvature.streaming import Shared, mean_operator
from sharplab.losses import output_hessian


def gauss_newton(
    model: Callable[..., Any],
    loss: Callable[..., jax.Array],
    params: PyTree,
    batch: Any,
    *,
    chunk: int | None = None,
) -> LinearOperator:
    """The Gauss-Newton matrix G = Jᵀ H_L J, J = ∂ outputs/∂ params, H_L the loss's Hessian in the outputs; (P, P).

    It is the Hessian of the loss for the model linearised at `params`, and positive semi-definite for convex losses
    (Schraudolph 2002). H_L is used in closed form for `losses.cross_entropy` and `losses.squared_error`, for which
    the operator also has a factor R = BᵀJ/√n, H_L = BBᵀ/n; other losses are differentiated.

    Args:
        model: `model(params, inputs)` → outputs.
        loss: `loss(outputs, targets)` → mean over examples.
        batch: (inputs, targets), arrays with a leading example axis, or a source of such pairs (see `hessian`), for
            which there is no factor.
        chunk: the number of examples whose activations are in memory at a time; all by default.

    Raises:
        ValueError: as `hessian`.

    >>> import jax.numpy as jnp
    >>> from sharplab.losses import squared_error
    >>> def model(w, x):
    ...     return x @ w[:, None]
    >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
    >>> op = gauss_newton(model, squared_error, jnp.zeros(2), (x, jnp.zeros((2, 1))))
    >>> op.dense().tolist(), op.dual().dense().round(4).tolist()  # xᵀx / n and xxᵀ / n
    ([[1.0, 1.0], [1.0, 2.0]], [[0.5, 0.5], [0.5, 2.5]])
    """
    functions = (as_partial(loss, params), as_partial(model, params))
    root = None if output_hessian(loss) is None else _gauss_newton_root
    return mean_operator(_gauss_newton_product, (functions, params), batch, chunk, mean=objective, root=root)


def linearized(model: Callable[..., Any], params: PyTree, inputs: PyTree) -> tuple[PyTree, LinearMap, LinearMap]:
    """The outputs and the maps v → J v and u → Jᵀ u, with the model's forward pass done once."""
    outputs, jvp = jax.linearize(lambda w: model(w, inputs), params)
    vjp = jax.linear_transpose(jvp, params)
    return outputs, jvp, lambda u: vjp(u)[0]


def _gauss_newton_product(shared: Shared, batch: PyTree) -> LinearMap:
    (loss, model), params = shared
    inputs, targets = batch
    outputs, jvp, vjp = linearized(model, params, inputs)
    closed = output_hessian(loss)
    if closed is None:
        output_hvp = jax.linearize(jax.grad(lambda f: loss(f, targets)), outputs)[1]
        return lambda v: vjp(output_hvp(jvp(v)))
    output_hvp = closed.product(outputs)
    predictions = outputs.size // outputs.shape[-1]
    return lambda v: vjp(output_hvp(jvp(v)) / predictions)


def _gauss_newton_root(shared: Shared, batch: PyTree, n: int) -> tuple[LinearMap, LinearMap]:
    (loss, model), params = shared
    inputs, _ = batch
    outputs, jvp, vjp = linearized(model, params, inputs)
    closed = output_hessian(loss)
    assert closed is not None, "a loss without closed form has no root"
    transposed, straight = closed.root(outputs)
    weight = (n * outputs.size / (len(outputs) * outputs.shape[-1])) ** -0.5
    return lambda v: weight * transposed(jvp(v)), lambda u: vjp(weight * straight(u))
