"""Records in anyone's own loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sharplab.tracking import TOLERANCE, Tracker

RNG = np.random.default_rng(0)
BATCH = (jnp.asarray(RNG.normal(size=(32, 4)), jnp.float32), jnp.asarray(RNG.integers(0, 3, 32)))
PARAMS = {
    "w": jnp.asarray(RNG.normal(size=(4, 6)) / 2, jnp.float32),
    "v": jnp.asarray(RNG.normal(size=(6, 3)) / 3, jnp.float32),
}


def model(params, inputs):
    return jnp.tanh(inputs @ params["w"]) @ params["v"]


def loss(outputs, targets):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()


def metric(params, opt_state):
    return {"w": jnp.full((4, 6), 2.0), "v": jnp.full((6, 3), 0.5)}


@jax.jit
def dense_hessian(params):
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda w: loss(model(unravel(w), BATCH[0]), BATCH[1]))(flat)


def dense_sharpness(params, scales):
    H = np.asarray(dense_hessian(params), np.float64)
    s = np.sqrt(np.asarray(ravel_pytree(scales)[0], np.float64))
    return np.linalg.eigvalsh(s[:, None] * H * s)[-1]


descent = jax.jit(jax.grad(lambda params: loss(model(params, BATCH[0]), BATCH[1])))


@pytest.fixture(scope="module")
def course():
    """Forty steps of SGD, a record every fourth."""
    tracker = Tracker(
        loss,
        BATCH,
        ["train_loss", "eval_loss", "eval_accuracy", "sharpness_raw", "sharpness"],
        model=model,
        metric=metric,
        eval_batch=BATCH,
        learning_rate=optax.linear_schedule(0.5, 0.0, 40),
    )
    optimizer = optax.sgd(0.5)
    params, opt_state, visited = PARAMS, optimizer.init(PARAMS), []
    for step in range(40):
        if step % 4 == 0:
            tracker.record(step, params, opt_state)
            visited.append(params)
        gradient = descent(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        params = optax.apply_updates(params, updates)
    return tracker, visited


def test_sharpness_is_that_of_the_dense_matrix_in_the_metric_and_without_it(course):
    tracker, visited = course
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    beyond = 0
    for row, params in zip(tracker.rows, visited, strict=True):
        for name, scales in (("sharpness_raw", ones), ("sharpness", metric(None, None))):
            exact = dense_sharpness(params, scales)
            assert abs(row[name] - exact) <= row[f"{name}_residual"]
            # The tolerance is met by an estimate, of which the residual alone is a bound.
            assert abs(row[name] - exact) <= 2 * TOLERANCE * exact
            beyond += abs(row[name] - exact) > TOLERANCE * exact
            assert row[f"{name}_error"] <= TOLERANCE * row[name]
    assert beyond <= 1, f"{beyond} of {2 * len(visited)}"


def test_warm_starts_save_products(course):
    matvecs = course[0].curves["sharpness_matvecs"]
    assert matvecs[1:].mean() < matvecs[0]


def test_rows_hold_step_losses_accuracy_and_learning_rate(course):
    tracker, visited = course
    curves = tracker.curves
    assert curves["step"].tolist() == list(range(0, 40, 4))
    np.testing.assert_allclose(curves["learning_rate"], 0.5 * (1 - curves["step"] / 40), rtol=1e-6)
    assert curves["train_loss"].iloc[3] == pytest.approx(float(loss(model(visited[3], BATCH[0]), BATCH[1])), rel=1e-5)
    np.testing.assert_allclose(curves["eval_loss"], curves["train_loss"], rtol=1e-6)
    accuracy = float((model(visited[-1], BATCH[0]).argmax(-1) == BATCH[1]).mean())
    assert curves["eval_accuracy"].iloc[-1] == pytest.approx(accuracy)


def test_a_diverged_run_costs_few_products_and_gives_nan():
    tracker = Tracker(loss, BATCH, ["train_loss", "sharpness_raw"], model=model)
    tracker.record(0, PARAMS)
    row = tracker.record(1, jax.tree.map(lambda w: w * jnp.nan, PARAMS))
    assert np.isnan(row["train_loss"]) and np.isnan(row["sharpness_raw"])
    assert row["sharpness_raw_matvecs"] <= 2
    again = tracker.record(2, PARAMS)
    assert np.isfinite(again["sharpness_raw"])


@pytest.mark.parametrize(
    ("observables", "says"),
    [
        (["sharpnes"], "did you mean 'sharpness'"),
        (["sharpness"], "needs metric="),
        (["eval_loss"], "needs eval_batch="),
    ],
)
def test_what_is_missing_is_named(observables, says):
    with pytest.raises(ValueError, match=says):
        Tracker(loss, BATCH, observables, model=model)
