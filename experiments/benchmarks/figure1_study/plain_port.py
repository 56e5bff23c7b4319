"""The authors' JAX script for the paper's first figure, ported straightforwardly.

After `figure1_jax_reproduction` of lorenzonoci/nn_large_depth_width_landscape, written anew. Images are cropped,
mirrored and scaled by numpy on the host; each training step is one dispatch, one learning rate follows another; the
network is made of `lax.conv_general_dilated` and `lax.reduce_window`; a snapshot is power iterations on the probe,
started from the last vector, each product one dispatch and the vector's algebra eager. It is given images, batches,
draws and weights, so that it trains the lab's runs, and knows nothing else of the lab.
"""

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PADDING = 4
POWER_ITERATIONS = 10
LAYERS = ("first", "second", "readout")

Weights = dict[str, jax.Array]
Batch = tuple[Any, Any]  # images as floats, labels


def multipliers(weights: Weights, parameterization: str) -> tuple[float, ...]:
    """The multipliers in front of each layer's weights of variance 1."""
    gamma = math.sqrt(len(weights["readout"])) if parameterization == "mean_field" else 1.0
    fans = [math.prod(weights[name].shape[:-1]) for name in LAYERS]
    return 1 / math.sqrt(fans[0]), 1 / math.sqrt(fans[1]), 1 / (math.sqrt(fans[2]) * gamma)


def rate_factor(weights: Weights, parameterization: str) -> int:
    """The factor that a base learning rate is multiplied by."""
    return len(weights["readout"]) if parameterization == "mean_field" else 1


def convolve_and_pool(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution, ReLU, and the maximum of 2×2 windows."""
    x = jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def mean_loss(weights: Weights, batch: Batch, factors: tuple[float, ...]) -> jax.Array:
    """The cross-entropy of a batch."""
    images, labels = batch
    x = convolve_and_pool(images, factors[0] * weights["first"], stride=2)
    x = convolve_and_pool(x, factors[1] * weights["second"], stride=4)
    logits = x.reshape(len(x), -1) @ (factors[2] * weights["readout"])
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])


@jax.jit
def step(weights: Weights, batch: Batch, factors: tuple[float, ...], learning_rate: float) -> tuple[Weights, jax.Array]:
    """One step of SGD, and the loss before it."""
    loss, gradient = jax.value_and_grad(mean_loss)(weights, batch, factors)
    return jax.tree.map(lambda w, g: w - learning_rate * g, weights, gradient), loss


loss_of = jax.jit(mean_loss)


@jax.jit
def product(weights: Weights, vector: Weights, batch: Batch, factors: tuple[float, ...]) -> Weights:
    """The Hessian times a vector."""
    return jax.jvp(lambda w: jax.grad(mean_loss)(w, batch, factors), (weights,), (vector,))[1]


def dot(x: Weights, y: Weights) -> jax.Array:
    """⟨x, y⟩ over all layers."""
    return jax.tree.reduce(operator.add, jax.tree.map(jnp.vdot, x, y))


def unit(x: Weights) -> Weights:
    """x/‖x‖."""
    norm = jnp.sqrt(dot(x, x))
    return {name: leaf / norm for name, leaf in x.items()}


def top_eigenvalue(
    weights: Weights, vector: Weights, probe: Batch, factors: tuple[float, ...]
) -> tuple[float, Weights]:
    """The modulus of the last Rayleigh quotient of power iteration, and the vector to go on from."""
    for _ in range(POWER_ITERATIONS):
        moved = product(weights, vector, probe, factors)
        value = dot(vector, moved)
        vector = unit(moved)
    return abs(float(value)), vector


def scaled(images: np.ndarray) -> np.ndarray:
    """Bytes → x/127.5 − 1."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def augmented(images: np.ndarray, corners: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """A batch of bytes padded with 4 black pixels, cropped at the corners, mirrored where `flips`, and scaled."""
    B, H, W, _ = images.shape
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    rows, columns = corners[:, :1] + np.arange(H), corners[:, 1:] + np.arange(W)
    cropped = padded[np.arange(B)[:, None, None], rows[:, :, None], columns[:, None, :]]
    cropped[flips] = cropped[flips][:, :, ::-1]
    return scaled(cropped)


@dataclass(frozen=True)
class Port:
    """The script with its data: `given` as of `figure1_study.given`."""

    given: Mapping[str, np.ndarray]
    probe_size: int

    def batches(self, steps: int) -> Iterator[Batch]:
        """The batch of each step, made on the host when it is asked for."""
        for t in range(steps):
            rows = self.given["order"][t]
            images = augmented(self.given["images"][rows], self.given["corners"][t], self.given["flips"][t])
            yield jnp.asarray(images), jnp.asarray(self.given["labels"][rows])

    @property
    def probe(self) -> Batch:
        """The first training images."""
        images, labels = self.given["images"][: self.probe_size], self.given["labels"][: self.probe_size]
        return jnp.asarray(scaled(images)), jnp.asarray(labels)

    @property
    def held_out(self) -> Batch:
        """The examples of the loss."""
        return jnp.asarray(scaled(self.given["eval_images"])), jnp.asarray(self.given["eval_labels"])

    def begin(self, network: str) -> Weights:
        """The initial weights of "mean_field-16" or the like."""
        return {name: jnp.asarray(self.given[f"{network}/{name}"]) for name in LAYERS}

    def trajectory(
        self, network: str, learning_rate: float, snapshots: tuple[int, ...]
    ) -> tuple[dict[str, list[float]], Weights]:
        """Held-out loss and effective sharpness before the steps `snapshots`, and the weights at the last."""
        parameterization, weights = network.partition("-")[0], self.begin(network)
        factors, scale = multipliers(weights, parameterization), rate_factor(weights, parameterization)
        keys = jax.random.split(jax.random.PRNGKey(0), len(LAYERS))
        vector = unit({n: jax.random.normal(k, weights[n].shape) for n, k in zip(LAYERS, keys, strict=True)})
        probe, held_out, batches = self.probe, self.held_out, self.batches(snapshots[-1])
        curves: dict[str, list[float]] = {"loss": [], "sharpness": []}
        for t in range(snapshots[-1] + 1):
            if t in snapshots:
                value, vector = top_eigenvalue(weights, vector, probe, factors)
                curves["sharpness"].append(scale * value)
                curves["loss"].append(float(loss_of(weights, held_out, factors)))
            if t < snapshots[-1]:
                weights, _ = step(weights, next(batches), factors, scale * learning_rate)
        return curves, weights

    def final_loss(self, network: str, learning_rate: float, steps: int) -> float:
        """The held-out loss after so many steps; infinite as soon as a batch's loss is not finite."""
        parameterization, weights = network.partition("-")[0], self.begin(network)
        factors, scale = multipliers(weights, parameterization), rate_factor(weights, parameterization)
        for batch in self.batches(steps):
            weights, loss = step(weights, batch, factors, scale * learning_rate)
            if not math.isfinite(float(loss)):
                return math.inf
        return float(loss_of(weights, self.held_out, factors))
