"""Layers that give activations mean 0 and variance 1, then a trained gain and bias per channel."""

import jax
import jax.numpy as jnp
from flax import nnx

from sharplab.models.layers import ScaledVector
from sharplab.scaling import Rule

EPSILON = 1e-5


def standardize(x: jax.Array, axes: int | tuple[int, ...]) -> jax.Array:
    """(x − mean)/√(variance + 1e-5), both over `axes`.

    >>> standardize(jnp.array([[1.0, 3.0]]), -1).round(3).tolist()
    [[-1.0, 1.0]]
    """
    centred = x - x.mean(axes, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axes, keepdims=True) + EPSILON)


class LayerNorm(nnx.Module):
    """gain · standardized over the last axis + bias."""

    def __init__(self, width: int, *, rule: Rule, in_branch: bool = False) -> None:
        self.gain = ScaledVector(width, 1.0, rule=rule, in_branch=in_branch)
        self.bias = ScaledVector(width, 0.0, rule=rule, in_branch=in_branch)

    def __call__(self, x: jax.Array) -> jax.Array:
        gain, bias = (jax.lax.broadcast_to_rank(vector(), x.ndim) for vector in (self.gain, self.bias))
        return gain * self.standardized(x) + bias

    def standardized(self, x: jax.Array) -> jax.Array:
        """Mean 0, variance 1 for each example (and pixel, or token)."""
        return standardize(x, -1)


class BatchNorm(LayerNorm):
    """gain · standardized over all axes but the last + bias: per channel, over the batch at hand and its pixels.

    The statistics are always those of the batch that it is given, in evaluation too: there are no running averages, so
    that outputs are a function of parameters and batch alone. They then depend on which examples stand together: a
    loss over the batch is not a mean of losses of single examples, and its curvature must be taken of the batch as a
    whole (`sharplab.curvature` refuses to take it in chunks).
    """

    def standardized(self, x: jax.Array) -> jax.Array:
        """Mean 0, variance 1 for each channel."""
        return standardize(x, tuple(range(x.ndim - 1)))
