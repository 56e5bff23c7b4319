"""What is not one matrix, or not a mean over examples, is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.curvature import check_deterministic, gauss_newton, hessian, ntk
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


def batch_normalised(w, x):
    return (x - x.mean(0, keepdims=True)) @ w


def sum_loss(outputs, targets):
    return jnp.sum((outputs - targets) ** 2)


@pytest.mark.parametrize(
    ("model", "loss"), [(batch_normalised, squared_error), (linear, sum_loss)], ids=["batch statistics", "sum"]
)
def test_chunks_of_what_is_no_mean_over_examples_are_refused(model, loss):
    message = "chunks .*batch statistics.* sum"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            hessian(loss, W, BATCH, model=model, chunk=2)
        with pytest.raises(ValueError, match=message):
            gauss_newton(model, loss, W, [BATCH])
    whole = hessian(loss, W, BATCH, model=model)
    assert np.isfinite(whole.dense()).all()


def test_kernel_of_interacting_examples_is_refused_in_chunks():
    with pytest.raises(ValueError, match="chunks"):
        ntk(batch_normalised, W, X, chunk=2)


def test_independence_is_checked_once_per_function():
    calls = []

    def counted(w, x):
        calls.append(1)
        return x @ w

    hessian(squared_error, W, BATCH, model=counted, chunk=2)
    found = len(calls)
    hessian(squared_error, 2 * W, BATCH, model=counted, chunk=3)
    assert len(calls) == found > 0


def test_operators_can_be_made_inside_of_traced_programs():
    whole = hessian(squared_error, W, BATCH, model=linear) @ W

    def fresh(w, x):
        return linear(w, x)

    device_batch = jax.tree.map(jnp.asarray, BATCH)
    for made in (
        lambda w: hessian(squared_error, w, BATCH, model=fresh, chunk=2),
        lambda w: hessian(squared_error, W, device_batch, model=fresh, chunk=2),
    ):
        assert np.allclose(jax.jit(lambda w, made=made: made(w) @ w)(W), whole, atol=1e-6)
