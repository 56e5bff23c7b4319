"""Records of the critical sharpness: along the optimizer's own update, from the learning rate of the record before."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hand_written_attention import attending, fused
from jax.tree_util import Partial
from problems import make_batch, make_recipe
from test_tracker import BATCH, FACTORS, PARAMS, metric, model, whole_loss

from sharplab.curvature import critical_sharpness
from sharplab.losses import cross_entropy
from sharplab.optimizers import OPTIMIZERS, make_optimizer
from sharplab.sweep import Experiment, run
from sharplab.tracking.tracker import Tracker

ADAM = optax.scale_by_adam()
OBSERVED = ["train_loss", "critical_sharpness"]


def negative(x):
    return jax.tree.map(jnp.negative, x)


def step(gradient, params, opt_state):
    return negative(ADAM.update(gradient, opt_state, params)[0])


def found_by(tracker, params, update):
    """Whether the last row agrees with a search of its own."""
    row, cold = tracker.rows[-1], critical_sharpness(whole_loss, params, update, BATCH, tol=1e-3)
    return abs(row["critical_sharpness"] - cold.value) <= row["critical_sharpness_error"] + cold.error


def test_a_tracker_follows_the_update_that_it_is_told_with_one_trace_for_all_records():
    traces = []

    def loss(outputs, targets):
        traces.append(1)
        return cross_entropy(outputs, targets)

    tracker = Tracker(loss, BATCH, OBSERVED, model=model, update=step, chunk=8)
    params, opt_state, counts = PARAMS, ADAM.init(PARAMS), []
    for number in range(4):
        tracker.record(number, params, opt_state)
        counts.append(len(traces))
        gradient = jax.grad(whole_loss)(params, BATCH)
        assert found_by(tracker, params, step(gradient, params, opt_state))
        updates, opt_state = ADAM.update(gradient, opt_state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda u: -0.03 * u, updates))
    assert counts[1:] == counts[1:2] * 3


@pytest.mark.parametrize("given", [None, metric])
def test_without_one_it_follows_the_gradient_in_the_metric(given):
    tracker = Tracker(whole_loss, BATCH, OBSERVED, metric=given)
    tracker.record(0, PARAMS)
    factors = FACTORS if given else dict.fromkeys(FACTORS, 1.0)
    gradient = jax.grad(whole_loss)(PARAMS, BATCH)
    assert found_by(tracker, PARAMS, {name: -factors[name] * g for name, g in gradient.items()})


def test_each_search_starts_at_the_last_learning_rate_also_of_a_restored_tracker(tmp_path):
    first, second = (Tracker(whole_loss, BATCH, OBSERVED) for _ in range(2))
    for number in range(2):
        first.record(number, PARAMS)
    again, before = first.rows[1]["critical_sharpness"], first.rows[0]["critical_sharpness"]
    assert again != before  # the bracket has other ends
    second.record(0, PARAMS)
    second.save(tmp_path / "tracker")
    third = Tracker(whole_loss, BATCH, OBSERVED)
    third.restore(tmp_path / "tracker")
    assert third.record(1, PARAMS)["critical_sharpness"] == again
    assert np.isnan(third.record(2, jax.tree.map(lambda w: w * np.nan, PARAMS))["critical_sharpness"])
    assert third.record(3, PARAMS)["critical_sharpness"] == before


def test_networks_without_second_derivatives_are_recorded():
    attention, params = attending(fused)
    tokens, labels = np.random.default_rng(0).integers(0, 5, (2, 6, 4)).astype(np.int32)
    observed = ["train_loss", "gradient_norm", "critical_sharpness"]
    row = Tracker(cross_entropy, (tokens, labels), observed, model=attention, chunk=2).record(0, params)
    assert 0 < row["critical_sharpness_error"] < 0.04 * row["critical_sharpness"]


@pytest.mark.parametrize(
    "name", ["adam", *(pytest.param(n, marks=pytest.mark.long) for n in OPTIMIZERS if n != "adam")]
)
def test_a_run_records_what_a_step_of_its_own_optimizer_meets(name, float64):
    recipe = make_recipe("residual_mlp", 8, optimizer=make_optimizer(name), observables=("critical_sharpness",))
    if name in ("adam", "adamw"):
        recipe = replace(recipe, optimizer=make_optimizer(name, weight_decay=0.5))
    inputs, classes = make_batch("residual_mlp")
    batch = (recipe.prepare(inputs.astype(np.float64)), classes)
    state, advance = jax.jit(recipe.begin)(3), jax.jit(recipe.step)
    for _ in range(2):
        state = advance(state, 0.01, batch)
    tracker = recipe.init_tracker(state, batch)
    seen, row = jax.jit(recipe.observe)(state, tracker, 0, batch, batch)
    types = [[(x.dtype, x.weak_type) for x in jax.tree.leaves(of)] for of in (tracker, seen)]
    assert types[0] == types[1]
    after = jax.jit(recipe.update)(state, 1.0, batch)[0].params
    update = jax.tree.map(jnp.subtract, after, state.params)
    objective = Partial(type(recipe).objective, recipe)
    cold = critical_sharpness(objective, state.params, update, batch, tol=1e-3)
    assert abs(row["critical_sharpness"] - cold.value) <= row["critical_sharpness_error"] + cold.error
    dispatched = recipe.observe(state, tracker, 0, batch, batch, loop="python")[1]
    assert np.isclose(dispatched["critical_sharpness"], row["critical_sharpness"], rtol=1e-12)


@pytest.mark.long
def test_an_experiment_records_it_beside_the_effective_sharpness_that_bounds_it(tmp_path):
    observed = ("train_loss", "sharpness", "critical_sharpness")
    grid = Experiment(
        widths=(8,), learning_rates=(0.5,), parameterizations="mup", seeds=1, model="mlp", data="gaussian-clusters",
        steps=12, records=4, observables=observed,
    )  # fmt: skip
    curves = run(grid, tmp_path).curves
    assert len(curves) == 4
    assert (curves["critical_sharpness"] > 0).all()
    assert (curves["critical_sharpness_error"] < 0.04 * curves["critical_sharpness"]).all()
    assert (curves["critical_sharpness"] < 2 * curves["sharpness"]).all()
