"""Lanes: the same result alone, in company, on other devices and under either driver; divergence hurts nobody else."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import QUICK_COMPILATION, make_batch, make_recipe

from sharplab.data import Dataset, batch_indices, load_dataset
from sharplab.training import programs, task
from sharplab.training import train as training
from sharplab.training.layout import Formation
from sharplab.training.task import Lane, Task, find_recipe
from sharplab.training.train import LaneResult, Watch, train_lanes

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
    observables=("train_loss", "eval_loss", "sharpness"),
    record_steps=(0, 5, 10),
)
CHEAP = replace(TASK, observables=("train_loss", "eval_loss", "eval_accuracy"))
FIVE_LANES = [Lane(0.05, 0), Lane(0.2, 0), Lane(0.2, 1), Lane(1e4, 0), Lane(0.1, 2)]  # the fourth diverges
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the formation and driver of CPUs")


def trained(task, lanes, *watch) -> list[LaneResult]:
    """The results of all companies, one after another."""
    return list(chain.from_iterable(train_lanes(task, lanes, *watch)))


def same(a: LaneResult, b: LaneResult, atol=0.0) -> bool:
    """Equal curves, NaN where the other has NaN."""
    return a.diverged_step == b.diverged_step and all(
        np.allclose(a.curves[name], b.curves[name], rtol=0, atol=atol, equal_nan=True) for name in a.curves
    )


@pytest.fixture(scope="module")
def company():
    return trained(TASK, FIVE_LANES)


@on_cpu
def test_lane_alone_is_bit_identical_to_itself_in_company(company):
    for i in (1, 2):
        (alone,) = trained(TASK, [FIVE_LANES[i]])
        assert (alone.setting["lane_mode"], alone.setting["company"]) == ("sequential", "1")
        assert same(alone, company[i])


def test_results_come_in_the_order_of_lanes_with_every_curve(company):
    assert [result.lane for result in company] == FIVE_LANES
    for result in company:
        assert result.curves["step"].tolist() == list(TASK.record_steps)
        assert all(curve.shape == (3,) for curve in result.curves.values())
        assert {"train_loss", "eval_loss", "sharpness", "sharpness_error", "sharpness_matvecs"} <= set(result.curves)
        assert result.seconds > 0
    sound = company[1].curves
    assert sound["train_loss"][-1] < sound["train_loss"][0]
    assert np.all(sound["sharpness"] > 0)


def test_diverged_lane_is_frozen_flagged_and_kept_and_disturbs_no_other(company):
    diverged = company[3]
    assert diverged.diverged
    assert 1 <= diverged.diverged_step <= 5
    assert np.isfinite(diverged.curves["train_loss"][0])
    for name in ("train_loss", "eval_loss", "sharpness"):
        assert np.isnan(diverged.curves[name][-2:]).all()
    assert np.all(diverged.curves["sharpness_matvecs"][-2:] <= 2)
    for i in (0, 1, 2, 4):
        assert not company[i].diverged
        assert company[i].diverged_step == -1
        assert all(np.isfinite(curve).all() for curve in company[i].curves.values())


def test_seed_decides_the_start_and_the_learning_rate_what_follows(company):
    one, other_rate, other_seed = (company[i].curves["train_loss"] for i in (0, 1, 2))
    assert one[0] == other_rate[0]
    assert one[-1] != other_rate[-1]
    assert other_rate[0] != other_seed[0]


def test_curves_equal_a_loop_by_hand_over_the_seeds_batches():
    lane = Lane(0.2, 1)
    (found,) = trained(CHEAP, [lane])
    recipe, data = find_recipe(CHEAP), load_dataset(CHEAP.data)
    inputs, targets = recipe.prepare(data.train_inputs), data.train_targets
    params = jax.jit(recipe.init_params)(jnp.int32(lane.seed))
    factors, objective, gradient = recipe.factors(), jax.jit(recipe.objective), jax.jit(jax.grad(recipe.objective))
    losses = [float(objective(params, (inputs[:64], targets[:64])))]
    for rows in batch_indices(lane.seed, len(targets), CHEAP.batch_size, 0, CHEAP.steps):
        g = gradient(params, (inputs[rows], targets[rows]))
        params = jax.tree.map(lambda w, f, u: w - lane.learning_rate * f * u, params, factors, g)
        losses.append(float(objective(params, (inputs[:64], targets[:64]))))
    assert np.allclose(found.curves["train_loss"], np.array(losses)[list(CHEAP.record_steps)], atol=1e-5)


@pytest.fixture(scope="module")
def cheap_company():
    return trained(CHEAP, FIVE_LANES)


def losses_agree(found, wanted):
    """Losses within 1e-5 over ten steps, and divergence at the same step."""
    return all(
        a.diverged_step == b.diverged_step
        and np.allclose(a.curves[name], b.curves[name], rtol=0, atol=1e-5, equal_nan=True)
        for a, b in zip(found, wanted, strict=True)
        for name in ("train_loss", "eval_loss")
    )


def test_vectorised_lanes_stay_within_rounding_over_ten_steps(cheap_company, monkeypatch):
    formation = Formation((jax.local_devices()[0],), per_device=4)
    monkeypatch.setattr(programs, "choose_formation", lambda recipe, lanes: formation)
    vectorised = trained(CHEAP, FIVE_LANES)
    assert all((result.setting["lane_mode"], result.setting["company"]) == ("vectorised", "4") for result in vectorised)
    assert losses_agree(vectorised, cheap_company)


def test_dispatched_steps_give_the_same_results(cheap_company, monkeypatch):
    monkeypatch.setattr(programs, "choose_driver", lambda function, *args: "dispatch")
    dispatched = trained(CHEAP, FIVE_LANES)
    assert all(result.setting["driver"] == "dispatch" for result in dispatched)
    assert losses_agree(dispatched, cheap_company)


@on_cpu
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
    lanes = [Lane(0.3, 0), Lane(1e8, 0)]
    dispatched = trained(task_of_images, lanes)
    monkeypatch.setattr(programs, "find_driver", lambda *args: "loop")
    looped = trained(task_of_images, lanes)
    assert [result.setting["driver"] for result in dispatched + looped] == ["dispatch"] * 2 + ["loop"] * 2
    assert [result.diverged for result in dispatched] == [False, True]
    assert np.isnan(dispatched[1].curves["sharpness"][-1])
    assert dispatched[1].curves["sharpness_matvecs"][-1] <= 2
    for found, wanted in zip(dispatched, looped, strict=True):
        assert found.diverged_step == wanted.diverged_step
        assert np.allclose(found.curves["train_loss"], wanted.curves["train_loss"], rtol=1e-5, equal_nan=True)
        assert np.allclose(found.curves["sharpness"], wanted.curves["sharpness"], rtol=0.02, equal_nan=True)


def test_augmented_images_are_prepared_batch_by_batch(monkeypatch):
    images = np.random.default_rng(0).standard_normal((24, 32, 32, 1)).astype(np.float32)
    classes = np.arange(24, dtype=np.int32) % 3
    data = Dataset("images", images[:16], classes[:16], images[16:], classes[16:], 3, "checksum")
    for module in (programs, task, training):
        monkeypatch.setattr(module, "load_dataset", lambda name: data)
    plain = replace(CHEAP, model="figure1_convnet", data="images", width=2, steps=3, record_steps=(0, 3))
    plain = replace(plain, batch_size=8, probe_size=8)
    as_is, augmented = (
        trained(replace(plain, augment=augment), [Lane(0.1, 0)])[0].curves["train_loss"]
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
    assert programs.find_driver(recipe, TASK, arrays) == "loop"


@on_cpu
def test_companies_of_one_group_share_one_program():
    compiled = (programs.begin, programs.advance, programs.observe)
    trained(CHEAP, FIVE_LANES[:1])
    before = [program._cache_size() for program in compiled]
    trained(CHEAP, FIVE_LANES)
    trained(replace(CHEAP, steps=20, record_steps=(0, 5, 10, 15, 20)), FIVE_LANES[:3])
    assert [program._cache_size() for program in compiled] == before


def test_progress_counts_the_steps_of_all_lanes():
    seen = []
    trained(CHEAP, FIVE_LANES[:2], Watch(progress=lambda done, total: seen.append((done, total))))
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
        trained(replace(CHEAP, **change), FIVE_LANES[:1])


def trained_elsewhere(folder, driver, *devices):
    """Curves of the lanes by "DEVICES_NAME_LANE", trained in a process that has so many devices."""
    script, file = Path(__file__).with_name("trained_elsewhere.py"), folder / "curves.npz"
    command = [sys.executable, script, file, driver, *map(str, devices)]
    environment = os.environ | QUICK_COMPILATION
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return np.load(file)


@on_cpu
def test_two_and_eight_devices_give_bit_identical_records(company, tmp_path):
    elsewhere = trained_elsewhere(tmp_path, "loop", 2, 8)
    for devices in (2, 8):
        for i, result in enumerate(company):
            for name, curve in result.curves.items():
                assert np.array_equal(elsewhere[f"{devices}_{name}_{i}"], curve, equal_nan=True), (devices, i, name)


@on_cpu
def test_dispatched_lanes_on_two_devices_give_the_records_of_one(tmp_path):
    found = trained_elsewhere(tmp_path, "dispatch", 1, 2)
    names = [name for name in found if name.startswith("1_")]
    assert any("sharpness" in name for name in names)
    for name in names:
        assert np.array_equal(found[name], found[f"2{name[1:]}"], equal_nan=True), name
