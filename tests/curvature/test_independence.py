"""What is not the mean over examples that it is said to be is refused, whatever the order of the batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial
from weighing import BATCH as TOKENS
from weighing import LENGTHS, PARAMS, masked_loss, model

from sharplab.curvature import fisher, gauss_newton, hessian, ntk
from sharplab.losses import squared_error

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
BATCH = (X, X[:, :1])
W = jnp.ones((3, 1))


def linear(w, x):
    return x @ w


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


def rows(batch, order):
    return jax.tree.map(lambda x: x[np.asarray(order)], batch)


ORDERS = st.permutations(range(len(LENGTHS)))


@settings(max_examples=25)
@given(ORDERS, st.integers(1, 7), st.booleans())
def test_loss_that_weighs_examples_is_refused_in_every_order_unless_it_says_how(order, chunk, from_host):
    batch, lengths = rows(TOKENS, order), LENGTHS[np.asarray(order)]
    if from_host:
        batch, lengths = [rows(batch, range(4)), rows(batch, range(4, 8))], [lengths[:4], lengths[4:]]
    for weight in (None, [np.ones(4)] * 2 if from_host else np.ones(8)):
        with pytest.raises(ValueError, match="weight"):
            hessian(masked_loss, PARAMS, batch, model=model, chunk=chunk, weight=weight)
    hessian(masked_loss, PARAMS, batch, model=model, chunk=chunk, weight=lengths)


def weighted_square(w, batch):
    """Σ ω (xᵀw)² / Σ ω."""
    x, weight = batch
    return jnp.sum(weight * (x @ w) ** 2) / weight.sum()


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=6, max_size=6).filter(any), st.integers(0, 5), st.data()
)
def test_one_wrong_weight_is_found_wherever_it_stands(weight, place, data):
    weight = np.array(weight, np.float32)
    wrong = weight.copy()
    wrong[place] = data.draw(st.sampled_from([0.0, 0.25, 1.5, 4.0]).filter(lambda value: value != weight[place]))
    hessian(weighted_square, W[:, 0], (X, weight), weight=7 * weight)
    if wrong.any() and np.count_nonzero(weight + wrong) > 1:  # a single weight is right whatever it is
        with pytest.raises(ValueError, match="weight"):
            hessian(weighted_square, W[:, 0], (X, weight), weight=wrong)


def test_plain_mean_with_a_weight_that_it_ignores_is_refused():
    for options in ({}, {"chunk": 2}):
        with pytest.raises(ValueError, match="weight"):
            hessian(squared_error, W, BATCH, model=linear, weight=np.arange(1.0, 7.0), **options)
    assert np.isfinite(hessian(squared_error, W, BATCH, model=linear, weight=np.full(6, 3)).dense()).all()


def test_weights_that_host_batches_have_each_right_and_together_wrong_are_refused():
    named = partial(hessian, squared_error, W, [rows(BATCH, range(3)), rows(BATCH, range(3, 6))], model=linear)
    own = partial(hessian, weighted_square, W[:, 0], [(X[:3], np.ones(3)), (X[3:], np.ones(3))])
    for make in (named, own):
        make(weight=[np.full(3, 2.0)] * 2)
        with pytest.raises(ValueError, match="weight"):
            make(weight=[np.ones(3), np.full(3, 2.0)])


@pytest.mark.parametrize("chunk", [1, 2])
def test_batch_statistics_before_a_readout_of_zeros_are_seen(chunk):
    """All outputs are 0 there; curvature is not."""

    def normalised(w, x):
        h = jnp.tanh(x @ w["hidden"])
        return (h - h.mean(0, keepdims=True)) @ w["readout"]

    params = {"hidden": jnp.ones((3, 4)), "readout": jnp.zeros((4, 1))}
    for make in (
        lambda: hessian(squared_error, params, BATCH, model=normalised, chunk=chunk),
        lambda: hessian(sum_loss, params, BATCH, model=normalised, chunk=chunk),
        lambda: ntk(normalised, params, X, chunk=chunk),
        lambda: ntk(normalised, params, iter([X[:3], X[3:]])),
    ):
        with pytest.raises(ValueError, match="batch statistics"):
            make()


def test_losses_that_are_nearly_equal_hide_nothing():
    """At a network's start every loss is about log C: it is the gradients that tell examples apart."""
    small = jax.tree.map(lambda w: 1e-4 * w, PARAMS)
    with pytest.raises(ValueError, match="weight"):
        hessian(masked_loss, small, TOKENS, model=model, chunk=2)


