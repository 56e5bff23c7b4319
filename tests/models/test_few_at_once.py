"""Models whose large layers take few examples at a time give what they give at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import make_batch, make_recipe

from sharplab.losses import cross_entropy
from sharplab.models import layers
from sharplab.models.gpt import GPT
from sharplab.scaling import DepthRule, Rule, parameterization

EXAMPLES = 7


def convnet():
    """Its objective, its parameters, and how many numbers an example has before the pool."""
    recipe = make_recipe("figure1_convnet", 8)
    images, classes = make_batch("figure1_convnet", EXAMPLES, seed=1)
    batch = recipe.prepare(images.astype(np.float64)), classes
    return (
        partial(recipe.objective, batch=batch),
        nnx.split(recipe.network.source.draw(jax.random.key(0)))[1],
        8 * 8 * 8,
    )


def transformer():
    """The same, with logits and weights of attention."""
    rule = Rule(parameterization("mup"), 8, 4, 1.0, DepthRule(2))
    graph, params = nnx.split(GPT(input_shape=(5,), classes=6, width=8, depth=2, rule=rule, rngs=nnx.Rngs(0)))
    tokens, following = np.random.default_rng(1).integers(0, 6, (2, EXAMPLES, 5))

    def objective(params):
        return cross_entropy(nnx.merge(graph, params)(tokens), following)

    return objective, params, 2 * 8 * 5 * 5


@pytest.mark.parametrize("network", [convnet, transformer])
@pytest.mark.long
def test_gradient_and_hessian_product_are_the_same_a_few_examples_at_a_time(float64, monkeypatch, network):
    objective, params, numbers = network()
    direction = jax.tree.map(jnp.cos, params)

    def found(cached):
        monkeypatch.setattr(layers, "CACHED", cached)
        gradient = jax.grad(lambda params: objective(params))  # one that jax has not traced yet
        assert ("scan" in str(jax.make_jaxpr(gradient)(params))) == (cached == in_threes)
        return jax.jvp(gradient, (params,), (direction,))

    in_threes = 3 * numbers  # two blocks of three, and one example
    for ours, theirs in zip(jax.tree.leaves(found(in_threes)), jax.tree.leaves(found(2**30)), strict=True):
        assert np.abs(theirs).max() > 1e-6
        assert np.allclose(ours, theirs, rtol=1e-10, atol=1e-14)
