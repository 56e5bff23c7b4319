"""The spectral learner on quadratics, where heavy ball's optimum has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sharplab as sl
from sharplab.studies.spectral_learner import optimal_heavy_ball, spectral_learner, spectral_record

SCALE = jnp.array([1.0, 0.7, 0.3, 0.1, 0.06, 0.05])
RATE = (np.sqrt(20) - 1) / (np.sqrt(20) + 1)


def loss(params, scale):
    return 0.5 * jnp.sum(scale * params["w"] ** 2)


def stepper(learner):
    """A step of the learner as one program, and the list that grows with each trace of it."""
    traces = []

    @jax.jit
    def step(params, state, scale):
        traces.append(1)
        updates, state = learner.update(jax.grad(loss)(params, scale), state, params, batch=scale)
        return optax.apply_updates(params, updates), state

    return step, traces


def run(learner, step, steps, scale=SCALE, start=(1.0,) * 6):
    """The parameters along a run, (steps, 6), and its last state."""
    params = {"w": jnp.array(start)}
    state, along = learner.init(params), []
    for _ in range(steps):
        params, state = step(params, state, scale)
        along.append(np.asarray(params["w"]))
    return np.array(along), state


@pytest.fixture(scope="module")
def found():
    learner = spectral_learner(loss, every=16, products=8, floor=1e-3)
    step, traces = stepper(learner)
    return *run(learner, step, 96), traces


def test_on_a_quadratic_it_falls_at_the_optimal_rate_of_heavy_ball(found):
    along, state, traces = found
    sizes = np.linalg.norm(along, axis=1)
    # A double root: t·ρ^t.
    slope = (np.log(sizes[95] / sizes[47]) - np.log(96 / 48)) / 48
    assert slope == pytest.approx(np.log(RATE), rel=0.03)
    assert float(state.hyperparams["learning_rate"]) == pytest.approx((2 / (1 + 0.05**0.5)) ** 2, rel=1e-4)
    assert float(state.hyperparams["momentum"]) == pytest.approx(RATE**2, rel=1e-4)
    assert int(state.products) == 6 * 6  # no more than there are dimensions
    assert len(traces) == 1


def test_its_record_has_the_threshold_that_the_sharpness_then_stands_at(found):
    row = spectral_record(found[1])
    # Optimal steps are at the edge for the largest eigenvalue, (√λ₁ + √λ_n)² + (√λ₁ − √λ_n)² = 2(λ₁ + λ_n).
    assert row["threshold"] == pytest.approx(1 + 0.05, rel=1e-4)
    tracker = sl.Tracker(loss, SCALE, ["sharpness_raw"])
    beside = dict(tracker.record(0, {"w": jnp.ones(6)})) | dict(row)
    assert beside["sharpness_raw"] == pytest.approx(beside["largest"], rel=1e-3)


def test_the_floor_stands_for_a_smaller_eigenvalue_and_where_none_is_positive_all_stays():
    learner = spectral_learner(loss, products=8, floor=0.2, share=0.5)
    step, _ = stepper(learner)
    for scale in (SCALE, SCALE.at[-1].set(-0.5)):
        _, state = run(learner, step, 1, scale)
        rate, momentum = optimal_heavy_ball(1.0, 0.2)
        assert float(state.hyperparams["smallest"]) == pytest.approx(0.2, rel=1e-4)
        assert float(state.hyperparams["learning_rate"]) == pytest.approx(float(rate) / 2, rel=1e-4)
        assert float(state.hyperparams["momentum"]) == pytest.approx(float(momentum), rel=1e-4)
    along, state = run(learner, step, 2, -SCALE)
    assert (along == 1).all()
    assert float(state.hyperparams["learning_rate"]) == 0
    assert spectral_record(state)["threshold"] == np.inf


def test_a_metric_is_a_change_of_coordinates(found):
    metric = jnp.array([4.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    learner = spectral_learner(loss, every=16, products=8, floor=1e-3, metric={"w": metric})
    # w = D^½ v: the loss of v is that of SCALE.
    along, _ = run(learner, stepper(learner)[0], 5, SCALE / metric, jnp.sqrt(metric))
    assert np.allclose(along / np.sqrt(metric), found[0][:5], rtol=1e-3, atol=1e-5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="floor"):
        spectral_learner(loss, floor=2.0)
    with pytest.raises(ValueError, match="share"):
        spectral_learner(loss, share=1.5)
    with pytest.raises(ValueError, match="every"):
        spectral_learner(loss, every=0)
    learner, params = spectral_learner(loss), {"w": jnp.ones(6)}
    with pytest.raises(ValueError, match="batch"):
        learner.update(params, learner.init(params), params)
