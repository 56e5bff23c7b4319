"""Someone's own objects, which experiments name as "own_objects:…": copies of the lab's, and things that are none."""

from dataclasses import replace

import numpy as np
import optax

from sharplab import data, losses, optimizers

ready = optimizers.sgd()
number = 3


def make_signs():
    return optimizers.Optimizer({"adam": optax.scale_by_sign()}, None, None)


def make_sgd():
    return replace(optimizers.sgd(), usual_learning_rate=None)


def make_number(*_):
    return number


def linear(steps):
    return optax.linear_schedule(1.0, 0.0, steps)


def cross_entropy(outputs, targets):
    return losses.cross_entropy(outputs, targets)


def clusters():
    return replace(data.load_dataset("gaussian-clusters"), name="own clusters")


def images():
    """Images of 16×16 pixels, of random numbers and classes."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((96, 16, 16, 1), dtype=np.float32)
    targets = random.integers(0, 3, 96).astype(np.int32)
    return data.Dataset("own images", inputs[:64], targets[:64], inputs[64:], targets[64:], 3, "checksum")


def unchanged(key, inputs):
    return inputs


def weight_norm(params, batch):
    return optax.tree.norm(params)


def width(params, batch):
    return optax.tree.norm(params)
