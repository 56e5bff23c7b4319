"""Losses: the mean over examples, with inputs and outputs as the operators of `sharplab.curvature` expect."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import optax


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over examples of the softmax cross-entropy −log softmax(outputs)[target], in nats.

    Args:
        outputs: logits, shape (n, C).
        targets: class indices, integers of shape (n,).

    >>> float(cross_entropy(jnp.zeros((3, 4)), jnp.arange(3))) == float(jnp.log(4.0))
    True
    """
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the mean over examples of the squared error summed over outputs, ½·mean‖f − y‖².

    Args:
        outputs: shape (n, C).
        targets: either shape (n, C), or class indices of shape (n,), which are taken as one-hot rows.

    >>> float(squared_error(jnp.zeros((2, 3)), jnp.array([0, 2])))
    0.5
    """
    if jnp.issubdtype(targets.dtype, jnp.integer):
        targets = jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    return 0.5 * jnp.sum((outputs - targets) ** 2, axis=-1).mean()


LOSSES: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = MappingProxyType(
    {"cross_entropy": cross_entropy, "squared_error": squared_error}
)
