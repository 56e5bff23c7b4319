"""The benchmark of the Figure-1 study trains the lab's runs by another program, and judges by the rules it states."""

import json

import figure1
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figure1_study.comparison import compare, require_same_start, targets
from figure1_study.contestants import plain
from figure1_study.given import as_bytes, experiments, given, kernels, trajectory_tasks
from figure1_study.plain_port import Port, augmented, mean_loss, multipliers, rate_factor, top_eigenvalue, unit
from figure1_study.report import headline, picture, tables
from figure1_study.study import SEED, TRAJECTORY_RATE, Study
from harness import JobFailed, in_process, main

import sharplab as sl
from sharplab.data import AUGMENTATIONS, load_dataset
from sharplab.training.task import find_recipe

STUDY = Study(widths=(3,), steps=4, snapshots=3, sweep_steps=2, batch_size=16, probe_size=8)
CELLS = pytest.mark.parametrize("network, task", list(trajectory_tasks(STUDY)), ids=[c.label for c in STUDY.networks])


@pytest.fixture(scope="module")
def port():
    return Port(given(STUDY), STUDY.probe_size)


def test_both_take_snapshots_at_the_same_steps():
    for study in (STUDY, *(preset.study for preset in figure1.PRESETS.values())):
        trajectories, sweep = experiments(study)
        assert trajectories.record_steps() == study.snapshot_steps
        assert sweep.record_steps() == (0, study.sweep_steps)
        assert study.steps != study.sweep_steps  # by which runs are told apart


def test_batches_made_on_the_host_are_the_labs_to_the_bit(port):
    images = load_dataset("fashion-mnist-10k").train_inputs
    for t, (batch, labels) in enumerate(port.batches(STUDY.steps)):
        rows = port.given["order"][t]
        key = jax.random.fold_in(jax.random.key(SEED), t)
        assert np.array_equal(batch, AUGMENTATIONS["crop_and_flip"](key, jnp.asarray(images[rows])))
        assert np.array_equal(labels, port.given["labels"][rows])
    assert port.given["flips"].any() and not port.given["flips"].all()


def test_augmentation_moves_and_mirrors_as_drawn():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    corners, flips = np.array([[5, 4]]), np.array([True])
    moved = np.zeros((4, 4))
    moved[:3] = image[0, 1:, ::-1, 0]
    assert np.allclose(augmented(image, corners, flips)[0, ..., 0], moved / 127.5 - 1)


@CELLS
def test_loss_and_gradient_are_those_of_the_lab(port, network, task):
    recipe, weights = find_recipe(task), port.begin(network.label)
    params = recipe.init_params(jnp.int32(SEED))
    images, labels = port.probe
    batch, factors = (recipe.prepare(images), labels), multipliers(weights, network.parameterization)
    expected, gradient = jax.jit(jax.value_and_grad(recipe.objective))(params, batch)
    found, by_port = jax.jit(jax.value_and_grad(mean_loss))(weights, (images, labels), factors)
    assert found == pytest.approx(float(expected), rel=1e-5)
    for name, kernel in kernels(gradient).items():
        np.testing.assert_allclose(by_port[name], kernel, rtol=1e-4, atol=1e-6)


@CELLS
def test_steps_are_those_of_the_lab(port, network, task):
    recipe = find_recipe(task)
    run, step, rate = recipe.begin(jnp.int32(SEED)), jax.jit(recipe.step), TRAJECTORY_RATE[network.parameterization]
    dataset = load_dataset(task.data)
    for rows in port.given["order"][: STUDY.steps]:
        run = step(run, rate, (dataset.train_inputs[rows], dataset.train_targets[rows]))
    _, last = port.trajectory(network.label, rate, STUDY.snapshot_steps)
    for name, kernel in kernels(run.params).items():
        np.testing.assert_allclose(last[name], kernel, rtol=1e-3, atol=1e-4)
        assert not np.allclose(last[name], port.begin(network.label)[name], rtol=1e-3, atol=1e-4)


@CELLS
def test_power_iteration_and_the_labs_operator_see_one_matrix(port, network, task):
    recipe, weights = find_recipe(task), port.begin(network.label)
    params = recipe.init_params(jnp.int32(SEED))
    images, labels = port.probe
    op = sl.hessian(recipe.loss, params, (recipe.prepare(images), labels), model=recipe.forward)
    eigenvalues = np.linalg.eigvalsh(np.asarray(op.dense(), float))
    vector = unit(jax.tree.map(lambda w: jax.random.normal(jax.random.key(2), w.shape), weights))
    for _ in range(30):
        value, vector = top_eigenvalue(weights, vector, port.probe, multipliers(weights, network.parameterization))
    assert value == pytest.approx(np.abs(eigenvalues).max(), rel=1e-3)
    scale = rate_factor(weights, network.parameterization)
    assert jax.tree.leaves(recipe.factors()) == pytest.approx([scale] * 3)


