"""What must not change: the abc symmetry, neuron duplication, and the closed dynamics of a linear network."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import dense_hessian, make_batch, make_recipe

from sharplab.losses import squared_error
from sharplab.models.layers import ScaledLinear
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling import Rule, parameterization
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule

STEPS = 20
RATES = {("residual_mlp", "mup"): 0.1, ("figure1_convnet", "ntk"): 0.5}


class Trace(NamedTuple):
    """A run's outputs after each step, and the top of the raw and of the effective spectrum before and after it."""

    outputs: np.ndarray
    losses: np.ndarray
    raw: np.ndarray
    effective: np.ndarray


@jax.jit
def run(recipe, inputs, classes, learning_rate):
    """The outputs and losses of `STEPS` full-batch steps, the Hessians at both ends, and the state at the first."""

    def step(run, _):
        outputs = recipe.forward(run.params, inputs)
        return recipe.step(run, learning_rate, (inputs, classes)), (outputs, recipe.loss(outputs, classes))

    dense = dense_hessian(recipe)
    first = recipe.begin(0)
    last, (outputs, losses) = jax.lax.scan(step, first, length=STEPS)
    ends = jax.tree.map(lambda *ends: jnp.stack(ends), first.params, last.params)
    return outputs, losses, jax.lax.map(lambda params: dense(params, (inputs, classes)), ends), first


def train(model, scaling, learning_rate):
    """What a run of `STEPS` steps in float64, beyond the base width, shows."""
    recipe = make_recipe(model, 12 if model == "residual_mlp" else 6, scaling)
    images, classes = make_batch(model, examples=8)
    outputs, losses, hessians, first = run(recipe, recipe.prepare(images.astype(np.float64)), classes, learning_rate)
    metric = jax.tree.map(np.full_like, first.params, recipe.metric(first.params, first.opt_state))
    root = np.sqrt(np.concatenate([np.ravel(d) for d in jax.tree.leaves(metric)]))
    raw = np.linalg.eigvalsh(hessians)[:, -1]
    return Trace(outputs, losses, raw, np.linalg.eigvalsh(root[:, None] * np.asarray(hessians) * root)[:, -1])


@pytest.mark.parametrize(
    "model, name, shifted",
    [
        ("residual_mlp", "mup", parameterization("mup").shift(0.3)),
        ("figure1_convnet", "ntk", parameterization("ntk").shift(-0.4)),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_shifted_parameterization_is_the_same_run_with_another_raw_sharpness(float64, model, name, shifted):
    reference = train(model, parameterization(name), RATES[model, name])
    found = train(model, shifted, RATES[model, name])
    assert reference.losses[-1] < 0.97 * reference.losses[0]  # it learns
    assert np.allclose(found.outputs, reference.outputs, rtol=0, atol=1e-11 * np.abs(reference.outputs).max())
    assert np.allclose(found.effective, reference.effective, rtol=1e-11)
    assert np.all(np.abs(np.log(found.raw / reference.raw)) > 0.1)


class LinearNet(nnx.Module):
    """f(x) = xᵀ E V with the multipliers of the rule."""

    def __init__(self, *, input_shape, classes, width, depth, rule, rngs):
        self.first = ScaledLinear(input_shape[0], width, role="input", rule=rule, rngs=rngs)
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)

    def forward(self, x):
        return self.readout(self.first(x))


D, N, EXAMPLES, RATE = 4, 6, 10, 0.2
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((EXAMPLES, D))
TARGETS = 0.3 * RNG.standard_normal((EXAMPLES, 1)) + INPUTS[:, :1]
# Neurons in pairs (e, v), (e, −v): the function starts at 0 under every parameterization.
E = np.tile(RNG.standard_normal((D, N // 2)), 2)
V = np.outer([1, -1], RNG.standard_normal(N // 2)).ravel()
LINEAR_STEPS = 60


class LinearRun(NamedTuple):
    """Losses of `LINEAR_STEPS` full-batch steps, and the top effective eigenvalue at both ends."""

    losses: np.ndarray
    effective: np.ndarray


@lru_cache
def train_linear(scaling, copies):
    """The network of the weights E and V, at the size of unit variance, every neuron being there `copies` times."""
    rule = Rule(parameterization(scaling), copies * N)
    recipe = Recipe(Network(ByRule(LinearNet, rule, (D,), 1)), squared_error, OPTIMIZERS["sgd"], ())
    weights = (np.tile(E, copies) * rule.init_std("input", D), np.tile(V, copies)[:, None] * rule.init_std("output", 1))
    dense = dense_hessian(recipe)

    @jax.jit
    def run(weights, batch):
        def step(run, _):
            return recipe.step(run, RATE, batch), recipe.objective(run.params, batch)

        run = recipe.begin(0)
        first = run._replace(params=jax.tree.unflatten(jax.tree.structure(run.params), weights))
        last, losses = jax.lax.scan(step, first, length=LINEAR_STEPS)
        ends = jax.tree.map(lambda *ends: jnp.stack(ends), first.params, last.params)
        return losses, jax.lax.map(lambda params: dense(params, batch), ends)

    losses, hessians = run(weights, (INPUTS, TARGETS))
    factors = jax.tree.leaves(recipe.factors())
    root = np.sqrt(np.concatenate([np.full(w.size, factor) for w, factor in zip(weights, factors, strict=True)]))
    return LinearRun(np.asarray(losses), np.linalg.eigvalsh(root[:, None] * np.asarray(hessians) * root)[:, -1])


def test_duplicating_every_neuron_changes_nothing_under_mup(float64):
    alone, copied = train_linear("mup", 1), train_linear("mup", 3)
    assert alone.losses[-1] < 0.5 * alone.losses[0]
    assert np.allclose(copied.losses, alone.losses, rtol=1e-10)
    assert np.allclose(copied.effective, alone.effective, rtol=1e-10)


def test_duplicating_every_neuron_changes_the_run_under_ntk(float64):
    alone, copied = train_linear("ntk", 1), train_linear("ntk", 3)
    assert np.isclose(copied.losses[0], alone.losses[0], rtol=1e-12)
    assert np.abs(copied.losses / alone.losses - 1).max() > 0.01
    assert abs(copied.effective[-1] / alone.effective[-1] - 1) > 0.01


@pytest.mark.parametrize("scaling, feature_rate", [("mup", 1.0), ("ntk", 1 / N)])
def test_linear_network_follows_its_closed_dynamics(float64, scaling, feature_rate):
    """u = EV/(γ√N), Q = EEᵀ/N and s = |V|²/N move by themselves, with γ²/N the one constant (arXiv 2402.17457)."""
    X, c = INPUTS / np.sqrt(D), feature_rate
    u, Q, s = E @ V / (np.sqrt(N * c) * np.sqrt(N)), E @ E.T / N, V @ V / N
    losses = []
    for _ in range(LINEAR_STEPS):
        residual = X @ u - TARGETS[:, 0]
        losses.append(0.5 * np.mean(residual**2))
        g = X.T @ residual / EXAMPLES
        u, Q, s = (
            u - RATE * (s * g + Q @ g) + RATE**2 * c * (u @ g) * g,
            Q - RATE * c * (np.outer(g, u) + np.outer(u, g)) + RATE**2 * c * s * np.outer(g, g),
            s - 2 * RATE * c * (u @ g) + RATE**2 * c * (g @ Q @ g),
        )
    assert losses[-1] < 0.5 * losses[0]
    assert np.allclose(train_linear(scaling, 1).losses, losses, rtol=1e-11)
