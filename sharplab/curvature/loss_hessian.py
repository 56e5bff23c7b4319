"""The Hessian of a loss."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Examples
from sharplab.curvature.differences import difference_hessian
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import as_partial, objective
from sharplab.curvature.jacobian import linearized_gradient
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.curvature.streaming import Shared, Stream, examples_of_loss, mean_operator


@checked()
def hessian(
    loss: Callable[..., jax.Array],
    params: PyTree,
    batch: Any,
    *,
    model: Callable[..., Any] | None = None,
    chunk: int | None = None,
    weight: Any = None,
    method: str = "exact",
) -> LinearOperator:
    """The Hessian ∇²L(w), L(w) the mean of the loss over the examples of `batch`; shape (P, P).

    Products are forward over reverse mode (Pearlmutter 1994), with the gradient linearised once per matvec().

    Args:
        loss: `loss(params, batch)` → scalar; with `model`, `loss(outputs, targets)` → scalar.
        params: w, any pytree of floats: dicts, tuples, an `nnx.State` of `nnx.Param`, Linen's `variables["params"]`.
        batch: a pytree of arrays with a leading example axis; with `model`, a pair (inputs, targets). Or a source of
            such batches on the host, read again for each product: a function that returns an iterator, a data
            loader, a list of batches, or an iterator (read once and kept in the host's memory). The operator then
            does not run under `jit`.
        model: `model(params, inputs)` → outputs.
        chunk: the number of examples whose activations are in memory at a time, the gradient being computed again for
            each product; all by default.
        weight: what each example counts in the mean that the loss takes, where that differs: for a mean over tokens
            Σ mask·nll / Σ mask, how many of its tokens count. One entry per example, an array where `batch` is one, or
            a source of arrays. It says how chunks and host batches add up, and weighs nothing by itself: the loss does.
            `losses.cross_entropy` with `ignore` tells it by itself, given `model`.
        method: "exact", or "difference" for losses that have no second derivative, as with attention kernels whose
            backward pass is written by hand: products are central differences of the gradient. Their step is chosen
            here, with fifteen gradients, and stands in `step`; their error in `error`, which is part of the `floor` of
            `sharplab.eigsh`. Where a gradient jumps, as of ReLU, they may see the jump, which `sharplab.eigsh` refuses.

    With `chunk`, host batches or `weight`, the loss is checked once for each batch to be that mean over examples, which
    takes about as long as a product.

    Pass the same function objects each time, not fresh lambdas: each compiles its own program, and so does each state
    of the arrays and numbers that a function reads beside its arguments. What changes often is to be bound by a
    `jax.tree_util.Partial`, which counts as its function.

    Raises:
        ValueError: for a batch without examples, or with `chunk`, host batches or `weight` without a common axis of
            them; for a bad `chunk` or `weight`; for a loss that is no such mean; for targets that a loss of
            `sharplab.losses` does not take; for differences of gradients of params of 16 bits.

    >>> import jax.numpy as jnp
    >>> def loss(w, batch):
    ...     x, y = batch
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
    >>> hessian(loss, jnp.zeros(2), (x, jnp.zeros(2))).dense().tolist()  # xᵀx / n
    [[1.0, 1.0], [1.0, 2.0]]
    """
    make = lookup("method", method, _METHODS)
    params = tree.floats(params, "params")
    shared = ((as_partial(loss, params), None if model is None else as_partial(model, params)), params)
    return make(shared, examples_of_loss(objective, shared, batch, chunk, weight))


def _hessian_product(shared: Shared, part: Examples) -> LinearMap:
    functions, params = shared
    return linearized_gradient(lambda w: objective(functions, w, part.batch), params)[1]


_METHODS: Mapping[str, Callable[[Shared, Stream], LinearOperator]] = {
    "exact": partial(mean_operator, _hessian_product),
    "difference": difference_hessian,
}
