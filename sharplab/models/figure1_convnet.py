"""The two-layer ConvNet of the first figure of arXiv 2402.17457."""

from functools import partial

import jax
from flax import nnx

from sharplab.models.layers import ScaledLinear, few_at_once
from sharplab.models.patches import image_patches
from sharplab.models.pooling import pooled_linear
from sharplab.scaling import Rule

KERNEL, POOL = 3, 2


def pooled_patches(x_BxHxWxC: jax.Array, stride: int) -> jax.Array:
    """Patches of a SAME-padded 3×3 convolution, those of one 2×2 pooling window side by side.

    Returns shape (B, H', W', 4, 9·C) with H' = H/(2·stride). A convolution followed by a max-pool is then a
    matrix product followed by a maximum over the fourth axis, of which the gradient and the Hessian product
    run at the speed of matrix products inside compiled loops too (as convolutions on CPUs they do not).
    """
    patches = image_patches(x_BxHxWxC, KERNEL, stride)
    B, h, w, _ = patches.shape
    windows = patches.reshape(B, h // POOL, POOL, w // POOL, POOL, -1).transpose(0, 1, 3, 2, 4, 5)
    return windows.reshape(B, h // POOL, w // POOL, POOL * POOL, -1)


def pooled(layer: ScaledLinear, patches_BxhxwxPxK: jax.Array) -> jax.Array:
    """The layer's outputs after max-pool and ReLU, shape (B, h, w, N); a positive multiplier changes no winner."""
    return layer.multiplier * pooled_linear(patches_BxhxwxPxK, layer.kernel[...])


class Figure1ConvNet(nnx.Module):
    """conv 3×3 stride 2 (C→N), ReLU, max-pool 2; conv 3×3 stride 4 (N→N), ReLU, max-pool 2; readout N→classes.

    No biases; 32×32 inputs end at 1×1. `width` N is the number of channels; the network has one depth. Under
    "mean_field" with base width 1 the multipliers are the paper's 1/√27, 1/√(9N), 1/N on weights of variance 1.
    """

    def __init__(
        self, *, input_shape: tuple[int, ...], classes: int, width: int, rule: Rule, rngs: nnx.Rngs, depth: int = 2
    ) -> None:
        if tuple(input_shape[:2]) != (32, 32):
            raise ValueError(f"figure1_convnet takes images of 32×32 pixels, not {input_shape}: pad or resize them.")
        if depth != 2:
            raise ValueError(f"figure1_convnet has two layers: depths must be (2,), not {depth}.")
        patch, self.width = KERNEL * KERNEL, width
        self.first = ScaledLinear(patch * input_shape[-1], width, role="input", rule=rule, rngs=rngs)
        self.second = ScaledLinear(patch * width, width, role="hidden", rule=rule, rngs=rngs)
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)

    def prepare(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """The first layer's patches."""
        return pooled_patches(x_BxHxWxC, stride=2)

    def forward(self, patches_BxhxwxPxK: jax.Array) -> jax.Array:
        """Logits of the first layer's patches."""
        _, h, w, _, _ = patches_BxhxwxPxK.shape
        # What the first layer makes is the largest array by far.
        h_BxhxwxN = few_at_once(partial(pooled, self.first), patches_BxhxwxPxK, h * w * self.width)
        h_BxhxwxN = pooled(self.second, pooled_patches(h_BxhxwxN, stride=4))
        return self.readout(h_BxhxwxN.reshape(len(h_BxhxwxN), -1))

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        return self.forward(self.prepare(x_BxHxWxC))
