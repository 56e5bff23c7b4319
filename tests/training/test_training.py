"""Runs: the same result alone, in a batch, on other devices and under either loop; divergence hurts nobody else."""

import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import make_batch, make_recipe

from sharplab.data import Dataset, batch_indices, load_dataset
from sharplab.training import programs, task
from sharplab.training import train as training
from sharplab.training.layout import DeviceLayout
from sharplab.training.task import Run, Task, find_recipe
from sharplab.training.train import RunResult, Watch, train_runs

TASK = Task(
    width=8,
    depth=2,
    parameterization="mup",
    base_width=4,
    data="gaussian-clusters",
    steps=10,
    batch_size=32,
    probe_size=64,
    observables=("train_loss", "eval_loss", "sharpness"),
    record_steps=(0, 5, 10),
)
CHEAP = replace(TASK, observables=("train_loss", "eval_loss", "eval_accuracy"))
FIVE_RUNS = [Run(0.05, 0), Run(0.2, 0), Run(0.2, 1), Run(1e4, 0), Run(0.1, 2)]  # the fourth diverges
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the layout and loop of CPUs")


def trained(task, runs, *watch) -> list[RunResult]:
    """The results of all run batches, one after another."""
    return list(chain.from_iterable(train_runs(task, runs, *watch)))


def same(a: RunResult, b: RunResult, atol=0.0) -> bool:
    """Equal curves, NaN where the other has NaN."""
    return a.diverged_step == b.diverged_step and all(
        np.allclose(a.curves[name], b.curves[name], rtol=0, atol=atol, equal_nan=True) for name in a.curves
    )


@pytest.fixture(scope="module")
def run_batch():
    return trained(TASK, FIVE_RUNS)


@on_cpu
def test_run_alone_is_bit_identical_to_itself_in_a_batch(run_batch):
    for i in (1, 2):
        (alone,) = trained(TASK, [FIVE_RUNS[i]])
        assert (alone.setting["batching"], alone.setting["runs_per_device"]) == ("sequential", "1")
        assert same(alone, run_batch[i])


def test_results_come_in_the_order_of_runs_with_every_curve(run_batch):
    assert [result.run for result in run_batch] == FIVE_RUNS
    for result in run_batch:
        assert result.curves["step"].tolist() == list(TASK.record_steps)
        assert all(curve.shape == (3,) for curve in result.curves.values())
        assert {"train_loss", "eval_loss", "sharpness", "sharpness_error", "sharpness_matvecs"} <= set(result.curves)
        assert result.seconds > 0
    sound = run_batch[1].curves
    assert sound["train_loss"][-1] < sound["train_loss"][0]
    assert np.all(sound["sharpness"] > 0)


def test_diverged_run_is_frozen_flagged_and_kept_and_disturbs_no_other(run_batch):
    diverged = run_batch[3]
    assert diverged.diverged
    assert 1 <= diverged.diverged_step <= 5
    assert np.isfinite(diverged.curves["train_loss"][0])
    for name in ("train_loss", "eval_loss", "sharpness"):
        assert np.isnan(diverged.curves[name][-2:]).all()
    assert np.all(diverged.curves["sharpness_matvecs"][-2:] <= 2)
    for i in (0, 1, 2, 4):
        assert not run_batch[i].diverged
        assert run_batch[i].diverged_step == -1
        assert all(np.isfinite(curve).all() for curve in run_batch[i].curves.values())


def test_seed_decides_the_start_and_the_learning_rate_what_follows(run_batch):
    one, other_rate, other_seed = (run_batch[i].curves["train_loss"] for i in (0, 1, 2))
    assert one[0] == other_rate[0]
    assert one[-1] != other_rate[-1]
    assert other_rate[0] != other_seed[0]


def test_curves_equal_a_loop_by_hand_over_the_seeds_batches():
    run = Run(0.2, 1)
    (found,) = trained(CHEAP, [run])
    recipe, data = find_recipe(CHEAP), load_dataset(CHEAP.data)
    inputs, targets = recipe.prepare(data.train_inputs), data.train_targets
    params = jax.jit(recipe.init_params)(jnp.int32(run.seed))
    factors, objective, gradient = recipe.factors(), jax.jit(recipe.objective), jax.jit(jax.grad(recipe.objective))
    losses = [float(objective(params, (inputs[:64], targets[:64])))]
    for rows in batch_indices(run.seed, len(targets), CHEAP.batch_size, 0, CHEAP.steps):
        g = gradient(params, (inputs[rows], targets[rows]))
        params = jax.tree.map(lambda w, f, u: w - run.learning_rate * f * u, params, factors, g)
        losses.append(float(objective(params, (inputs[:64], targets[:64]))))
    assert np.allclose(found.curves["train_loss"], np.array(losses)[list(CHEAP.record_steps)], atol=1e-5)


