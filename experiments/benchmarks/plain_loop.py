"""The loop that a researcher would write by hand, against which the lab is timed.

One jitted SGD step dispatched per step, one learning rate after another, and a sharpness record of ten power
iterations from a random vector, each a jitted Hessian-vector product `jax.jvp(jax.grad(...))`. Two favours are done
to it: a step gathers its own batch from arrays on the device, and a power iteration is one program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.training.recipe import Recipe

POWER_ITERATIONS = 10
Objective = Callable[[PyTree, PyTree], jax.Array]  # (params, (inputs, targets)) → mean loss


@dataclass(frozen=True)
class PlainLoop:
    """One way to write the task by hand: its arrays and its jitted functions."""

    params: PyTree
    train: PyTree  # (inputs, targets) of all training examples
    probe: PyTree
    objective: Objective
    step: Callable[..., PyTree]  # params, learning rate, rows of the batch, train → params
    iterate: Callable[..., tuple[jax.Array, PyTree]]  # params, unit vector, probe → Rayleigh quotient, next vector

    def train_run(self, learning_rate: float, order: jax.Array) -> PyTree:
        """The parameters after one step per row of `order`."""
        params = self.params
        for rows in order:
            params = self.step(params, learning_rate, rows, self.train)
        return params

    def record(self, params: PyTree, key: jax.Array) -> jax.Array:
        """The effective sharpness by power iteration."""
        vector = tree.normal(key, params)
        vector = tree.scale(1 / tree.norm(vector), vector)
        for _ in range(POWER_ITERATIONS):
            value, vector = self.iterate(params, vector, self.probe)
        return value


def same_model(recipe: Recipe, images: jax.Array, targets: jax.Array, probe_size: int) -> PlainLoop:
    """By hand, but with the lab's own model code and prepared inputs."""
    params = recipe.init_params(jnp.zeros((), jnp.int32))
    return _plain_loop(params, recipe.factors(), recipe.objective, recipe.prepare(images), targets, probe_size)


def lax_convnet(recipe: Recipe, images: jax.Array, targets: jax.Array, probe_size: int) -> PlainLoop:
    """By hand, with the Figure-1 ConvNet of the same weights written with `lax.conv_general_dilated`."""
    network = recipe.network.source.draw(nnx.Rngs(0))
    strides = {"first": 2, "second": 4}

    def forward(kernels: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        h_BxHxWxN = images
        for name, stride in strides.items():
            h_BxHxWxN = jax.lax.conv_general_dilated(
                h_BxHxWxN, kernels[name], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            h_BxHxWxN = jax.nn.relu(getattr(network, name).multiplier * h_BxHxWxN)
            h_BxHxWxN = jax.lax.reduce_window(h_BxHxWxN, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return network.readout.multiplier * (h_BxHxWxN.reshape(len(images), -1) @ kernels["readout"])

    def objective(kernels: dict[str, jax.Array], batch: PyTree) -> jax.Array:
        inputs, targets = batch
        return recipe.loss(forward(kernels, inputs), targets)

    params = _kernels(recipe.init_params(jnp.zeros((), jnp.int32)))
    channels = {"first": images.shape[-1], "second": recipe.network.source.rule.width}
    for name, count in channels.items():
        params[name] = params[name].reshape(3, 3, count, recipe.network.source.rule.width)
    _check_agreement(recipe, forward(params, images[:8]), images[:8])
    return _plain_loop(params, _kernels(recipe.factors()), objective, jnp.asarray(images), targets, probe_size)


def _kernels(params: nnx.State) -> dict[str, Any]:
    return {name: layer["kernel"] for name, layer in nnx.to_pure_dict(params).items()}


def _check_agreement(recipe: Recipe, logits: jax.Array, images: jax.Array) -> None:
    """A comparison of speed is worth nothing if the two networks differ."""
    expected = recipe.forward(recipe.init_params(jnp.zeros((), jnp.int32)), recipe.prepare(images))
    if not jnp.allclose(logits, expected, rtol=1e-4, atol=1e-5):
        raise ValueError("the plain ConvNet does not compute the logits of figure1_convnet: bring it up to date.")


def _plain_loop(
    params: PyTree, factors: PyTree, objective: Objective, inputs: jax.Array, targets: jax.Array, probe_size: int
) -> PlainLoop:
    roots = jax.tree.map(lambda factor: factor**0.5, factors)

    @jax.jit
    def step(params: PyTree, learning_rate: float, rows: jax.Array, train: PyTree) -> PyTree:
        gradient = jax.grad(objective)(params, jax.tree.map(lambda x: x[rows], train))
        return jax.tree.map(lambda w, g, factor: w - learning_rate * factor * g, params, gradient, factors)

    @jax.jit
    def iterate(params: PyTree, vector: PyTree, probe: PyTree) -> tuple[jax.Array, PyTree]:
        scaled = jax.tree.map(jnp.multiply, roots, vector)
        product = jax.jvp(lambda w: jax.grad(objective)(w, probe), (params,), (scaled,))[1]
        product = jax.tree.map(jnp.multiply, roots, product)
        return tree.dot(vector, product), tree.scale(1 / tree.norm(product), product)

    return PlainLoop(params, (inputs, targets), (inputs[:probe_size], targets[:probe_size]), objective, step, iterate)
