"""The residual ConvNet of the main experiments of arXiv 2402.17457."""

from collections.abc import Callable, Mapping
from functools import partial
from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sharplab.core.naming import lookup
from sharplab.models.layers import ScaledLinear, multiplier
from sharplab.models.norms import BatchNorm, LayerNorm
from sharplab.models.patches import image_patches
from sharplab.scaling import Rule

KERNEL, STAGES = 3, 3
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
NORMS: Mapping[str, type[LayerNorm] | None] = {"none": None, "layer": LayerNorm, "batch": BatchNorm}


def max_pool(x_BxHxWxC: jax.Array) -> jax.Array:
    """The largest of each 2×2 pixels; a last odd row or column is left out.

    As a maximum of the four corners, whose gradient on CPUs is 15 to 60 times faster than that of `reduce_window`.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    _, H, W, _ = x_BxHxWxC.shape
    x = x_BxHxWxC[:, : H // 2 * 2, : W // 2 * 2]
    upper = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])
    return jnp.maximum(upper, jnp.maximum(x[:, 1::2, ::2], x[:, 1::2, 1::2]))


class Convolution(ScaledLinear):
    """A 3×3 convolution of stride 1 with SAME padding, its kernel stored as (9·channels in, channels out)."""

    def __init__(self, channels: int, **settings: Any) -> None:
        super().__init__(KERNEL * KERNEL * channels, channels, role="hidden", **settings)

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        kernel = self.kernel[...].reshape(KERNEL, KERNEL, x_BxHxWxC.shape[-1], -1)
        return self.multiplier * jax.lax.conv_general_dilated(
            x_BxHxWxC, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS
        )


class Branch(nnx.Module):
    """`layers` times ReLU, convolution, norm."""

    def __init__(self, channels: int, layers: int, norm: type[LayerNorm] | None, *, rule: Rule, rngs: nnx.Rngs) -> None:
        self.convolutions = nnx.List(
            Convolution(channels, rule=rule, rngs=rngs, gain=sqrt(2), in_branch=True) for _ in range(layers)
        )
        self.norms = nnx.List(
            [] if norm is None else [norm(channels, rule=rule, in_branch=True) for _ in range(layers)]
        )

    def __call__(self, h_BxHxWxN: jax.Array) -> jax.Array:
        for i, convolution in enumerate(self.convolutions):
            h_BxHxWxN = convolution(jax.nn.relu(h_BxHxWxN))
            if self.norms:
                h_BxHxWxN = self.norms[i](h_BxHxWxN)
        return h_BxHxWxN


class ResidualConvNet(nnx.Module):
    """conv 3×3 stride 2 (C→N), three stages of depth/3 blocks, readout of the flattened pixels.

    A block is h + β·L^{−α}·branch(h), a branch k times ReLU, conv 3×3 (gain √2), norm. A 2×2 max-pool ends each stage,
    and a conv 3×3 (N→N, gain 1, no residual) begins the second and the third. No biases but those of norms.

    `width` N is the number of channels in all stages, `depth` L the number of blocks. Images of 32×32 pixels end at
    2×2, so the readout sees 4N features: that is what the paper calls width.

    Args:
        layers_per_block: k.
        norm: "none", "layer" (over the channels of each pixel) or "batch" (see `sharplab.models.norms.BatchNorm`).
        beta: β.

    Raises:
        ValueError: for a depth that is no multiple of three, an unknown norm, and images below 16×16 pixels.

    Source: arXiv 2402.17457, main experiments, and its authors' code.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        classes: int,
        width: int,
        depth: int,
        rule: Rule,
        rngs: nnx.Rngs,
        layers_per_block: int = 1,
        norm: str = "none",
        beta: float = 1.0,
    ) -> None:
        if depth % STAGES:
            raise ValueError(f"residual_convnet has three stages: depths must be multiples of 3, not {depth}.")
        H, W, channels = input_shape
        if min(H, W) < 2 ** (STAGES + 1):
            raise ValueError(
                f"residual_convnet halves images four times: {H}×{W} pixels are too few, give 16×16 or more."
            )
        norm_layer = lookup("norm", norm, NORMS)
        self.stem = ScaledLinear(KERNEL * KERNEL * channels, width, role="input", rule=rule, rngs=rngs)
        self.stages = nnx.List(
            nnx.List(Branch(width, layers_per_block, norm_layer, rule=rule, rngs=rngs) for _ in range(depth // STAGES))
            for _ in range(STAGES)
        )
        self.transitions = nnx.List(Convolution(width, rule=rule, rngs=rngs) for _ in range(STAGES - 1))
        pixels = (-(-H // 2) >> STAGES) * (-(-W // 2) >> STAGES)
        self.readout = ScaledLinear(pixels * width, classes, role="output", rule=rule, rngs=rngs)
        self.branch = multiplier(beta * rule.depth.multiplier)
        self.examples_interact = norm == "batch"

    def prepare(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """The stem's patches."""
        return image_patches(x_BxHxWxC, KERNEL, stride=2)

    def forward(self, patches_BxhxwxK: jax.Array) -> jax.Array:
        """Logits of the stem's patches."""
        h_BxhxwxN = self.stem(patches_BxhxwxK)
        for i, blocks in enumerate(self.stages):
            if i > 0:
                h_BxhxwxN = self.transitions[i - 1](h_BxhxwxN)
            for block in blocks:
                h_BxhxwxN = h_BxhxwxN + self.branch * block(h_BxhxwxN)
            h_BxhxwxN = max_pool(h_BxhxwxN)
        return self.readout(h_BxhxwxN.reshape(len(h_BxhxwxN), -1))

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        return self.forward(self.prepare(x_BxHxWxC))


VARIANTS: Mapping[str, Callable[..., ResidualConvNet]] = {
    "residual_convnet": ResidualConvNet,
    "residual_convnet_k2": partial(ResidualConvNet, layers_per_block=2),
    "residual_convnet_k3": partial(ResidualConvNet, layers_per_block=3),
    "residual_convnet_layernorm": partial(ResidualConvNet, norm="layer"),
    "residual_convnet_batchnorm": partial(ResidualConvNet, norm="batch"),
}
