"""A pre-activation residual multilayer perceptron."""

from math import prod, sqrt

import jax
from flax import nnx

from sharplab.models.layers import ScaledLinear, multiplier
from sharplab.scaling import Rule


class ResidualMLP(nnx.Module):
    """h₀ = W₀x, h_l = h_{l−1} + L^{−α} W_l relu(h_{l−1}) for l = 1…L, logits = W_out h_L.

    `width` N is the length of h, `depth` L the number of blocks. α = ½ is the depth scaling under which one
    layer per block has a limit in depth (arXiv 2310.02244).
    """

    def __init__(
        self, *, input_shape: tuple[int, ...], classes: int, width: int, depth: int, rule: Rule, rngs: nnx.Rngs
    ) -> None:
        self.stem = ScaledLinear(prod(input_shape), width, role="input", rule=rule, rngs=rngs)
        self.blocks = nnx.List(
            ScaledLinear(width, width, role="hidden", rule=rule, rngs=rngs, gain=sqrt(2), in_branch=True)
            for _ in range(depth)
        )
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)
        self.branch = multiplier(rule.depth.multiplier)

    def prepare(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """Images as rows of features."""
        return x_BxHxWxC.reshape(len(x_BxHxWxC), -1)

    def forward(self, x_BxF: jax.Array) -> jax.Array:
        """Logits of rows of features."""
        h_BxN = self.stem(x_BxF)
        for block in self.blocks:
            h_BxN = h_BxN + self.branch * block(jax.nn.relu(h_BxN))
        return self.readout(h_BxN)

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        return self.forward(self.prepare(x_BxHxWxC))
