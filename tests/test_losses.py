"""Losses against numpy, and as means over examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.losses import LOSSES, cross_entropy, squared_error

RNG = np.random.default_rng(0)
OUTPUTS = RNG.standard_normal((8, 5)) * 3
CLASSES = RNG.integers(0, 5, 8)
REAL = RNG.standard_normal((8, 5))


def test_cross_entropy_is_minus_the_log_of_the_target_share(float64):
    share = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(1, keepdims=True)
    expected = -np.log(share[np.arange(8), CLASSES]).mean()
    assert np.isclose(cross_entropy(OUTPUTS, CLASSES), expected, rtol=1e-13)


def test_squared_error_is_half_the_mean_of_the_sum_over_outputs(float64):
    expected = 0.5 * ((OUTPUTS - REAL) ** 2).sum(1).mean()
    assert np.isclose(squared_error(OUTPUTS, REAL), expected, rtol=1e-13)


def test_squared_error_takes_classes_as_one_hot_rows(float64):
    assert np.isclose(squared_error(OUTPUTS, CLASSES), squared_error(OUTPUTS, np.eye(5)[CLASSES]), rtol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_a_batch_is_the_mean_of_its_halves(float64, name):
    loss = LOSSES[name]
    halves = [loss(OUTPUTS[half], CLASSES[half]) for half in (slice(0, 4), slice(4, 8))]
    assert np.isclose(loss(OUTPUTS, CLASSES), np.mean(halves), rtol=1e-14)


def test_cross_entropy_stays_finite_for_huge_logits():
    outputs = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    value, gradient = jax.value_and_grad(cross_entropy)(outputs, jnp.array([0, 0]))
    assert np.isclose(value, 5e3)
    assert jnp.isfinite(gradient).all()
