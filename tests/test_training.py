"""Lanes: alike whatever company they train in, frozen when they diverge, and what a plain loop would give."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sharplab.training as training
from sharplab.data import batch_indices, load_dataset
from sharplab.drivers import Formation
from sharplab.training import Lane, Task, find_recipe, train_lanes

TASK = Task(
    model="residual_mlp",
    width=8,
    depth=2,
    parameterization="mup",
    base_width=4,
    alpha=0.5,
    gamma=1.0,
    optimizer="sgd",
    loss="cross_entropy",
    data="gaussian-clusters",
    steps=10,
    batch_size=32,
    probe_size=64,
    observables=("train_loss", "eval_loss", "eval_accuracy"),
    record_steps=(0, 5, 10),
)
LANES = [Lane(rate, seed) for rate in (0.1, 0.3, 1.0) for seed in (0, 1)]


def results(task, lanes):
    return {result.lane: result for result in train_lanes(task, lanes)}


def test_a_lane_is_what_a_plain_loop_of_sgd_gives():
    lane = Lane(0.3, 1)
    recipe, data = find_recipe(TASK), load_dataset(TASK.data)
    inputs = recipe.prepare(data.train_inputs)
    params = recipe.init_params(jnp.asarray(lane.seed))
    factors = recipe.factors("sgd")
    gradient = jax.jit(jax.grad(recipe.objective))
    for rows in batch_indices(lane.seed, len(inputs), TASK.batch_size, 0, TASK.steps):
        g = gradient(params, (inputs[rows], data.train_targets[rows]))
        params = jax.tree.map(lambda w, u, factor: w - lane.learning_rate * factor * u, params, g, factors)
    probe = (inputs[: TASK.probe_size], data.train_targets[: TASK.probe_size])
    expected = float(recipe.objective(params, probe))
    assert results(TASK, [lane])[lane].curves["train_loss"][-1] == pytest.approx(expected, rel=1e-5)


def test_a_lane_alone_and_among_others_is_bit_identical_when_sequential():
    together = results(TASK, LANES)
    for lane in LANES[1::3]:
        alone = results(TASK, [lane])[lane]
        assert alone.setting["lane_mode"] == "sequential"
        for name, curve in alone.curves.items():
            np.testing.assert_array_equal(curve, together[lane].curves[name], err_msg=name)


def test_a_lane_alone_and_among_others_agrees_to_rounding_when_vectorised(monkeypatch):
    alone = results(TASK, LANES)
    monkeypatch.setattr(
        training, "choose_formation", lambda recipe, lanes: Formation(tuple(jax.local_devices()), per_device=4)
    )
    together = results(TASK, LANES)
    for lane in LANES:
        assert together[lane].setting["lane_mode"] == "vectorised"
        loss = together[lane].curves["train_loss"]
        np.testing.assert_allclose(loss, alone[lane].curves["train_loss"], rtol=1e-5)


def test_lanes_of_one_seed_start_from_the_same_weights():
    found = results(TASK, LANES)
    starts = {(lane.seed, float(found[lane].curves["train_loss"][0])) for lane in LANES}
    assert len(starts) == 2


def test_a_diverged_lane_is_frozen_flagged_and_disturbs_nobody():
    wild, tame = Lane(1e4, 0), Lane(0.3, 0)
    found = results(TASK, [wild, tame])
    assert found[wild].diverged and 1 <= found[wild].diverged_step < TASK.steps
    after = np.array(TASK.record_steps) > found[wild].diverged_step
    for name in TASK.observables:
        np.testing.assert_array_equal(np.isnan(found[wild].curves[name]), after, err_msg=name)
    assert not found[tame].diverged and found[tame].diverged_step == -1
    np.testing.assert_array_equal(found[tame].curves["train_loss"], results(TASK, [tame])[tame].curves["train_loss"])


def test_a_network_whose_units_are_all_dead_counts_as_diverged():
    recipe = find_recipe(replace(TASK, model="figure1_convnet", data="fashion-mnist-10k", alpha=0.0))
    lane = recipe.begin(jnp.asarray(0))
    lane = lane._replace(params=jax.tree.map(jnp.zeros_like, lane.params), step=jnp.asarray(3), first_loss=jnp.ones(()))
    batch = (recipe.prepare(np.ones((4, 32, 32, 1), np.float32)), np.zeros(4, np.int32))
    assert int(jax.jit(recipe.step)(lane, 0.1, batch).diverged_step) == 3


def test_companies_of_one_group_share_one_program():
    task = replace(TASK, width=7)
    results(task, LANES[:1])
    programs = (training._begin, training._advance, training._observe)
    before = [program._cache_size() for program in programs]
    results(task, LANES)
    results(replace(task, steps=20, record_steps=(0, 5, 10, 15, 20)), LANES[:3])
    assert [program._cache_size() for program in programs] == before


def test_a_model_that_convolves_is_dispatched_on_cpus_and_agrees_with_the_loop(monkeypatch):
    task = replace(
        TASK,
        model="convolving_model:ConvolvingModel",
        data="fashion-mnist-10k",
        observables=("train_loss", "sharpness"),
        width=4,
    )
    lanes = LANES[:2]
    dispatched = results(task, lanes)
    monkeypatch.setattr(training, "_driver", lambda *args: "loop")
    looped = results(task, lanes)
    for lane in lanes:
        assert dispatched[lane].setting["driver"] == "dispatch"
        assert looped[lane].setting["driver"] == "loop"
        np.testing.assert_allclose(dispatched[lane].curves["train_loss"], looped[lane].curves["train_loss"], rtol=1e-5)
        np.testing.assert_allclose(dispatched[lane].curves["sharpness"], looped[lane].curves["sharpness"], rtol=2e-2)


def test_the_labs_models_run_in_compiled_loops():
    for model, data in (("residual_mlp", "gaussian-clusters"), ("figure1_convnet", "fashion-mnist-10k")):
        task = replace(TASK, model=model, data=data, steps=1, record_steps=(0, 1), observables=("train_loss",))
        assert results(task, LANES[:1])[LANES[0]].setting["driver"] == "loop"


def test_progress_ends_at_all_steps_of_all_lanes():
    said = []
    list(train_lanes(TASK, LANES, progress=lambda done, total: said.append((done, total))))
    assert said[-1] == (len(LANES) * TASK.steps, len(LANES) * TASK.steps)
    assert said == sorted(said)


def test_a_probe_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="probe_size is 5000"):
        results(replace(TASK, probe_size=5000), LANES[:1])


def test_the_number_of_devices_changes_no_bit():
    script = (
        "import jax, sys; jax.config.update('jax_num_cpu_devices', int(sys.argv[1]))\n"
        "from test_training import TASK, LANES, results\n"
        "print([r.curves['train_loss'].tobytes().hex() for r in results(TASK, LANES).values()])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script, devices],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for devices in ("1", "4")
    ]
    assert outputs[0] == outputs[1] != ""
