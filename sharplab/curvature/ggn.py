"""The Gauss-Newton matrix, with a factor where the loss's Hessian has one in closed form."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.arguments import checked, pairs
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Examples
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import abstract_outputs, as_partial, objective
from sharplab.curvature.jacobian import linearized, linearized_gradient
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.curvature.streaming import Shared, examples_of_loss, mean_operator
from sharplab.losses import OutputHessian, output_hessian


@checked(batch=pairs)
def gauss_newton(
    model: Callable[..., Any],
    loss: Callable[..., jax.Array],
    params: PyTree,
    batch: Any,
    *,
    chunk: int | None = None,
    weight: Any = None,
) -> LinearOperator:
    """The Gauss-Newton matrix G = Jᵀ H_L J, J = ∂ outputs/∂ params, H_L the loss's Hessian in the outputs; (P, P).

    It is the Hessian of the loss for the model linearised at `params`, and positive semi-definite for convex losses
    (Schraudolph 2002). H_L is used in closed form for `losses.cross_entropy` and `losses.squared_error`, for which
    the operator also has a factor R = BᵀJ/√n, H_L = BBᵀ/n; other losses are differentiated. Where the model has a
    backward pass written by hand (`jax.custom_vjp`), J v is the transpose of u → Jᵀ u.

    Args:
        model: `model(params, inputs)` → outputs; for a loss of your own a pytree, such as a dict of heads.
        loss: `loss(outputs, targets)` → mean over examples.
        batch: (inputs, targets), arrays with a leading example axis, or a source of such pairs (see `hessian`), for
            which there is no factor.
        chunk: the number of examples whose activations are in memory at a time; all by default.
        weight: what each example counts in the mean that the loss takes, as of `hessian`.

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
    params = tree.floats(params, "params")
    shared = ((as_partial(loss, params), as_partial(model, params)), params)
    root = None if output_hessian(loss) is None else _gauss_newton_root
    examples = examples_of_loss(objective, shared, batch, chunk, weight)
    return mean_operator(_gauss_newton_product, shared, examples, root=root, rows=_outputs)


def _gauss_newton_product(shared: Shared, part: Examples) -> LinearMap:
    (loss, model), params = shared
    inputs, targets = part.batch
    outputs, jvp, vjp = linearized(lambda w: model(w, inputs), params)
    closed = output_hessian(loss)
    if closed is None:
        _, output_hvp = linearized_gradient(lambda f: loss(f, targets), outputs)
        return lambda v: vjp(output_hvp(jvp(v)))
    mean, _ = _means(closed, outputs, targets)
    output_hvp = closed.product(outputs)
    return lambda v: vjp(mean(output_hvp(jvp(v))))


def _gauss_newton_root(shared: Shared, part: Examples) -> tuple[LinearMap, LinearMap]:
    (loss, model), params = shared
    inputs, targets = part.batch
    outputs, jvp, vjp = linearized(lambda w: model(w, inputs), params)
    closed = output_hessian(loss)
    assert closed is not None, "a loss without closed form has no root"
    _, root = _means(closed, outputs, targets)
    transposed, straight = closed.root(outputs)
    return lambda v: root(transposed(jvp(v))), lambda u: vjp(root(straight(u)))


def _outputs(shared: Shared, part: Examples) -> PyTree:
    (_, model), params = shared
    return abstract_outputs(model, params, part.batch[0])


def _means(closed: OutputHessian, outputs: jax.Array, targets: PyTree) -> tuple[LinearMap, LinearMap]:
    """The maps u → u/N and u → u/√N on outputs, N the number of predictions that count; the others become 0."""
    closed.check(outputs, targets)
    counted = closed.counted(targets)
    if counted is None:
        predictions = outputs.size // (outputs.shape[-1] if outputs.ndim > 1 else 1)
        return lambda u: u / predictions, lambda u: predictions**-0.5 * u
    counts = counted.astype(jnp.result_type(float))[..., None]
    share = counts / jnp.maximum(counts.sum(), 1)
    return partial(tree.multiply, share), partial(tree.multiply, jnp.sqrt(share))
