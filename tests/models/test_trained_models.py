"""Training steps of the lab's models: they learn, and learn alike in all forms of one parameterization."""

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
    inputs, lane = recipe.prepare(inputs), recipe.begin(0)
    step, forward = jax.jit(recipe.step), jax.jit(recipe.forward)
    before = forward(lane.params, inputs)
    for _ in range(4):
        lane = step(lane, learning_rate, (inputs, targets))
    after = forward(lane.params, inputs)
    assert recipe.loss(after, targets) < 0.9 * recipe.loss(before, targets)
    return before, after


def test_steps_of_adam_are_the_same_in_all_parameterizations_at_the_base(float64):
    """Each multiplier, size and rate is that of one weight in other units, the tied table's too."""
    adam = make_optimizer("adamw", eps=1e-2, weight_decay=0.1)
    expected = course("gpt_tied", BASE_WIDTH, "standard", adam, 0.02)
    assert np.allclose(course("gpt_tied", BASE_WIDTH, "mean_field", adam, 0.02), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "model, optimizer, learning_rate",
    [
        ("residual_convnet_layernorm", make_optimizer("sgd"), 0.2),
        ("vit", make_optimizer("sgd"), 0.1),
        ("gpt_tied", make_optimizer("adam", eps=1e-4), 0.02),
    ],
)
def test_mup_without_multipliers_is_the_same_run_beyond_the_base(float64, model, optimizer, learning_rate):
    expected = course(model, 2 * BASE_WIDTH, "mup", optimizer, learning_rate)
    found = course(model, 2 * BASE_WIDTH, NO_MULTIPLIERS, optimizer, learning_rate)
    assert np.allclose(found, expected, rtol=0, atol=1e-10)