@pytest.fixture(scope="module")
def cheap_batch():
    return trained(CHEAP, FIVE_RUNS)


def losses_agree(found, wanted):
    """Losses within 1e-5 over ten steps, and divergence at the same step."""
    return all(
        a.diverged_step == b.diverged_step
        and np.allclose(a.curves[name], b.curves[name], rtol=0, atol=1e-5, equal_nan=True)
        for a, b in zip(found, wanted, strict=True)
        for name in ("train_loss", "eval_loss")
    )


def test_vectorised_runs_stay_within_rounding_over_ten_steps(cheap_batch, monkeypatch):
    layout = DeviceLayout((jax.local_devices()[0],), per_device=4)
    monkeypatch.setattr(programs, "choose_layout", lambda recipe, runs: layout)
    vectorised = trained(CHEAP, FIVE_RUNS)
    stated = {(result.setting["batching"], result.setting["runs_per_device"]) for result in vectorised}
    assert stated == {("vectorised", "4")}
    assert losses_agree(vectorised, cheap_batch)


def test_dispatched_steps_give_the_same_results(cheap_batch, monkeypatch):
    monkeypatch.setattr(programs, "choose_loop", lambda function, *args: "python")
    dispatched = trained(CHEAP, FIVE_RUNS)
    assert all(result.setting["loop"] == "python" for result in dispatched)
    assert losses_agree(dispatched, cheap_batch)


@on_cpu
@pytest.mark.long
def test_users_convolution_is_dispatched_agrees_with_the_loop_and_may_diverge(monkeypatch):
    images = np.random.default_rng(0).standard_normal((96, 8, 8, 1)).astype(np.float32)
    classes = np.arange(96, dtype=np.int32) % 3
    data = Dataset("images", images[:64], classes[:64], images[64:], classes[64:], 3, "checksum")
    for module in (programs, task, training):
        monkeypatch.setattr(module, "load_dataset", lambda name: data)
    task_of_images = replace(
        TASK,
        model="convolving_model:ConvolvingModel",
        data="images",
        observables=("train_loss", "sharpness"),
        width=4,
        record_steps=(0, 10),
    )
    runs = [Run(0.3, 0), Run(1e8, 0)]
    dispatched = trained(task_of_images, runs)
    monkeypatch.setattr(programs, "find_loop", lambda *args: "compiled")
    compiled = trained(task_of_images, runs)
    assert [result.setting["loop"] for result in dispatched + compiled] == ["python"] * 2 + ["compiled"] * 2
    assert [result.diverged for result in dispatched] == [False, True]
    assert np.isnan(dispatched[1].curves["sharpness"][-1])
    assert dispatched[1].curves["sharpness_matvecs"][-1] <= 2
    for found, wanted in zip(dispatched, compiled, strict=True):
        assert found.diverged_step == wanted.diverged_step
        assert np.allclose(found.curves["train_loss"], wanted.curves["train_loss"], rtol=1e-5, equal_nan=True)
        assert np.allclose(found.curves["sharpness"], wanted.curves["sharpness"], rtol=0.02, equal_nan=True)


@pytest.mark.long
def test_augmented_images_are_prepared_batch_by_batch(monkeypatch):
    images = np.random.default_rng(0).standard_normal((24, 32, 32, 1)).astype(np.float32)
    classes = np.arange(24, dtype=np.int32) % 3
    data = Dataset("images", images[:16], classes[:16], images[16:], classes[16:], 3, "checksum")
    for module in (programs, task, training):
        monkeypatch.setattr(module, "load_dataset", lambda name: data)
    plain = replace(CHEAP, model="figure1_convnet", data="images", width=2, steps=3, record_steps=(0, 3))
    plain = replace(plain, batch_size=8, probe_size=8)
    as_is, augmented = (
        trained(replace(plain, augment=augment), [Run(0.1, 0)])[0].curves["train_loss"]
        for augment in ("none", "crop_and_flip")
    )
    assert as_is[0] == augmented[0]
    assert as_is[1] != augmented[1]
    assert np.isfinite(augmented).all()


@on_cpu
@pytest.mark.parametrize("model", ["residual_mlp", "figure1_convnet"])
def test_lab_models_are_looped(model):
    recipe = make_recipe(model, 4)
    images, classes = make_batch(model)
    arrays = (jax.eval_shape(recipe.prepare, images), classes)
    assert programs.find_loop(recipe, TASK, arrays) == "compiled"


