"""The kernels of infinitely wide multilayer perceptrons under the NTK parameterization, in closed form.

As the width grows, outputs at initialisation become a Gaussian process of covariance `nngp`, and the neural tangent
kernel J D Jᵀ (`sharplab.ntk`, D the metric of SGD) becomes the constant `ntk`. Outputs are independent and alike: over
all C of them the kernels are these ⊗ I_C. The recursion runs over layers, with weights of variance gain²/fan-in and
expectations over two jointly normal pre-activations that are known for ReLU. It is carried out in float64: of nearly
parallel inputs the angle is the root of what rounding leaves, and in float32 deep kernels would be wrong by percents.

Sources: Cho & Saul 2009 (arc-cosine kernels); Lee et al., arXiv 1711.00165 (nngp); Jacot et al., arXiv 1806.07572
(ntk). Multipliers, gains and learning rates are those of `sharplab.models` under "ntk", at richness γ₀ = 1: another one
divides `nngp` by γ₀², and leaves `ntk` as it is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core.arguments import checked, of
from sharplab.scaling import DepthRule


class Kernels(NamedTuple):
    """Both kernels of one output between n and m inputs, each of shape (n, m)."""

    nngp: jax.Array
    ntk: jax.Array


class Layer(NamedTuple):
    """The moments of a layer's outputs between n and m inputs: per unit, in the limit of many."""

    covariance: jax.Array  # (n, m)
    variance: jax.Array  # (n, 1), of the n inputs
    other_variance: jax.Array  # (1, m), of the m others
    tangent: jax.Array  # (n, m), of all weights so far


def relu_duals(covariance: jax.Array, variance: jax.Array, other_variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The expectations E[relu(u) relu(v)] and E[relu′(u) relu′(v)] for normal (u, v) of mean 0.

    With θ the angle between u and v they are √(variances)·(sin θ + (π − θ) cos θ)/2π and (π − θ)/2π (Cho & Saul 2009).
    Arguments broadcast. Where a variance is 0, as of an input of zeros, both are 0.

    >>> [float(x) for x in relu_duals(jnp.array(2.0), jnp.array(2.0), jnp.array(2.0))]  # u = v: half of the variance
    [1.0, 0.5]
    """
    # Not the root of the product, which underflows; where both are one, the cosine of an input with itself must be 1.
    scale = jnp.where(variance == other_variance, variance, jnp.sqrt(variance) * jnp.sqrt(other_variance))
    alive = scale > 0
    # Rounding may carry a cosine beyond 1.
    cosine = jnp.clip(covariance / jnp.where(alive, scale, 1), -1, 1)
    angle = jnp.arccos(cosine)
    product = scale * ((jnp.sqrt(1 - cosine**2) + (jnp.pi - angle) * cosine) / (2 * jnp.pi))
    return product, jnp.where(alive, (jnp.pi - angle) / (2 * jnp.pi), 0)


@checked()
def mlp_kernels(inputs: jax.Array, others: jax.Array | None = None, *, depth: int) -> Kernels:
    """The kernels of `MLP` with `depth` hidden layers, at any number of outputs.

    Between `inputs` (n, …) and `others` (m, …), the inputs themselves unless told. The kernels have the float type of
    these, float32 at least. Some four arrays of shape (n, m) in float64 are in memory at once; for more inputs than
    that allows, call it on rows.

    Raises:
        ValueError: if inputs and others differ in size, and for a depth that is no count.

    >>> x = jnp.array([[2.0, 0.0], [0.0, 2.0]])
    >>> kernels = mlp_kernels(x, depth=1)  # one hidden layer, orthogonal inputs: E relu relu = variance/2π
    >>> bool(jnp.allclose(kernels.nngp, 2 * jnp.array([[0.5, 0.5 / jnp.pi], [0.5 / jnp.pi, 0.5]])))
    True
    """
    return _in_float64(_mlp_kernels, inputs, others, depth)


@checked(depth=of(DepthRule, "as of sharplab.scaling"))
def residual_mlp_kernels(inputs: jax.Array, others: jax.Array | None = None, *, depth: DepthRule) -> Kernels:
    """The kernels of `ResidualMLP`, whose branches and their learning rates go with depth as `depth` says.

    Arguments, memory and errors as of `mlp_kernels`. The tangent kernel holds SGD's learning-rate factors.
    """
    return _in_float64(_residual_mlp_kernels, inputs, others, depth)


def _in_float64(kernels: Callable[..., Kernels], inputs: jax.Array, others: jax.Array | None, depth: Any) -> Kernels:
    """The kernels, computed in float64, in the float type of the inputs, float32 at least."""
    given = [x for x in (inputs, others) if x is not None]
    kind = jnp.result_type(jnp.float32, *given)
    with jax.enable_x64(True):
        found = kernels(*(jnp.asarray(x, jnp.float64) for x in given), depth=depth)
        return Kernels(*(kernel.astype(kind) for kernel in found))


@partial(jax.jit, static_argnames="depth")
def _mlp_kernels(inputs: jax.Array, others: jax.Array | None = None, *, depth: int) -> Kernels:
    layer = _first_layer(inputs, others)
    for _ in range(depth - 1):
        layer = _weights(_relu(layer), gain_squared=2.0)
    return _readout(_relu(layer))


@partial(jax.jit, static_argnames="depth")
def _residual_mlp_kernels(inputs: jax.Array, others: jax.Array | None = None, *, depth: DepthRule) -> Kernels:
    layer = _first_layer(inputs, others)
    for _ in range(depth.depth):
        branch = _weights(_relu(layer), 2 * depth.multiplier**2, rate=depth.lr_factor("sgd"))
        # The branch's weights have mean 0 and are new, so that branch and stream do not correlate.
        layer = Layer(*(stream + added for stream, added in zip(layer, branch, strict=True)))
    return _readout(layer)


def _first_layer(inputs: jax.Array, others: jax.Array | None) -> Layer:
    rows = jnp.reshape(inputs, (len(inputs), -1))
    columns = rows if others is None else jnp.reshape(others, (len(others), -1))
    size = rows.shape[1]
    if columns.shape[1] != size:
        raise ValueError(f"others have {columns.shape[1]} features and inputs {size}: give inputs of one network.")
    covariance = jnp.matmul(rows, columns.T, precision="highest") / size
    if others is None:
        # Not the sum of squares, whose rounding differs: an angle of exactly 0 must come out as such.
        variance = other_variance = jnp.diagonal(covariance)
    else:
        variance, other_variance = (jnp.sum(x**2, axis=1) / size for x in (rows, columns))
    return Layer(covariance, variance[:, None], other_variance[None, :], tangent=covariance)


def _relu(layer: Layer) -> Layer:
    product, slope = relu_duals(layer.covariance, layer.variance, layer.other_variance)
    return Layer(product, layer.variance / 2, layer.other_variance / 2, layer.tangent * slope)


def _weights(layer: Layer, gain_squared: float, rate: float = 1.0) -> Layer:
    """The moments after a layer of weights, whose part of the tangent has `rate` times the learning rate."""
    covariance, variance, other_variance, tangent = (gain_squared * part for part in layer)
    return Layer(covariance, variance, other_variance, tangent + rate * covariance)


def _readout(layer: Layer) -> Kernels:
    output = _weights(layer, gain_squared=1.0)
    return Kernels(output.covariance, output.tangent)
