"""Programs of run batches: networks of one structure share them, whatever their parameterization's numbers."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from own_networks import Branched, Net
from problems import make_recipe

from sharplab.losses import cross_entropy
from sharplab.models import MODELS, find_model
from sharplab.models.layers import ScaledLinear
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling import PARAMETERIZATIONS, DepthRule, Rule, parameterization
from sharplab.scaling.rule import RuleNumbers
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule, find_source
from sharplab.training.task import Run, Task
from sharplab.training.train import train_runs

COMPILATION = "/jax/core/compile/backend_compile_duration"
IMAGES, CLASSES = (32, 32, 3), 4


@contextmanager
def counting_compilations():
    """A list to which each compilation of a program is appended."""
    found = []

    def count(event: str, seconds: float, **_: object) -> None:
        if event == COMPILATION:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


def task(**changes):
    settings = {
        "model": "residual_mlp",
        "data": "gaussian-clusters",
        "optimizer": "sgd",
        "parameterization": "mup",
        "width": 8,
        "base_width": 4,
        "depth": 2,
        "alpha": 0.5,
        "steps": 4,
        "batch_size": 16,
        "probe_size": 32,
        "record_steps": (0, 4),
        "observables": ("train_loss", "sharpness"),
    }
    return Task(**(settings | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw"},
        {"model": "own_networks:Wide", "depth": 1, "alpha": 0.0},
        pytest.param(
            {"model": "residual_convnet", "data": "own_objects:images", "depth": 3, "observables": ("train_loss",)},
            marks=pytest.mark.long,
        ),
    ],
    ids=["residual_mlp", "adamw", "own by roles", "python loop"],
)
def test_further_parameterizations_and_richnesses_of_one_shape_compile_nothing(changes):
    first = task(**changes)
    (before,) = next(train_runs(first, [Run(0.1, 0)]))
    own = ":" in first.model
    names = [name for name in PARAMETERIZATIONS if not own or name != "mean_field"]
    others = [replace(first, parameterization=name, gamma=gamma) for name in names for gamma in (0.5, 2.0)]
    # Own networks are drawn once at each width that their initialisers are measured at.
    others += [] if own else [replace(first, base_width=2), replace(first, alpha=1.0)]
    with counting_compilations() as compiled:
        trained = [next(train_runs(other, [Run(0.1, 0)]))[0] for other in others]
    assert not compiled
    ends = [result.curves[first.observables[-1]][-1] for result in (before, *trained)]
    assert np.isfinite(ends).all() and len({f"{end:.4g}" for end in ends}) > len(others) // 2


def recipe_of(model, rule, optimizer="adamw"):
    source = ByRule(find_model(model), rule, (16,) if model.startswith("gpt") else IMAGES, CLASSES)
    return Recipe(Network(source), cross_entropy, OPTIMIZERS[optimizer], ())


def rule_of(name, model="", gamma=0.5):
    return Rule(parameterization(name), 8, 2, gamma, DepthRule(3 if "convnet" in model else 2, 1, 0.5))


def test_a_networks_numbers_are_known_without_drawing_its_weights():
    def leaves(width):
        rule = replace(rule_of("mup"), width=width)
        return jax.tree.leaves(recipe_of("residual_mlp", rule).network)

    leaves(20)
    with counting_compilations() as compiled:
        assert leaves(28) != leaves(36)
    assert len(compiled) == 2  # one for the numbers of each; a draw would compile one for each shape of weights


@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("figure1_convnet", "linear_network")])
def test_every_model_of_the_lab_keeps_the_rules_numbers_as_arguments(model):
    structures = {jax.tree.structure(recipe_of(model, rule_of(name, model))) for name in PARAMETERIZATIONS}
    assert len(structures) == 1
    assert jax.tree.leaves(recipe_of(model, rule_of("mup", model))) != jax.tree.leaves(
        recipe_of(model, rule_of("ntk", model))
    )


@pytest.mark.parametrize(
    "model, name",
    [
        pytest.param("gpt_tied", "mup", marks=pytest.mark.long),
        pytest.param("vit", "standard", marks=pytest.mark.long),
        ("residual_convnet_layernorm", "mean_field"),
    ],
)
def test_numbers_as_arguments_are_those_that_a_program_may_hold(model, name):
    recipe = recipe_of(model, rule_of(name, model))
    inputs = jnp.ones((2, 16), int) if model.startswith("gpt") else jax.random.normal(jax.random.key(0), (2, *IMAGES))

    def outputs(recipe):
        params = recipe.init_params(0)
        return recipe.forward(params, recipe.prepare(inputs)), (recipe.factors(), recipe.gradient_scales())

    (as_arguments, factors), (held, exact) = jax.jit(outputs)(recipe), jax.jit(partial(outputs, recipe))()
    assert np.allclose(as_arguments, held, rtol=1e-4, atol=1e-6)
    for found, wanted in zip(jax.tree.leaves(factors), jax.tree.leaves(exact), strict=True):
        assert np.isclose(found, wanted, rtol=1e-6)
    with jax.enable_x64(True):
        wanted = jax.jit(lambda: recipe.network.source.draw(jax.random.key(0))(inputs))()
        assert np.allclose(jax.jit(lambda: outputs(recipe)[0])(), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_a_rule_is_its_numbers(name):
    rule = rule_of(name)
    numbers = jax.tree.map(float, rule.numbers)
    assert isinstance(numbers, RuleNumbers)
    places = [("input", 27), ("hidden", 72), ("output", 8), ("vector", 1), ("scalar", 1)]
    for role, fan_in in places:
        for quantity in ("unit", "multiplier", "init_std"):
            assert getattr(numbers, quantity)(role, fan_in, 2.0) == getattr(rule, quantity)(role, fan_in, 2.0)


class Arithmetic(nnx.Module):
    """A model that computes with the rule's numbers as it is built, and keeps what comes out."""

    def __init__(self, *, input_shape, classes, width, rule, rngs, keep):
        self.layer = ScaledLinear(*input_shape, classes, role="output", rule=rule, rngs=rngs)
        self.kept = keep(rule)

    def __call__(self, x):
        kept = self.kept(x) if callable(self.kept) else sum(jax.tree.leaves(self.kept))
        return kept * self.layer(x)


