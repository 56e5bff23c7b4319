"""Every model of the lab on inputs as small as it takes, as recipes and batches."""

import jax
import numpy as np
from flax import nnx

from sharplab.core import tree
from sharplab.losses import cross_entropy
from sharplab.models import MODELS
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule

CLASSES, BASE_WIDTH = 7, 8
SHAPES = {"figure1_convnet": (32, 32, 1), "vit": (8, 12, 2), "gpt": (6,), "gpt_tied": (6,)}
DEPTHS = {"figure1_convnet": 2, "linear_network": 2, "vit": 1, "gpt": 1, "gpt_tied": 1}


# Of the recipe as an argument, so that tests share their programs.
init_params, forward = jax.jit(Recipe.init_params), jax.jit(Recipe.forward)


def shape_of(model):
    """Of one example."""
    return SHAPES.get(model, (16, 16, 2) if model.startswith("residual_convnet") else (5,))


def small_recipe(model, width=BASE_WIDTH, scaling="mup", *, optimizer=OPTIMIZERS["sgd"], depth=None, gamma=1.0):
    """A model of the table at this width, with base width 8, base depth 1 and α = ½."""
    scaling = parameterization(scaling) if isinstance(scaling, str) else scaling
    depth = DEPTHS.get(model, 3) if depth is None else depth
    rule = Rule(scaling, width, BASE_WIDTH, gamma, DepthRule(depth, alpha=0.5))
    return Recipe(Network(ByRule(MODELS[model], rule, shape_of(model), CLASSES)), cross_entropy, optimizer, ())


def small_batch(model, examples=4, seed=0):
    """Gaussian inputs, or random tokens, and random targets, one per prediction."""
    rng = np.random.default_rng(seed)
    shape = (examples, *shape_of(model))
    if model.startswith("gpt"):
        return rng.integers(0, CLASSES, shape, dtype=np.int32), rng.integers(0, CLASSES, shape, dtype=np.int32)
    return rng.standard_normal(shape), rng.integers(0, CLASSES, examples, dtype=np.int32)


def as_inputs(model, inputs):
    """In single precision, unless they are tokens."""
    return inputs if model.startswith("gpt") else inputs.astype(np.float32)


def assert_equals_plain(plain, recipe, params, batch, tolerance=1e-10):
    """Outputs and gradient of the loss are those of `plain(weights by path, inputs)`, and none of them vanishes."""
    inputs, targets = batch

    def ours(params, x):
        outputs = recipe.forward(params, recipe.prepare(x))
        return recipe.loss(outputs, targets), outputs

    def theirs(params, x):
        outputs = plain(params, x)
        return recipe.loss(outputs, targets), outputs

    (_, found), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(params, inputs)
    (_, wanted), expected = jax.jit(jax.value_and_grad(theirs, has_aux=True))(nnx.to_pure_dict(params), inputs)
    assert found.shape == wanted.shape
    assert np.abs(found).max() > 0.1
    assert np.allclose(found, wanted, rtol=0, atol=tolerance)
    for (name, g), e in zip(tree.named_leaves(gradient).items(), jax.tree.leaves(expected), strict=True):
        assert np.abs(e).max() > 1e-4, name
        assert np.allclose(g, e, rtol=0, atol=tolerance), name
