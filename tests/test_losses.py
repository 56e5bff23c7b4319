"""Losses against numpy, and as means over examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from sharplab.losses import LOSSES, cross_entropy, output_hessian, squared_error

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


SEQUENCES = RNG.standard_normal((2, 3, 5)) * 3


@pytest.mark.parametrize("outputs", [OUTPUTS, SEQUENCES], ids=["rows", "sequences"])
@pytest.mark.parametrize("name", LOSSES)
def test_output_hessian_is_the_second_derivative_of_the_loss(float64, name, outputs):
    targets = RNG.integers(0, 5, outputs.shape[:-1])
    exact = jax.jit(jax.hessian(LOSSES[name]))(outputs, targets).reshape(outputs.size, -1)
    product = jax.jit(output_hessian(LOSSES[name]).product(jnp.asarray(outputs)))
    found = np.stack([product(e.reshape(outputs.shape)).ravel() for e in np.eye(outputs.size)])
    assert np.abs(exact).max() > 0.01
    assert np.allclose(found / (outputs.size / 5), exact, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_root_times_its_transpose_is_the_output_hessian(float64, name):
    closed = output_hessian(LOSSES[name])
    outputs, u = jnp.asarray(SEQUENCES), RNG.standard_normal(SEQUENCES.shape)
    transposed, straight = closed.root(outputs)
    assert np.allclose(straight(transposed(u)), closed.product(outputs)(u), atol=1e-15)
    w = RNG.standard_normal(SEQUENCES.shape)
    assert np.isclose(np.vdot(w, transposed(u)), np.vdot(straight(w), u), rtol=1e-12)


def test_root_of_the_softmax_is_exact_where_shares_underflow(float64):
    outputs = jnp.array([[0.0, -800.0, -2000.0]])
    transposed, _ = output_hessian(cross_entropy).root(outputs)
    assert np.isclose(transposed(jnp.array([[0.0, 1.0, 0.0]]))[0, 1], np.exp(-400.0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_samples_have_the_likelihood_whose_information_is_the_output_hessian(float64, name):
    """The covariance of the loss's gradient in the outputs, over 20,000 draws, within 5 standard errors."""
    closed, outputs, draws = output_hessian(LOSSES[name]), jnp.array([[1.0, 0.0, -1.0]]), 20_000
    keys = jax.random.split(jax.random.key(0), draws)
    targets = jax.vmap(closed.sample, (0, None))(keys, outputs)
    scores = jax.vmap(jax.grad(LOSSES[name]), (None, 0))(outputs, targets)[:, 0]
    exact = np.stack([closed.product(outputs)(e[None])[0] for e in jnp.eye(3)])
    spread = np.einsum("si,sj->sij", scores, scores)
    assert (np.abs(spread.mean(0) - exact) <= 5 * spread.std(0) / draws**0.5).all()
    assert np.allclose(scores.mean(0), 0, atol=0.05)


def test_output_hessian_is_found_through_partials_without_arguments_alone():
    assert output_hessian(Partial(cross_entropy)) is output_hessian(cross_entropy)
    assert output_hessian(Partial(squared_error, targets=jnp.zeros(3))) is None
    assert output_hessian(jnp.sum) is None
