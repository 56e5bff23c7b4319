"""A plain multilayer perceptron."""

from math import prod, sqrt

import jax
from flax import nnx

from sharplab.models.layers import ScaledLinear
from sharplab.scaling import Rule


class MLP(nnx.Module):
    """h₁ = relu(W₁x), h_l = relu(W_l h_{l−1}) for l = 2…L, logits = W_out h_L; no biases, no residual branches.

    `width` N is the length of each h, `depth` L the number of hidden layers. Weights behind a ReLU have gain √2, but
    for the readout.
    """

    def __init__(
        self, *, input_shape: tuple[int, ...], classes: int, width: int, depth: int, rule: Rule, rngs: nnx.Rngs
    ) -> None:
        self.first = ScaledLinear(prod(input_shape), width, role="input", rule=rule, rngs=rngs)
        self.hidden = nnx.List(
            ScaledLinear(width, width, role="hidden", rule=rule, rngs=rngs, gain=sqrt(2)) for _ in range(depth - 1)
        )
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)

    def prepare(self, x_BxS: jax.Array) -> jax.Array:
        """Inputs of any shape as rows of features."""
        return x_BxS.reshape(len(x_BxS), -1)

    def forward(self, x_BxF: jax.Array) -> jax.Array:
        """Logits of rows of features."""
        h_BxN = jax.nn.relu(self.first(x_BxF))
        for layer in self.hidden:
            h_BxN = jax.nn.relu(layer(h_BxN))
        return self.readout(h_BxN)

    def __call__(self, x_BxS: jax.Array) -> jax.Array:
        return self.forward(self.prepare(x_BxS))
