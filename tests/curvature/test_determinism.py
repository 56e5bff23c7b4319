"""What is not one matrix is refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.curvature import check_deterministic, gauss_newton, hessian
from sharplab.losses import squared_error

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
BATCH = (X, X[:, :1])
W = jnp.ones((3, 1))


def linear(w, x):
    return x @ w


def test_steady_operators_pass():
    assert check_deterministic(hessian(squared_error, W, BATCH, model=linear, chunk=4)) is None


def test_dropout_is_refused():
    masks = np.random.default_rng(1)

    def dropped(w, x):
        return (x * masks.integers(0, 2, x.shape)) @ w

    with pytest.raises(ValueError, match="dropout"):
        check_deterministic(hessian(squared_error, W, BATCH, model=dropped))


def test_moving_batch_statistics_are_refused():
    statistics = [1.0]

    def normalised(w, x):
        statistics[0] *= 1.1
        return x @ w / statistics[0]

    with pytest.raises(ValueError, match="batch statistics"):
        check_deterministic(gauss_newton(normalised, squared_error, W, BATCH))


def test_augmented_source_is_refused_and_a_shuffled_one_is_not():
    random = np.random.default_rng(0)

    def augmented():
        yield X + random.standard_normal(X.shape).astype(np.float32), BATCH[1]

    def shuffled():
        order = random.permutation(6)
        yield X[order[:4]], BATCH[1][order[:4]]
        yield X[order[4:]], BATCH[1][order[4:]]

    with pytest.raises(ValueError, match="augmentation"):
        check_deterministic(hessian(squared_error, W, augmented, model=linear))
    assert check_deterministic(hessian(squared_error, W, shuffled, model=linear)) is None
