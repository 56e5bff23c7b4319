"""The gradient noise scale: its two parts without bias, its error covering, and closed form for linear regression."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from problems import symmetric

from sharplab.losses import cross_entropy
from sharplab.sweep import Experiment, run
from sharplab.tracking.noise_scale import noise_scale
from sharplab.tracking.tracker import Tracker

DIMENSIONS, NOISE = 6, 0.5
TARGET = np.linspace(-1, 1, DIMENSIONS)


def loss(w, batch):
    x, y = batch
    return 0.5 * jnp.mean((x @ w - y) ** 2)


def regression(seed, examples):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((examples, DIMENSIONS))
    return x, x @ TARGET + NOISE * rng.standard_normal(examples)


def closed_form(w):
    """Of x ~ N(0, 1): the gradient is δ = w − w*, the covariance (‖δ‖² + σ²) 1 + δδᵀ."""
    square = np.sum((w - TARGET) ** 2)
    return ((DIMENSIONS + 1) * square + DIMENSIONS * NOISE**2) / square


def products(w, x, y, batches):
    gradients = (x * (x @ w - y)[:, None]).reshape(batches, -1, DIMENSIONS).mean(1)
    return gradients @ gradients.T


@pytest.mark.parametrize("batches", [16, 64])
def test_linear_regression_has_its_closed_form_and_intervals_that_cover(batches, float64):
    w, seeds, examples = np.zeros(DIMENSIONS), 400, 2048
    found = np.array(
        [noise_scale(products(w, *regression(s, examples), batches), examples // batches) for s in range(seeds)]
    )
    values, errors = found.T
    exact = closed_form(w)
    assert abs(values.mean() - exact) < 4 * values.std() / seeds**0.5 + 0.01 * exact  # a quotient has a little bias
    assert 0.85 < np.median(errors) / values.std() < 1.15
    assert 0.88 < np.mean(np.abs(values - exact) < 2 * errors) < 0.99


def test_the_parts_are_those_of_two_batch_sizes(float64):
    x, y = regression(0, 96)
    w, K, m = np.zeros(DIMENSIONS), 8, 12
    g = (x * (x @ w - y)[:, None]).reshape(K, m, DIMENSIONS).mean(1)
    small, large = np.mean(np.sum(g**2, 1)), np.sum(g.mean(0) ** 2)
    square = (K * m * large - m * small) / (K * m - m)
    trace = (small - large) / (1 / m - 1 / (K * m))
    assert np.isclose(noise_scale(products(w, x, y, K), m)[0], trace / square, rtol=1e-12)


def test_the_error_is_that_of_the_jackknife_to_first_order(float64):
    w, (x, y), K = np.zeros(DIMENSIONS), regression(1, 64 * 200), 64
    P = products(w, x, y, K)
    value, error = noise_scale(P, 200)
    keep = [np.delete(np.arange(K), b) for b in range(K)]
    without = np.array([noise_scale(P[np.ix_(rows, rows)], 200)[0] for rows in keep])
    assert np.isclose(error, np.sqrt((K - 1) / K * np.sum((without - without.mean()) ** 2)), rtol=0.02)
    assert error < 0.2 * value


def test_without_a_gradient_or_batches_it_is_unknown():
    assert np.isnan(noise_scale(jnp.eye(2), 4)).all()
    orthogonal = np.eye(8) + 0.01 * symmetric(np.linspace(-1, 1, 8))
    value, error = noise_scale(orthogonal, 4)
    assert error > 0.5 * abs(value) > 100
    assert np.isnan(noise_scale(jnp.full((8, 8), jnp.nan), 4)).all()


@pytest.mark.parametrize("factors", [None, np.linspace(0.5, 3, DIMENSIONS)])
def test_trackers_record_it_of_their_probe_in_the_metric(factors, float64):
    x, y = regression(2, 517)  # 16 batches of 32, and 5 more
    metric = None if factors is None else lambda w, opt_state: jnp.asarray(factors)
    tracker = Tracker(loss, (jnp.asarray(x), jnp.asarray(y)), ["gradient_noise_scale"], metric=metric)
    w, root = np.full(DIMENSIONS, 0.2), 1.0 if factors is None else np.sqrt(factors)
    drawn = np.random.default_rng(0).permutation(517)[:512]
    gradients = (x * (x @ w - y)[:, None])[drawn].reshape(16, 32, DIMENSIONS).mean(1) * root
    value, error = noise_scale(gradients @ gradients.T, 32)
    row = tracker.record(0, jnp.asarray(w))
    assert np.isclose(row["gradient_noise_scale"], value, rtol=1e-10)
    assert np.isclose(row["gradient_noise_scale_error"], error, rtol=1e-8)
    if factors is None:
        assert abs(row["gradient_noise_scale"] - closed_form(w)) < 4 * row["gradient_noise_scale_error"]


def test_the_order_of_the_probe_is_no_matter(float64):
    x, y = regression(3, 2048)
    w = np.full(DIMENSIONS, 0.2)
    order = np.argsort(x @ w - y)
    row = Tracker(loss, (jnp.asarray(x[order]), jnp.asarray(y[order])), ["gradient_noise_scale"]).record(0, w)
    assert abs(row["gradient_noise_scale"] - closed_form(w)) < 4 * row["gradient_noise_scale_error"] < closed_form(w)


def test_a_batch_in_which_nothing_counts_makes_it_unknown():
    x, y = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32), np.arange(64) % 3
    of = partial(cross_entropy, ignore=-100)
    few = np.where(np.arange(64) < 3, y, -100)  # in at most three of the 16 batches
    rows = [
        Tracker(of, (x, targets), ["gradient_noise_scale"], model=lambda w, x: x @ w).record(0, jnp.ones((3, 3)))
        for targets in (y, few)
    ]
    assert np.isfinite(rows[0]["gradient_noise_scale"]) and np.isnan(rows[1]["gradient_noise_scale"])


def test_experiments_record_it(tmp_path):
    grid = Experiment(
        widths=(8,), learning_rates=(0.5,), parameterizations="mup", seeds=1, model="mlp", data="gaussian-clusters",
        steps=12, records=3, observables=("train_loss", "gradient_noise_scale"),
    )  # fmt: skip
    curves = run(grid, tmp_path).curves
    assert (curves["gradient_noise_scale"] > 0).all()
    assert (curves["gradient_noise_scale_error"] > 0).all()
