"""A two-layer linear network, whose training has closed dynamics."""

from math import prod

import jax
from flax import nnx

from sharplab.models.layers import ScaledLinear
from sharplab.scaling import Rule


class LinearNetwork(nnx.Module):
    """f(x) = xᵀ E V with the rule's multipliers; `width` N is the number of columns of E and of rows of V.

    Source: arXiv 2402.17457, section 4.
    """

    def __init__(
        self, *, input_shape: tuple[int, ...], classes: int, width: int, rule: Rule, rngs: nnx.Rngs, depth: int = 2
    ) -> None:
        if depth != 2:
            raise ValueError(f"linear_network has two layers: depths must be (2,), not {depth}.")
        self.first = ScaledLinear(prod(input_shape), width, role="input", rule=rule, rngs=rngs)
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)

    def prepare(self, x_BxS: jax.Array) -> jax.Array:
        """Inputs of any shape as rows of features."""
        return x_BxS.reshape(len(x_BxS), -1)

    def forward(self, x_BxF: jax.Array) -> jax.Array:
        """Outputs of rows of features."""
        return self.readout(self.first(x_BxF))

    def __call__(self, x_BxS: jax.Array) -> jax.Array:
        return self.forward(self.prepare(x_BxS))
