"""The four formulations of muP are one training run; learning rates and ε carry the difference."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sharplab.losses import cross_entropy
from sharplab.models.layers import ScaledLinear, multiplier
from sharplab.models.mlp import MLP
from sharplab.optimizers import make_optimizer
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule

FORMULATIONS = {
    "3: no multipliers": {"input": 0.5, "vector": 0.5, "output": -0.5},
    "8: readout multiplier": {"input": 0.5, "vector": 0.5, "output": 0.5},
    "unit variance": {"input": 0.5, "vector": 0.5, "hidden": 0.5, "output": 0.5},
}
OPTIMIZERS = {
    "sgd": (make_optimizer("sgd"), 0.2),
    "nesterov": (make_optimizer("nesterov"), 0.02),
    "adam without ε": (make_optimizer("adam", eps=0.0), 0.05),
    "adamw with a large ε": (make_optimizer("adamw", eps=1e-2, weight_decay=0.1), 0.05),
    "lion": (make_optimizer("lion"), 0.01),
    "muon": (make_optimizer("muon", eps=0.0), 0.02),
}
D, WIDTH, CLASSES, EXAMPLES, STEPS = 5, 16, 3, 12, 50
X = np.random.default_rng(0).standard_normal((EXAMPLES, D))
Y = np.arange(EXAMPLES) % CLASSES


class Biased(nnx.Module):
    """Every role: an input matrix and bias, a hidden residual branch with a bias, the readout and its bias."""

    def __init__(self, *, input_shape, classes, width, depth, rule, rngs):
        self.first = ScaledLinear(input_shape[0], width, role="input", rule=rule, rngs=rngs)
        self.hidden = ScaledLinear(width, width, role="hidden", rule=rule, rngs=rngs, in_branch=True)
        self.readout = ScaledLinear(width, classes, role="output", rule=rule, rngs=rngs)
        self.first_bias, self.hidden_bias, self.readout_bias = (
            nnx.Param(jnp.zeros(size), role=role, in_branch=in_branch)
            for size, role, in_branch in ((width, "vector", False), (width, "vector", True), (classes, "scalar", False))
        )
        numbers = rule.multiplier("vector", 1), rule.multiplier("scalar", 1), rule.depth.multiplier
        self.vector, self.scalar, self.branch = map(multiplier, numbers)

    def forward(self, x):
        h = jnp.tanh(self.first(x) + self.vector * self.first_bias[...][None])
        h = h + self.branch * jnp.tanh(self.hidden(h) + self.vector * self.hidden_bias[...][None])
        return self.readout(h) + self.scalar * self.readout_bias[...][None]


@partial(jax.jit, static_argnames="steps")
def run(recipe, learning_rate, steps):
    """The network's outputs before each step; the formulations of one optimizer are arguments of one program."""

    def step(run, _):
        return recipe.step(run, learning_rate, (X, Y)), recipe.forward(run.params, jnp.asarray(X))

    return jax.lax.scan(step, recipe.begin(0), length=steps)[1]


@lru_cache
def outputs(formulation, optimizer):
    """The network's outputs after each of `STEPS` full-batch steps at four times the base width."""
    scaling = parameterization("mup")
    scaling = scaling.shift(FORMULATIONS[formulation]) if formulation else scaling
    rule = Rule(scaling, WIDTH, 4, gamma=0.7, depth=DepthRule(4, 1, 0.5))
    recipe = Recipe(Network(ByRule(Biased, rule, (D,), CLASSES)), cross_entropy, *OPTIMIZERS[optimizer][:1], ())
    return np.asarray(run(recipe, OPTIMIZERS[optimizer][1], STEPS))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_all_formulations_train_identically(float64, formulation, optimizer):
    reference = outputs(None, optimizer)
    assert np.abs(reference[-1] - reference[0]).max() > 0.3  # it learns
    # Signs and orthogonalised matrices amplify rounding.
    tolerance = 1e-4 if optimizer in ("lion", "muon") else 1e-9
    assert np.allclose(outputs(formulation, optimizer), reference, rtol=0, atol=tolerance)


@pytest.mark.parametrize("optimizer", ["adamw with a large ε", "lion"])
@pytest.mark.parametrize("name", ["ntk", "mup", "mean_field"])
def test_sign_like_steps_make_all_parameterizations_one_run_at_the_base(float64, name, optimizer):
    def trajectory(name):
        rule = Rule(parameterization(name), 8, 8)
        recipe = Recipe(Network(ByRule(Biased, rule, (D,), CLASSES)), cross_entropy, OPTIMIZERS[optimizer][0], ())
        return np.asarray(run(recipe, OPTIMIZERS[optimizer][1], 11))

    assert np.allclose(trajectory(name), trajectory("standard"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["lamb", "lars"])
def test_relative_steps_are_the_same_in_all_formulations_and_in_all_parameterizations_at_the_base(float64, name):
    """They take no learning rate for a multiplier; of a network without zeros, whose first step would be absolute."""

    def trajectory(scaling, base_width):
        rule = Rule(scaling, WIDTH, base_width, gamma=0.7, depth=DepthRule(3, 1, 0.5))
        recipe = Recipe(Network(ByRule(MLP, rule, (D,), CLASSES)), cross_entropy, make_optimizer(name), ())
        return np.asarray(run(recipe, 0.02, 20))

    mup = parameterization("mup")
    wide, base = trajectory(mup, 4), trajectory(parameterization("standard"), WIDTH)
    assert min(np.abs(outputs[-1] - outputs[0]).max() for outputs in (wide, base)) > 0.1
    for shift in (0.3, FORMULATIONS["3: no multipliers"]):
        assert np.allclose(trajectory(mup.shift(shift), 4), wide, rtol=0, atol=1e-9)
    for other in ("mup", "ntk"):
        assert np.allclose(trajectory(parameterization(other), WIDTH), base, rtol=0, atol=1e-9)


def test_relative_steps_are_as_large_as_adams_for_weights_as_they_are_drawn():
    for name in ("mup", "mean_field"):
        for role, exponents in parameterization(name).roles.items():
            assert exponents.c["relative"] == exponents.c["adam"] - exponents.b == (0.5 if role == "hidden" else 0)
            assert parameterization("mup").per_layer("full").roles[role].c == parameterization("mup").roles[role].c
    assert not any(e.c["relative"] for name in ("standard", "ntk") for e in parameterization(name).roles.values())


def test_adams_epsilon_left_as_it_is_would_tell_the_formulations_apart(float64):
    """What the gradient scales are for: without them the large ε acts differently in each formulation."""
    recipes = {}
    for formulation in (None, "unit variance"):
        scaling = parameterization("mup").shift(FORMULATIONS[formulation]) if formulation else parameterization("mup")
        recipes[formulation] = Recipe(
            Network(ByRule(Biased, Rule(scaling, WIDTH, 4), (D,), CLASSES)),
            cross_entropy,
            OPTIMIZERS["adamw with a large ε"][0],
            (),
        )
    scales = [jax.tree.leaves(recipe.gradient_scales()) for recipe in recipes.values()]
    assert not np.allclose(*scales)
