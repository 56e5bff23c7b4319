"""Training steps of the lab's models: they learn, and learn alike in all forms of one parameterization."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from architectures import BASE_WIDTH, small_batch, small_recipe

from sharplab.optimizers import make_optimizer
from sharplab.scaling import parameterization

NO_MULTIPLIERS = parameterization("mup").shift({"input": 0.5, "vector": 0.5, "output": -0.5})


def course(model, width, scaling, optimizer, learning_rate):
    """The outputs before and after four full-batch steps, which lower the loss."""
    recipe = small_recipe(model, width, scaling, optimizer=optimizer, gamma=0.7)
    inputs, targets = small_batch(model)
    inputs, run = recipe.prepare(inputs), recipe.begin(0)
    step, forward = jax.jit(recipe.step), jax.jit(recipe.forward)
    before = forward(run.params, inputs)
    for _ in range(4):
        run = step(run, learning_rate, (inputs, targets))
    after = forward(run.params, inputs)
    assert recipe.loss(after, targets) < 0.9 * recipe.loss(before, targets)
    return before, after


@pytest.mark.long
def test_steps_of_adam_are_the_same_in_all_parameterizations_at_the_base(float64):
    """Each multiplier, size and rate is that of one weight in other units, the tied table's too."""
    adam = make_optimizer("adamw", eps=1e-2, weight_decay=0.1)
    expected = course("gpt_tied", BASE_WIDTH, "standard", adam, 0.02)
    assert np.allclose(course("gpt_tied", BASE_WIDTH, "mean_field", adam, 0.02), expected, rtol=0, atol=1e-10)


@pytest.mark.long
def test_mup_without_multipliers_is_the_same_run_beyond_the_base(float64):
    """Of a model with norms in its branches: their gains and biases are scaled as input weights are."""
    sgd = make_optimizer("sgd")
    expected = course("residual_convnet_layernorm", 2 * BASE_WIDTH, "mup", sgd, 0.2)
    found = course("residual_convnet_layernorm", 2 * BASE_WIDTH, NO_MULTIPLIERS, sgd, 0.2)
    assert np.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model, chunk", [("residual_convnet_batchnorm", None), ("residual_convnet_layernorm", 4)])
def test_curvature_takes_a_batch_whole_where_its_examples_interact(model, chunk):
    recipe = replace(small_recipe(model, BASE_WIDTH, "mup"), probe_chunk=4)
    assert recipe.measurement().chunk == chunk


def test_random_features_need_weights_that_only_read_out():
    recipe = replace(small_recipe("gpt_tied", BASE_WIDTH, "mup"), trainable="readout")
    with pytest.raises(ValueError, match="trainable='readout' leaves nothing of this model to train"):
        recipe.factors()
