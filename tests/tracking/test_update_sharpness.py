"""Records of the curvature along the optimizer's update, at a point and half-way along its step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import make_batch, make_recipe
from test_tracker import BATCH, PARAMS, dense, whole_loss

from sharplab.optimizers import make_optimizer
from sharplab.schedules import find_schedule, tabulated
from sharplab.sweep import Experiment, run
from sharplab.tracking.tracker import Tracker

OBSERVED = ["update_sharpness", "midpoint_sharpness", "critical_sharpness"]


def flat(tree):
    return jax.flatten_util.ravel_pytree(tree)[0]


def test_along_the_update_they_are_of_the_dense_matrix_there_and_half_way():
    g, eta = jax.grad(whole_loss)(PARAMS, BATCH), 0.5
    d = jax.tree.map(lambda x: -jnp.sign(x) * 0.3, g)
    tracker = Tracker(whole_loss, BATCH, OBSERVED, learning_rate=lambda step: eta, update=lambda g, w, s: d)
    row, u, steep = tracker.record(0, PARAMS), flat(d), -flat(g) @ flat(d)
    assert np.isclose(row["update_sharpness"], u @ dense(PARAMS) @ u / steep, rtol=1e-4)
    halfway = jax.tree.map(lambda w, u: w + eta / 2 * u, PARAMS, d)
    assert np.isclose(row["midpoint_sharpness"], u @ dense(halfway) @ u / steep, rtol=1e-4)
    assert not np.isclose(row["midpoint_sharpness"], row["update_sharpness"], rtol=1e-3)


def test_on_quadratics_all_agree_and_a_step_that_climbs_has_none():
    def loss(w, H):
        return 0.5 * w @ H @ w

    H = jnp.asarray(np.diag([1.0, 2.0, 9.0]), jnp.float32)
    for sign in (-1.0, 1.0):
        tracker = Tracker(loss, H, OBSERVED, learning_rate=0.1, update=lambda g, w, s, sign=sign: sign * jnp.sign(g))
        row = tracker.record(0, jnp.array([1.0, 1.0, 0.2]))
        if sign > 0:
            assert np.isnan([row[name] for name in OBSERVED]).all()
            continue
        assert np.isclose(row["update_sharpness"], 12 / 4.8, rtol=1e-5)
        assert np.isclose(row["midpoint_sharpness"], 12 / 4.8, rtol=1e-5)
        assert abs(row["critical_sharpness"] - 12 / 4.8) <= row["critical_sharpness_error"]


def test_half_way_a_cubic_tells_how_the_slope_changes_over_the_step():
    def loss(w, scale):
        return jnp.sum(scale * (w**3 / 3 + w**2))

    w, scale, eta = jnp.array([0.3, -0.2]), jnp.array([1.0, 2.0]), 0.2
    row = Tracker(loss, scale, OBSERVED[:2], learning_rate=eta).record(0, w)
    g = jax.grad(loss)(w, scale)
    after = jax.grad(loss)(w - eta * g, scale)
    assert np.isclose(row["midpoint_sharpness"], (g - after) @ g / (eta * g @ g), rtol=1e-4)


def test_of_a_tiny_loss_and_a_tiny_update_they_are_multiples():
    names = ["update_sharpness", "midpoint_sharpness", "directional_sharpness", "batch_sharpness", "gradient_norm"]
    c = 2.0**-80

    def recorded(factor, update):
        def loss(w, x):
            return factor * jnp.mean((x @ w) ** 2)

        tracker = Tracker(loss, jnp.diag(jnp.array([1.0, 2.0, 3.0])), names, learning_rate=0.1, update=update)
        return tracker.record(0, jnp.ones(3))

    one, tiny = (recorded(factor, None) for factor in (1.0, c))
    assert np.allclose([tiny[name] / c for name in names], [one[name] for name in names], rtol=1e-5)
    one, tiny = (recorded(1.0, lambda g, w, s, size=size: -size * jnp.sign(g)) for size in (1.0, c))
    assert np.allclose([tiny[name] / c for name in names[:2]], [one[name] for name in names[:2]], rtol=1e-5)


def test_half_way_needs_a_learning_rate():
    with pytest.raises(ValueError, match="learning_rate"):
        Tracker(whole_loss, BATCH, ["midpoint_sharpness"])


@pytest.mark.long
def test_runs_record_them_at_their_own_scheduled_learning_rate(float64):
    recipe = make_recipe("residual_mlp", 8, optimizer=make_optimizer("adam"), observables=tuple(OBSERVED))
    recipe = replace(recipe, schedule=tabulated(find_schedule("linear", 4), 4))
    inputs, classes = make_batch("residual_mlp")
    batch = (recipe.prepare(inputs.astype(np.float64)), classes)
    state, advance = jax.jit(recipe.begin)(3), jax.jit(recipe.step)
    for _ in range(2):
        state = advance(state, 0.05, batch)
    _, row = jax.jit(recipe.observe)(state, recipe.init_tracker(state, batch), 0, batch, batch, 0.05)
    g = jax.grad(recipe.objective)(state.params, batch)
    step = jax.tree.map(jnp.subtract, recipe.update(state, 0.05, batch)[0].params, state.params)  # η/2 after half
    u, halfway = flat(step) / 0.025, jax.tree.map(lambda w, s: w + s / 2, state.params, step)
    for params, name in ((state.params, "update_sharpness"), (halfway, "midpoint_sharpness")):
        Hu = jax.jvp(jax.grad(lambda w: recipe.objective(w, batch)), (params,), (optax.tree.scale(1 / 0.025, step),))[1]
        assert np.isclose(row[name], u @ flat(Hu) / -(flat(g) @ u), rtol=1e-6)


@pytest.mark.parametrize("model", ["mlp", "convolving_model:ConvolvingModel@1"])
def test_experiments_record_them(model, tmp_path):
    data = "gaussian-clusters" if model == "mlp" else "fashion-mnist-10k"
    grid = Experiment(
        widths=(8,), learning_rates=(0.25,), parameterizations="mup", seeds=1, model=model, data=data, probe_size=64,
        steps=8, records=3, observables=tuple(OBSERVED),
    )  # fmt: skip
    curves = run(grid, tmp_path).curves
    assert len(curves) == 3
    assert np.isfinite(curves[OBSERVED].to_numpy()).all()
    assert (curves["midpoint_sharpness"] != curves["update_sharpness"]).all()
