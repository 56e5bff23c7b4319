"""Losses against numpy, and as means over examples."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
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


def test_what_is_differentiated_is_the_loss_and_right_where_it_is_small():
    sure = 18 * np.eye(5)[CLASSES] + RNG.standard_normal((8, 5))
    wrong = 18 * np.eye(5)[(CLASSES + 1) % 5] + RNG.standard_normal((8, 5))
    closed, infinite = output_hessian(cross_entropy), np.where(np.eye(5)[CLASSES] > 0, OUTPUTS, -np.inf)
    for outputs in (OUTPUTS, sure, wrong, np.zeros((8, 5)), infinite, OUTPUTS[:, :1]):
        targets = np.minimum(CLASSES, outputs.shape[1] - 1)
        u = RNG.standard_normal(outputs.shape)

        def of_all(dtype, outputs=outputs, targets=targets, u=u):
            f, v = (jnp.asarray(x, dtype) for x in (outputs, u))
            value = closed.value(f, targets)
            slope, curved = jax.jvp(jax.grad(lambda f: closed.value(f, targets)), (f,), (v,))
            transposed, product = closed.root(f)
            return value, slope, curved, closed.product(f)(v), product(transposed(v)), transposed(v), product(v)

        with jax.enable_x64(True):
            exact = [np.asarray(x) for x in of_all(np.float64)]
            assert np.isclose(exact[0], cross_entropy(jnp.asarray(outputs), targets), rtol=1e-6, atol=1e-14)
        assert np.allclose(8 * exact[2], exact[3], rtol=1e-9, atol=1e-18)
        for found, right in zip(of_all(np.float32), exact, strict=True):
            assert np.allclose(found, right, rtol=1e-4, atol=3e-6 * np.abs(right).max())
    assert 0 < closed.value(sure.astype(np.float32), CLASSES) < 1e-6


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


def test_output_hessian_is_found_through_partials_without_other_arguments():
    assert output_hessian(Partial(cross_entropy)) is output_hessian(cross_entropy)
    assert output_hessian(partial(cross_entropy, ignore=None)) is output_hessian(cross_entropy)
    assert output_hessian(Partial(squared_error, targets=jnp.zeros(3))) is None
    assert output_hessian(partial(squared_error, ignore=-1)) is None
    assert output_hessian(partial(cross_entropy, OUTPUTS)) is None
    assert output_hessian(jnp.sum) is None


IGNORING = {
    "partial": partial(cross_entropy, ignore=-100),
    "Partial": Partial(cross_entropy, ignore=-100),
    "both": Partial(partial(cross_entropy, ignore=-100)),
    "outermost": partial(Partial(cross_entropy, ignore=3), ignore=-100),
}


@pytest.mark.parametrize("form", IGNORING)
def test_output_hessian_knows_what_is_ignored_in_every_form(form):
    closed, targets = output_hessian(IGNORING[form]), np.array([[1, -100], [3, 0]])
    assert closed.product is output_hessian(cross_entropy).product
    assert closed.counted(targets).tolist() == [[True, False], [True, True]]
    assert closed.weight(targets).tolist() == [1, 2]
    assert output_hessian(cross_entropy).weight(targets) is None


@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), st.sampled_from([-100, -1, 255]))
def test_ignored_predictions_are_as_if_they_were_not_there(counted, ignore):
    counted = np.reshape(counted, (2, 3))
    classes = np.array([[0, 1, 2], [3, 4, 0]])
    outputs, targets = SEQUENCES.astype(np.float32), np.where(counted, classes, ignore)
    share = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    value, slope = jax.value_and_grad(cross_entropy)(jnp.asarray(outputs), targets, ignore)
    own = np.take_along_axis(share, classes[..., None], -1)[..., 0]
    assert np.isclose(value, -np.log(own[counted]).mean(), rtol=1e-5)
    expected = np.where(counted[..., None], share - np.eye(5)[classes], 0) / counted.sum()
    assert np.allclose(slope, expected, atol=1e-6)


def test_half_precision_counts_thousands_of_predictions():
    outputs, targets = jnp.zeros((3000, 2), jnp.bfloat16), np.repeat([0, -1, 1], 1000)
    assert np.isclose(cross_entropy(outputs, targets, ignore=-1), np.log(2), rtol=2**-8)


def test_nothing_that_counts_is_refused_where_it_is_seen_and_0_elsewhere():
    targets = np.full(8, -100)
    with pytest.raises(ValueError, match=r"targets .*-100"):
        IGNORING["partial"](OUTPUTS, targets)
    value, slope = jax.jit(jax.value_and_grad(IGNORING["partial"]))(jnp.asarray(OUTPUTS), targets)
    assert value == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("bad", [-100, -1, 5])
@pytest.mark.parametrize("name", LOSSES)
def test_targets_that_are_no_classes_are_refused_where_they_are_seen(name, bad, kind):
    targets = kind(np.where(np.arange(8) == 3, bad, CLASSES))
    for function in (LOSSES[name], jax.grad(LOSSES[name])):
        with pytest.raises(ValueError, match=r"targets .*0 to 4.*ignore="):
            function(jnp.asarray(OUTPUTS), targets)
    with pytest.raises(ValueError, match=r"targets .*0 to 4"):
        cross_entropy(OUTPUTS, targets, ignore=7)
    assert np.isfinite(cross_entropy(OUTPUTS, targets, ignore=bad))


# One number per prediction, with a last axis of length 1 or without.
NUMBERS = [((6,), (6,)), ((6,), (6, 1)), ((6, 1), (6,)), ((6, 1), (6, 1)), ((2, 3, 1), (2, 3)), ((2, 3, 1), (2, 3, 1))]


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8])
@pytest.mark.parametrize(("of_outputs", "of_targets"), NUMBERS)
def test_one_number_per_prediction_is_the_same_with_a_last_axis_and_without(of_outputs, of_targets, dtype):
    f, y = RNG.standard_normal(6).astype(np.float32), RNG.integers(0, 9, 6).astype(dtype)
    loss = jax.jit(squared_error)
    value, slope = jax.value_and_grad(loss)(jnp.asarray(f.reshape(of_outputs)), y.reshape(of_targets))
    assert np.isclose(value, 0.5 * np.mean((f - y.astype(float)) ** 2), rtol=1e-5)
    assert np.allclose(slope.reshape(-1), (f - y) / 6, atol=1e-6)


def test_integers_shaped_like_the_outputs_are_numbers():
    numbers = RNG.integers(-3, 9, (8, 5))
    assert np.isclose(squared_error(OUTPUTS, numbers), 0.5 * np.mean(np.sum((OUTPUTS - numbers) ** 2, 1)), rtol=1e-5)


SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)


@given(st.sampled_from(list(LOSSES)), SHAPES, SHAPES, st.sampled_from([np.float32, np.int32]))
def test_other_shapes_are_refused_when_they_are_traced(name, of_outputs, of_targets, dtype):
    allowed = dtype == np.int32 and of_outputs != () and of_targets == of_outputs[:-1]
    if name == "squared_error":
        with_axis = of_outputs if len(of_outputs) > 1 else (*of_outputs, 1)
        without = of_outputs[:-1] if of_outputs[-1:] == (1,) else of_outputs
        allowed = allowed or of_targets in (of_outputs, without) or (len(of_outputs) == 1 and of_targets == with_axis)
    outputs, targets = jax.ShapeDtypeStruct(of_outputs, np.float32), jax.ShapeDtypeStruct(of_targets, dtype)
    if allowed:
        assert jax.eval_shape(LOSSES[name], outputs, targets).shape == ()
    else:
        with pytest.raises(ValueError, match=r"outputs .*targets") as found:
            jax.eval_shape(LOSSES[name], outputs, targets)
        assert str(of_outputs) in str(found.value) and str(of_targets) in str(found.value)


def test_outputs_and_targets_that_are_no_arrays_are_refused():
    with pytest.raises(ValueError, match=r"outputs .*array"):
        cross_entropy({"a": OUTPUTS}, CLASSES)
    with pytest.raises(ValueError, match=r"targets .*array"):
        squared_error(OUTPUTS, (CLASSES, CLASSES))
