"""A user's model that convolves as people write it, named by "convolving_model:ConvolvingModel"."""

import jax
from flax import nnx


class ConvolvingModel(nnx.Module):
    """3×3 convolution, ReLU, mean over pixels, readout."""

    def __init__(self, *, input_shape, classes, width, depth, rule, rngs):
        fan_in = 9 * input_shape[-1]
        draw = jax.random.normal
        self.kernel = nnx.Param(
            rule.init_std("input", fan_in) * draw(rngs.params(), (3, 3, input_shape[-1], width)), role="input"
        )
        self.readout = nnx.Param(rule.init_std("output", width) * draw(rngs.params(), (width, classes)), role="output")
        self.multipliers = (rule.multiplier("input", fan_in), rule.multiplier("output", width))

    def prepare(self, images):
        return images[:, ::4, ::4]

    def forward(self, x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, self.kernel[...], (1, 1), "SAME", dimension_numbers=dimensions)
        h = jax.nn.relu(self.multipliers[0] * h).mean((1, 2))
        return self.multipliers[1] * (h @ self.readout[...])
