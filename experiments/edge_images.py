"""Small images of clothes, and the smooth network that is trained on all of them at once to see its edge of stability.

Descent on the full batch takes thousands of steps, and each record of curvature tens of products: hence 2,048 images of
Fashion-MNIST in 8 × 8 pixels, means over squares of the 10,000-image file's.
"""

import jax.numpy as jnp
from flax import nnx

from sharplab.data import load_dataset
from sharplab.data.dataset import Dataset, make_dataset
from sharplab.models.layers import ScaledLinear
from sharplab.scaling import Rule

EXAMPLES, HELD_OUT, SIDE = 2048, 512, 8


def small_images() -> Dataset:
    """2,048 images to train on and 512 held out, of 64 numbers each with mean 0 and mean square 1, in ten classes."""
    source = load_dataset("fashion-mnist-10k")
    images = source.train_inputs[: EXAMPLES + HELD_OUT]
    height, width = images.shape[1:3]
    squares = images.reshape(len(images), SIDE, height // SIDE, SIDE, width // SIDE, -1).mean(axis=(2, 4, 5))
    rows = squares.reshape(len(images), -1)
    rows = rows - rows[:EXAMPLES].mean(axis=0)
    rows = (rows / (rows[:EXAMPLES] ** 2).mean() ** 0.5).astype("float32")
    pairs = (rows, source.train_targets[: len(rows)])
    train, held_out = zip(*((array[:EXAMPLES], array[EXAMPLES:]) for array in pairs), strict=True)
    definition = f"first images of {source.checksum} in {SIDE} x {SIDE}; {EXAMPLES}, {HELD_OUT}"
    return make_dataset("small-images", train, held_out, 10, definition)


class Tanh(nnx.Module):
    """A multilayer perceptron of tanh, of `depth` hidden layers of `width` without biases."""

    def __init__(
        self, *, input_shape: tuple[int, ...], classes: int, width: int, depth: int, rule: Rule, rngs: nnx.Rngs
    ) -> None:
        self.first = ScaledLinear(*input_shape, width, role="input", rule=rule, rngs=rngs)
        self.hidden = nnx.List(
            ScaledLinear(width, width, role="hidden", rule=rule, rngs=rngs) for _ in range(depth - 1)
        )
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)

    def __call__(self, x_BxF: jnp.ndarray) -> jnp.ndarray:
        h_BxN = jnp.tanh(self.first(x_BxF))
        for layer in self.hidden:
            h_BxN = jnp.tanh(layer(h_BxN))
        return self.readout(h_BxN)