@on_cpu
def test_companies_of_one_group_share_one_program():
    compiled = (programs.begin, programs.init_trackers, programs.advance, programs.observe)
    trained(CHEAP, FIVE_RUNS[:1])
    before = [program._cache_size() for program in compiled]
    trained(CHEAP, FIVE_RUNS)
    trained(replace(CHEAP, steps=20, record_steps=(0, 5, 10, 15, 20)), FIVE_RUNS[:3])
    assert [program._cache_size() for program in compiled] == before


@on_cpu
def test_tasks_that_differ_in_their_records_or_length_begin_and_train_by_one_program():
    trained(CHEAP, FIVE_RUNS[:1])
    before = programs.begin._cache_size(), programs.advance._cache_size()
    trained(replace(CHEAP, steps=30, record_steps=(0, 7, 30), observables=("gradient_norm",)), FIVE_RUNS[:1])
    assert (programs.begin._cache_size(), programs.advance._cache_size()) == before


def test_progress_counts_the_steps_of_all_runs():
    seen = []
    trained(CHEAP, FIVE_RUNS[:2], Watch(progress=lambda done, total: seen.append((done, total))))
    assert {total for _, total in seen} == {20}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (20, 20)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"model": "residual_mpl"}, "did you mean 'residual_mlp'"),
        ({"loss": "cross_entrpy"}, "did you mean 'cross_entropy'"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"parameterization": "mupp"}, "did you mean 'mup'"),
        ({"data": "gaussian-cluster"}, "did you mean 'gaussian-clusters'"),
        ({"data": "teacher-student"}, "loss 'cross_entropy' needs classes, and the targets of teacher-student are num"),
        ({"data": "king-james-bytes"}, "'residual_mlp' makes outputs of shape .* choose a model for such data"),
        ({"probe_size": 4096}, "probe_size is 4096: gaussian-clusters has 1024 examples"),
        ({"batch_size": 4096}, "batch_size is 4096 with 1024 training examples"),
    ],
)
def test_bad_settings_are_answered_in_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        trained(replace(CHEAP, **change), FIVE_RUNS[:1])


def trained_elsewhere(folder, *layouts):
    """Curves of the runs by "LOOP:LAYOUT_NAME_RUN", trained in a process that has so many devices."""
    script, file = Path(__file__).with_name("trained_elsewhere.py"), folder / "curves.npz"
    done = subprocess.run([sys.executable, script, file, *layouts], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return np.load(file)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """On two devices, on eight, two runs on each of eight, and step by step on one and on two."""
    layouts = ("compiled:2", "compiled:8", "compiled:8x2", "python:1", "python:2")
    return trained_elsewhere(tmp_path_factory.mktemp("elsewhere"), *layouts)


@on_cpu
@pytest.mark.long
def test_two_and_eight_devices_give_bit_identical_records(run_batch, elsewhere):
    for devices in (2, 8):
        for i, result in enumerate(run_batch):
            for name, curve in result.curves.items():
                assert np.array_equal(elsewhere[f"compiled:{devices}_{name}_{i}"], curve, equal_nan=True), (
                    devices,
                    i,
                    name,
                )


@pytest.mark.long
@on_cpu
@pytest.mark.parametrize("loop", ["compiled", pytest.param("python", marks=pytest.mark.slow)])
def test_several_runs_on_each_of_eight_devices_stay_within_rounding(loop, run_batch, elsewhere, tmp_path):
    layout = f"{loop}:8x2"
    found = elsewhere if loop == "compiled" else trained_elsewhere(tmp_path, layout)
    for i, result in enumerate(run_batch):
        for name in ("train_loss", "eval_loss"):
            assert np.allclose(found[f"{layout}_{name}_{i}"], result.curves[name], rtol=1e-4, equal_nan=True), (i, name)
        within = 0.02 * np.abs(result.curves["sharpness"])
        off = np.abs(found[f"{layout}_sharpness_{i}"] - result.curves["sharpness"])
        assert (np.isnan(off) | (off <= within)).all()
        assert np.array_equal(np.isnan(off), np.isnan(result.curves["sharpness"]))


@pytest.mark.long
@on_cpu
def test_dispatched_runs_on_two_devices_give_the_records_of_one(elsewhere):
    names = [name for name in elsewhere if name.startswith("python:1_")]
    assert any("sharpness" in name for name in names)
    for name in names:
        assert np.array_equal(elsewhere[name], elsewhere[name.replace(":1_", ":2_")], equal_nan=True), name
    assert elsewhere["solves of python:1"] > 0  # programs that serve however many devices hold the runs
    assert elsewhere["solves of python:2"] == 0
