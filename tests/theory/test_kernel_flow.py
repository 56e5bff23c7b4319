"""Dynamics in output space against linearised training, powers of the kernel, and networks as they grow wide."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.data import batch_indices
from sharplab.losses import LOSSES, cross_entropy, squared_error
from sharplab.models import MODELS
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.theory.infinite_kernels import mlp_kernels
from sharplab.theory.kernel_flow import descend
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule

N, M, C = 12, 17, 3  # examples of training, all that are followed, outputs


def problem(seed=0):
    """A kernel of full rank on M examples, its first N rows; outputs and classes."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((M, 2 * M))
    kernel = features @ features.T / 4
    return jnp.array(kernel[:N]), jnp.array(rng.standard_normal((M, C))), jnp.array(rng.integers(0, C, N))


def full_batches(steps):
    return jnp.tile(jnp.arange(N), (steps, 1))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_descent_is_training_of_a_linear_model_batch_by_batch(float64, loss):
    rng = np.random.default_rng(1)
    features, weights = rng.standard_normal((M, 7)), jnp.array(rng.standard_normal((7, C)))
    targets = jnp.array(rng.integers(0, C, N))
    batches = batch_indices(3, N, 4, 0, 25)
    outputs = descend(
        jnp.array(features[:N] @ features.T), features @ weights, targets, batches, learning_rate=0.1, loss=loss
    )
    for rows in batches:
        slope = jax.grad(lambda w, rows=rows: loss(features[rows] @ w, targets[rows]))(weights)
        weights = weights - 0.1 * slope
    assert np.allclose(outputs, features @ weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [0.1, 1.0, 1.9, 2.1], ids="{} of the first eigenvalue's rate".format)
def test_full_batch_descent_on_the_squared_error_follows_the_powers_of_the_kernel(float64, size):
    kernel, outputs, classes = problem()
    K, one_hot = kernel[:, :N], jax.nn.one_hot(classes, C)
    rate = size * N / float(jnp.linalg.eigvalsh(K)[-1])
    for t in (0, 1, 5, 40):
        found = descend(kernel, outputs, classes, full_batches(t), learning_rate=rate, loss=squared_error)
        left = jnp.linalg.matrix_power(jnp.eye(N) - rate * K / N, t) @ (outputs[:N] - one_hot)
        assert np.allclose(found[:N], one_hot + left, rtol=1e-9, atol=1e-11)
        # What the others have moved is what the training examples have, through the kernel between them.
        moved = jnp.linalg.solve(K, found[:N] - outputs[:N])
        assert np.allclose(found, outputs + kernel.T @ moved, rtol=1e-9, atol=1e-9)


def test_one_descent_over_more_batches_is_two_after_each_other(float64):
    kernel, outputs, classes = problem()
    batches = jnp.array(batch_indices(0, N, 5, 0, 20))

    def go(f, batches):
        return descend(kernel, f, classes, batches, learning_rate=0.05, loss=cross_entropy)

    assert np.array_equal(go(outputs, batches), go(go(outputs, batches[:8]), batches[8:]))


def test_arguments_that_do_not_belong_together_are_refused():
    kernel, outputs, classes = problem()
    with pytest.raises(ValueError, match=r"kernel .*\(17, 12\)"):
        descend(kernel.T, outputs, classes, full_batches(1), learning_rate=1.0, loss=squared_error)
    with pytest.raises(ValueError, match=r"kernel .*12 outputs and 12 targets"):
        descend(kernel, outputs[:N], classes, full_batches(1), learning_rate=1.0, loss=squared_error)
    for wrong in ([[0, N]], [[-1, 0]], [[0.0, 1.0]]):
        with pytest.raises(ValueError, match=r"batches .*0 to 11"):
            descend(kernel, outputs, classes, jnp.array(wrong), learning_rate=1.0, loss=squared_error)


WIDTHS = (32, 128, 512)


@cache
def gaps_to_the_kernel(loss, share):
    """Root-mean-square distance of trained networks' outputs to the kernel's, by width and seed, on all M examples.

    Each network starts where it is drawn and makes 20 full-batch steps at `share` of the largest stable learning rate
    of the infinite one.
    """
    rng = np.random.default_rng(7)
    x, classes = rng.standard_normal((M, 8)).astype(np.float32), rng.integers(0, C, N)
    kernel = mlp_kernels(x[:N], x, depth=2).ntk
    rate = share * 2 * N / float(jnp.linalg.eigvalsh(kernel[:, :N])[-1])
    found = []
    for width in WIDTHS:
        rule = Rule(parameterization("ntk"), width, 1, 1.0, DepthRule(2))
        recipe = Recipe(Network(ByRule(MODELS["mlp"], rule, (8,), C)), LOSSES[loss], OPTIMIZERS["sgd"], ())

        @jax.jit
        def train(seed, recipe=recipe):
            run = recipe.begin(seed)
            start = recipe.forward(run.params, x)
            batch = (x[:N], jnp.asarray(classes))
            run = jax.lax.fori_loop(0, 20, lambda _, run: recipe.step(run, rate, batch), run)
            return start, recipe.forward(run.params, x)

        gaps = []
        for seed in range(4):
            start, end = train(seed)
            wanted = descend(
                kernel, start, jnp.asarray(classes), full_batches(20), learning_rate=rate, loss=LOSSES[loss]
            )
            gaps.append(float(jnp.sqrt(jnp.mean((end - wanted) ** 2)) / jnp.sqrt(jnp.mean((wanted - start) ** 2))))
        found.append(gaps)
    return np.array(found)


@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.long
def test_networks_come_nearer_to_their_kernel_as_they_grow_wide(loss, share):
    gaps = gaps_to_the_kernel(loss, share)
    slope = np.polyfit(np.log(WIDTHS), np.log(gaps.mean(axis=1)), 1)[0]
    assert -0.75 < slope < -0.3
    assert gaps[-1].mean() < 0.15
