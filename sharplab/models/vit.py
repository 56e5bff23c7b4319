"""A vision transformer."""

import jax
import jax.numpy as jnp
from flax import nnx

from sharplab.models.attention import TransformerBlock
from sharplab.models.layers import ScaledLinear, ScaledTable
from sharplab.models.norms import LayerNorm
from sharplab.models.patches import image_patches
from sharplab.scaling import Rule

PATCH = 4


class ViT(nnx.Module):
    """4×4 patches, learned positions, `depth` pre-LN blocks, final norm, readout of the class token.

    h₀ is a class token of its own, then one token per patch: a linear map of its pixels plus its position. `width` N
    is the length of a token, `depth` L the number of blocks of two residual branches each (attention, MLP), so there
    are 2L branches. Images that do not divide into patches are padded with zeros.

    Source: Dosovitskiy et al., arXiv 2010.11929, in the sizes of arXiv 2402.17457.
    """

    def __init__(
        self, *, input_shape: tuple[int, ...], classes: int, width: int, depth: int, rule: Rule, rngs: nnx.Rngs
    ) -> None:
        H, W, channels = input_shape
        patches = -(-H // PATCH) * -(-W // PATCH)
        self.embedding = ScaledLinear(PATCH * PATCH * channels, width, role="input", rule=rule, rngs=rngs, bias=True)
        self.positions = ScaledTable(patches, width, rule=rule, rngs=rngs)
        self.class_token = ScaledTable(1, width, rule=rule, rngs=rngs)
        self.blocks = nnx.List(TransformerBlock(width, rule=rule, rngs=rngs, causal=False) for _ in range(depth))
        self.norm = LayerNorm(width, rule=rule)
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs, bias=True)

    def prepare(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """The patches, row by row, shape (B, patches, 16·C)."""
        patches_BxhxwxK = image_patches(x_BxHxWxC, PATCH, stride=PATCH)
        return patches_BxhxwxK.reshape(len(x_BxHxWxC), -1, patches_BxhxwxK.shape[-1])

    def forward(self, patches_BxTxK: jax.Array) -> jax.Array:
        """Logits of patches."""
        B, T, _ = patches_BxTxK.shape
        h_BxTxN = self.embedding(patches_BxTxK) + self.positions(jnp.arange(T))[None]
        h_BxTxN = jnp.concatenate([self.class_token(jnp.zeros((B, 1), int)), h_BxTxN], axis=1)
        for block in self.blocks:
            h_BxTxN = block(h_BxTxN)
        return self.readout(self.norm(h_BxTxN[:, 0]))

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        return self.forward(self.prepare(x_BxHxWxC))