def test_losses_of_examples_that_are_fitted_are_not_taken_for_others():
    """Of residuals that are rounding, no sum agrees with another."""
    targets = X @ np.asarray(W)
    hessian(squared_error, W, (X, targets), model=linear, chunk=4)
    hessian(squared_error, W.astype(jnp.bfloat16), (X.astype(jnp.bfloat16), targets), model=linear, chunk=4)


def test_function_that_passed_on_one_batch_is_checked_on_the_next():
    equal, unequal = rows(TOKENS, [2, 3, 4, 5]), rows(TOKENS, [2, 3, 4, 0])
    hessian(masked_loss, PARAMS, equal, model=model, chunk=2)
    for batch in (unequal, jax.tree.map(jnp.asarray, unequal)):
        with pytest.raises(ValueError, match="weight"):
            hessian(masked_loss, PARAMS, batch, model=model, chunk=2)


def test_what_a_function_holds_is_checked_again_when_it_changes():
    targets = np.arange(12) // 4
    batch = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32), targets

    def loss(weights, outputs, targets):
        counts = weights[targets]
        return (
            counts * -jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], 1)[:, 0]
        ).sum() / counts.sum()

    def of(weights):
        return hessian(Partial(loss, jnp.asarray(weights)), jnp.ones((5, 3)), batch, model=lambda w, x: x @ w, chunk=4)

    of([1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="weight="):
        of([0.1, 1.0, 10.0])


def test_array_that_was_changed_in_place_is_checked_again():
    tokens, (targets, mask) = rows(TOKENS, [2, 3, 4, 5])
    hessian(masked_loss, PARAMS, (tokens, (targets, mask)), model=model, chunk=2)
    mask[0] = 1
    with pytest.raises(ValueError, match="weight"):
        hessian(masked_loss, PARAMS, (tokens, (targets, mask)), model=model, chunk=2)


def test_functions_without_a_rule_for_vmap_are_checked_in_turn():
    def called(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def loss(w, x):
        return jnp.mean(jax.lax.stop_gradient(called(x[:, 0])) * (x @ w)[:, 0] ** 2)

    exact = jax.hessian(loss)(W, X).reshape(3, 3)
    assert np.allclose(hessian(loss, W, X, chunk=4).dense(), exact, atol=1e-6)


def test_broken_parameters_are_no_reason_to_refuse():
    assert hessian(squared_error, W * jnp.nan, BATCH, model=linear, chunk=2).shape == (3, 3)


@pytest.mark.parametrize(
    "weight", [None, LENGTHS / 6, pytest.param(np.ones(8), marks=pytest.mark.long)], ids=["none", "shares", "ones"]
)
def test_empirical_fisher_is_refused_unless_the_predictions_that_count_are_known(weight):
    """Its scale is their number: no chunk is needed to get it wrong."""
    with pytest.raises(ValueError, match="weight"):
        fisher(model, masked_loss, PARAMS, TOKENS, kind="empirical", weight=weight)
    equal = rows(TOKENS, [2, 3, 4, 5])
    with pytest.raises(ValueError, match="weight"):
        fisher(model, masked_loss, PARAMS, equal, kind="empirical")
    assert fisher(model, masked_loss, PARAMS, equal, kind="empirical", weight=np.ones(4)).shape
