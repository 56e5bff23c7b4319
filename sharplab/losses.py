"""Losses: the mean over examples, with inputs and outputs as the operators of `sharplab.curvature` expect.

Both are negative log-likelihoods, up to a constant: of a categorical, and of a normal distribution of unit variance.
Their second derivatives in the outputs are known in closed form.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

Map = Callable[[jax.Array], jax.Array]


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over examples of the softmax cross-entropy −log softmax(outputs)[target], in nats.

    Args:
        outputs: logits, shape (n, C), or (n, …, C) for several predictions per example, all counted alike.
        targets: class indices, integers of shape (n,) or (n, …).

    >>> float(cross_entropy(jnp.zeros((3, 4)), jnp.arange(3))) == float(jnp.log(4.0))
    True
    """
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the mean over examples of the squared error summed over outputs, ½·mean‖f − y‖².

    Args:
        outputs: shape (n, C), or (n, …, C) for several predictions per example, all counted alike.
        targets: either shaped like `outputs`, or class indices without the last axis, which are taken as one-hot.

    >>> float(squared_error(jnp.zeros((2, 3)), jnp.array([0, 2])))
    0.5
    """
    if jnp.issubdtype(targets.dtype, jnp.integer):
        targets = jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    return 0.5 * jnp.sum((outputs - targets) ** 2, axis=-1).mean()


LOSSES: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
}


@dataclass(frozen=True)
class OutputHessian:
    """The Hessian H of one prediction's loss in its outputs f, for all predictions of outputs (…, C) at once.

    It does not depend on the target, and is the Fisher information of the likelihood.
    """

    product: Callable[[jax.Array], Map]  # outputs → (u → H u)
    root: Callable[[jax.Array], tuple[Map, Map]]  # outputs → (u → Bᵀ u, w → B w), with H = B Bᵀ
    sample: Callable[[jax.Array, jax.Array], jax.Array]  # (key, outputs) → targets drawn from the likelihood


def output_hessian(loss: Callable[..., Any]) -> OutputHessian | None:
    """The closed form that belongs to `loss`, which may be wrapped in a `Partial`; None where there is none.

    >>> output_hessian(squared_error).product(jnp.zeros((1, 2)))(jnp.array([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
    >>> output_hessian(lambda outputs, targets: outputs.mean()) is None
    True
    """
    if isinstance(loss, Partial) and not loss.args and not loss.keywords:
        loss = loss.func
    return next((closed for known, closed in _OUTPUT_HESSIANS if loss is known), None)


def _softmax_product(outputs: jax.Array) -> Map:
    p = jax.nn.softmax(outputs)
    return lambda u: p * (u - jnp.sum(p * u, -1, keepdims=True))


def _softmax_root(outputs: jax.Array) -> tuple[Map, Map]:
    """B = diag(√p) − p√pᵀ: BBᵀ = diag(p) − ppᵀ − ppᵀ + (Σp) ppᵀ = diag(p) − ppᵀ."""
    root = jnp.exp(0.5 * jax.nn.log_softmax(outputs))
    p = root**2
    return (
        lambda u: root * (u - jnp.sum(p * u, -1, keepdims=True)),
        lambda w: root * (w - root * jnp.sum(root * w, -1, keepdims=True)),
    )


def _identity(outputs: jax.Array) -> Map:
    return lambda u: u


def _identity_root(outputs: jax.Array) -> tuple[Map, Map]:
    return _identity(outputs), _identity(outputs)


def _sample_classes(key: jax.Array, outputs: jax.Array) -> jax.Array:
    return jax.random.categorical(key, outputs)


def _sample_normal(key: jax.Array, outputs: jax.Array) -> jax.Array:
    return outputs + jax.random.normal(key, outputs.shape, outputs.dtype)


_OUTPUT_HESSIANS = (
    (cross_entropy, OutputHessian(_softmax_product, _softmax_root, _sample_classes)),
    (squared_error, OutputHessian(_identity, _identity_root, _sample_normal)),
)
