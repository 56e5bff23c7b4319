"""Networks whose best learning rate, or whose training, is known."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from sharplab.studies.suggest_lr.settings import StudySettings

BASE = 8
SPECTRUM = np.array([2.0, 1.0])  # of XᵀX/n
TRUTH = np.array([1.0, -1.0])
UNEXPLAINED = 1.0  # of the loss


class Averaged(nnx.Module):
    """f(x) = mean over units of x·w, w = 0 at the start.

    By SGD under muP with the whole data as batch, f moves as one linear model of learning rate η/base at every width:
    each step multiplies the error along an eigenvector of XᵀX/n, of eigenvalue h, by 1 − η h/base.
    """

    def __init__(self, width, rngs):
        self.kernel = nnx.Param(jnp.zeros((len(SPECTRUM), width)), role="input")

    def __call__(self, x):
        return (x @ self.kernel[...]).mean(axis=-1, keepdims=True)


def averaged_data(copies: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of the spectrum above, and targets that `TRUTH` makes of them, but for what nothing linear explains."""
    inputs = np.tile(np.diag(np.sqrt(len(SPECTRUM) * SPECTRUM)), (copies, 1)).astype(np.float32)
    signs = np.repeat(np.resize([1.0, -1.0], copies), len(SPECTRUM))
    return inputs, (inputs @ TRUTH + np.sqrt(2 * UNEXPLAINED) * signs)[:, None].astype(np.float32)


def averaged_loss(learning_rate, steps: int):
    """The loss of `Averaged` after so many steps, in closed form."""
    left = TRUTH * (1 - np.asarray(learning_rate)[..., None] * SPECTRUM / BASE) ** steps
    return UNEXPLAINED + 0.5 * np.sum(SPECTRUM * left**2, axis=-1)


class Perceptron(nnx.Module):
    """Linear, tanh, Linear, tanh, Linear; `traces` counts how often it was traced or called."""

    traces = 0

    def __init__(self, width, rngs):
        self.stem = nnx.Linear(4, width, rngs=rngs)
        self.hidden = nnx.Linear(width, width, rngs=rngs)
        self.readout = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        Perceptron.traces += 1
        return self.readout(jnp.tanh(self.hidden(jnp.tanh(self.stem(x)))))


class Convolving(nnx.Module):
    """A convolution with batch norm and dropout, and a readout."""

    def __init__(self, width, rngs):
        # A bias before a batch norm has a gradient of rounding alone, which Adam would follow.
        self.conv = nnx.Conv(1, width, (2, 2), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.readout = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        h = self.dropout(nnx.relu(self.norm(self.conv(x.reshape(-1, 2, 2, 1)))))
        return self.readout(h.mean(axis=(1, 2)))


def classes(examples: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, 4) and noisy classes."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((examples, 4), dtype=np.float32)
    return inputs, (inputs[:, 0] + 0.5 * rng.standard_normal(examples) > 0).astype(np.int32)


def settings_of(**changed) -> StudySettings:
    """The settings of a small study, with some of them changed."""
    usual = {"base": 8, "width": 512, "widths": (16, 32, 64, 128), "optimizer": "adam"}
    usual |= {"learning_rates": (), "seeds": 3, "batch_size": 16, "steps": 100, "metric": "train_loss"}
    return StudySettings(**usual | changed)