KEEPS = {
    "branching": lambda rule: 2.0 if rule.gamma > 0.7 else 3.0,
    "converted": lambda rule: float(rule.multiplier("output", 4)),
    "a tuple": lambda rule: (rule.depth.multiplier, rule.ratio),
    "a function": lambda rule: lambda x: rule.ratio,
}


@pytest.mark.parametrize("keep", KEEPS)
def test_a_model_that_keeps_numbers_of_its_own_has_them_in_its_programs(keep):
    for gamma in (0.5, 1.0):
        rule = Rule(parameterization("mup"), 8, 2, gamma)
        recipe = Recipe(
            Network(ByRule(partial(Arithmetic, keep=KEEPS[keep]), rule, (4,), 3)),
            cross_entropy,
            OPTIMIZERS["sgd"],
            (),
        )
        params, variables = recipe.network.init(0)
        found = jax.jit(Recipe.forward)(recipe, params, jnp.ones((2, 4)), variables)
        wanted = recipe.network.source.draw(jax.random.key(0))(jnp.ones((2, 4)))
        assert np.allclose(found, wanted, rtol=1e-6)


def test_a_models_own_multipliers_stay_in_the_program_and_roles_numbers_do_not():
    rules = [Rule(parameterization(name), 16, 8, 1.0, DepthRule(2, 1, 0.5)) for name in ("mup", "ntk")]
    sources = [find_source(Branched, rule, (16,), CLASSES, OPTIMIZERS["adam"]) for rule in rules]
    assert len({jax.tree.structure(Network(source)) for source in sources}) == 1
    shallow = replace(rules[0], depth=DepthRule(2, 1, 1.0))
    deeper = find_source(Branched, shallow, (16,), CLASSES, OPTIMIZERS["adam"])
    assert jax.tree.structure(Network(deeper)) != jax.tree.structure(Network(sources[0]))


def test_roles_numbers_are_of_one_kind_of_optimizer():
    source = find_source(Net, Rule(parameterization("mup"), 16, 8), (16,), CLASSES, OPTIMIZERS["adam"])
    with pytest.raises(ValueError, match="optimizer"):
        Network(source).scaled(OPTIMIZERS["sgd"])


def test_equal_recipes_are_one_static_argument():
    recipe, again = make_recipe("residual_mlp", 4), make_recipe("residual_mlp", 4)
    assert recipe == again and hash(recipe) == hash(again)
    assert jax.tree.structure(recipe) == jax.tree.structure(make_recipe("residual_mlp", 4, "ntk"))