def test_inputs_that_are_no_bytes_are_refused():
    with pytest.raises(ValueError, match=r"127\.5"):
        as_bytes(np.array([0.1], np.float32))


def test_job_that_fails_says_why(tmp_path):
    with pytest.raises(JobFailed, match=r"plain: .*given\.npz"):
        in_process(plain, began=0.0, folder=tmp_path, settings=STUDY)


def answers():
    """Answers of contestants whose losses come apart by 1 %, and sharpnesses by 2 %, after the first snapshot."""
    plain = {"loss": [1.0, 2.0, 3.0], "sharpness": [1.0, 2.0, 3.0]}
    lab = {"loss": [1.0, 2.02, 3.0], "sharpness": [1.0, 2.0, 3.06], "stated_error": [0.0, 0.0, 0.0]}
    finals = {network.label: [2.0, 1.0, 1.5, 3.0, None] for network in STUDY.networks}

    def answer(seconds, curves):
        trajectories = {
            network.label: {name: [*values] for name, values in curves.items()} for network in STUDY.networks
        }
        return {"seconds": seconds, "trajectories": trajectories, "finals": finals}

    return {
        "plain": [answer(60.0, plain)],
        "here": [answer(5.0, lab) | {"compile_seconds": {"observe": 1.0, "advance": 0.5}}],
        "processes": [answer(10.0, lab)] * 3,
    }


def test_curves_are_apart_by_the_most_along_them():
    comparison = compare(STUDY, answers())
    assert comparison["largest"] == pytest.approx(
        {
            "first_loss_difference": 0.0,
            "first_sharpness_difference": 0.0,
            "loss_difference": 0.01,
            "sharpness_difference": 0.02,
            "final_difference": 0.0,
        }
    )
    assert headline(comparison).startswith(
        "Losses within 0e+00 at the start and 1e-02 later; the plain port takes 60 s"
    )


def test_speed_is_of_whole_processes_and_judged_against_ten():
    comparison = compare(STUDY, answers())
    assert comparison["times"]["here"]["times_as_fast"]["median"] == 12.0
    assert comparison["times"]["here"]["compile_seconds"]["median"] == 1.5
    found = targets(Study(), comparison)
    assert found["times the plain port, here"]["met"]
    assert not found["times the plain port, processes"]["met"]
    assert "times the plain port, here" not in targets(STUDY, comparison)


def test_runs_that_diverge_are_no_best_ones():
    network = compare(STUDY, answers())["networks"]["ntk-3"]
    assert network["best_rate"] == {"plain": 3.0, "here": 3.0, "processes": 3.0}
    assert network["diverged_rates"] == {"plain": [60.0], "here": [60.0], "processes": [60.0]}
    assert network["final_difference"] == [0.0] * 4 + [None]


def test_the_best_rates_are_the_same_where_one_of_the_labs_processes_has_them():
    found = answers()
    finals = {network.label: [0.5, 1.0, 1.5, 3.0, None] for network in STUDY.networks}
    other = [answer | {"finals": finals} for answer in found["here"]]
    assert compare(STUDY, found)["same_best_rates"]
    assert compare(STUDY, found | {"here": other})["same_best_rates"]
    assert not compare(STUDY, found | {"here": other, "processes": other})["same_best_rates"]


def test_runs_that_begin_apart_are_not_compared():
    require_same_start(STUDY, answers())
    different = answers()
    different["here"][0]["trajectories"]["ntk-3"]["loss"][0] *= 1.001
    with pytest.raises(ValueError, match="ntk-3"):
        require_same_start(STUDY, different)


def test_every_part_is_told_and_drawn():
    found = answers()
    comparison = compare(STUDY, found)
    assert [table.row_count for table in tables(comparison, targets(Study(), comparison))] == [3, 2, 3]
    drawn = picture(STUDY, found, comparison)
    assert len(drawn.axes) == 7
    assert all(ax.lines or ax.patches for ax in drawn.axes)


@pytest.mark.slow
def test_smoke_preset_trains_the_same_runs(tmp_path):
    output = tmp_path / "bench" / "figure1.json"
    main(figure1.BENCHMARK, ["--preset", "smoke", "--output", str(output)])
    report = json.loads(output.read_text())
    comparison = report["parts"]["study"]["found"]["comparison"]
    assert comparison["largest"]["loss_difference"] < 1e-3
    assert comparison["largest"]["first_loss_difference"] < 1e-5
    assert output.with_suffix(".png").stat().st_size > 10_000
