"""The neural tangent kernel as an operator."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Examples
from sharplab.curvature.factor import Factor, LinearMap, Structure
from sharplab.curvature.functions import abstract_outputs, as_partial
from sharplab.curvature.host_batches import HostBatches
from sharplab.curvature.independence import check_outputs
from sharplab.curvature.jacobian import linearized
from sharplab.curvature.linear_operator import LinearOperator, match_structure
from sharplab.curvature.streaming import Shared, stream, streamed_maps, streamed_structure


@checked()
def ntk(
    model: Callable[..., Any], params: PyTree, inputs: Any, *, scale: PyTree | None = None, chunk: int | None = None
) -> LinearOperator:
    """The kernel K = J D Jᵀ, J = ∂ outputs/∂ params over all inputs, D = diag(scale); shape (n·C, n·C), no 1/n.

    With D the optimizer's metric it is how outputs move per unit of learning rate (Jacot et al. 2018). Its factor is
    R = D^½ Jᵀ, so that `dual()` is D^½ JᵀJ D^½ on params: with squared error n times the Gauss-Newton in that metric.

    Args:
        model: `model(params, inputs)` → outputs, shape (n, C) or (n, …), which the domain is shaped like; see
            `gauss_newton` for backward passes written by hand.
        inputs: arrays with a leading example axis, or a source of such inputs on the host (see `hessian`).
        scale: D ≥ 0, a pytree of the same paths as params, whose leaves may be plain numbers; 1 by default.
        chunk: the number of examples whose activations are in memory at a time; all by default.

    Raises:
        ValueError: for a `scale` below 0 or of other paths, complex outputs, and as `hessian`.

    >>> def model(w, x):
    ...     return x @ w[:, None]
    >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
    >>> ntk(model, jnp.zeros(2), x).dense().tolist()  # xxᵀ
    [[1.0, 1.0], [1.0, 5.0]]
    """
    params = tree.floats(params, "params")
    root = jax.tree.map(lambda _: 1.0, params) if scale is None else _root(match_structure(params, scale, "scale"))
    shared = ((as_partial(model, params), root), params)

    def check(part: Examples, size: int | None) -> None:
        if size is not None:
            check_outputs(shared[0][0], params, part.batch, size)

    examples = stream(inputs, chunk, check, name="inputs")
    args = (Partial(_scaled_jacobian), shared, examples, None)
    outputs = streamed_structure(_outputs, shared, examples).zeros()
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(outputs)):
        raise ValueError("model must have real outputs: return real and imaginary parts beside each other.")
    factor = Factor(_root_factor, args, Structure.of(params))
    return LinearOperator(_kernel_product, args, outputs, factor, not isinstance(examples, HostBatches))


def _root(scale: PyTree) -> PyTree:
    concrete = [leaf for leaf in jax.tree.leaves(scale) if not isinstance(leaf, jax.core.Tracer)]
    if any(np.any(np.asarray(leaf) < 0) for leaf in concrete):
        raise ValueError("scale must not be negative: it is the metric D itself, not its root or a step.")
    return jax.tree.map(jnp.sqrt, scale)


def _outputs(shared: Shared, part: Examples) -> PyTree:
    (model, _), params = shared
    return abstract_outputs(model, params, part.batch)


def _scaled_jacobian(shared: Shared, part: Examples) -> tuple[LinearMap, LinearMap]:
    (model, root), params = shared
    _, jvp, vjp = linearized(lambda w: model(w, part.batch), params)
    return lambda v: jvp(tree.multiply(root, v)), lambda u: tree.multiply(root, vjp(u))


def _kernel_product(args: PyTree) -> LinearMap:
    forward, backward = streamed_maps(args)
    return lambda u: forward(backward(u))


def _root_factor(args: PyTree) -> tuple[LinearMap, LinearMap]:
    forward, backward = streamed_maps(args)
    return backward, forward
