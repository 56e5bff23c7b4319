"""The directory of runs: whole or not at all, and what happens to what was damaged."""

import json
import math
import os
import time

import numpy as np
import pytest
from fake_training import FakeTrainer, experiment

from sharplab.sweep import StoreWarning, load, store
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import run_with
from sharplab.training import Lane, LaneResult

TASK = next(tasks(experiment()))


def result(lane, *, task=TASK, **curves):
    steps = np.array(task.record_steps)
    filled = {name: np.asarray(curves.get(name, np.ones(len(steps)))) for name in task.observables}
    return LaneResult(lane, {"step": steps, **filled}, False, -1, 0.25, {"device": "formula"})


@pytest.fixture
def folder(tmp_path):
    return store.open_store(tmp_path / "runs")


def test_a_run_comes_back_with_its_settings_its_values_and_its_provenance(folder):
    sweep = experiment(observables=("train_loss", "sharpness"), widths=(4,), parameterizations=("mup",))
    run_with(FakeTrainer(), sweep, folder)
    records = load(folder)
    row = records.runs[(records.runs.learning_rate == 2.0) & (records.runs.seed == 1)].iloc[0]
    assert (row["parameterization"], row["width"], row["depth"], row["steps"]) == ("mup", 4, 2, 8)
    assert (row["model"], row["data"], row["optimizer"], row["loss"]) == (
        "residual_mlp",
        "gaussian-clusters",
        "sgd",
        "cross_entropy",
    )
    assert row["train_loss"] == pytest.approx(1 + 0.1 + 0.001 + math.exp(-0.8))
    assert row["matvecs"] == 3 * 5
    assert (row["seconds"], row["device"], row["lane_mode"]) == (0.5, "formula", "sequential")
    assert {"python", "jax", "flax", "optax", "numpy", "sharplab"} <= set(json.loads(row["versions"]))
    curve = records.curves[records.curves["run_id"] == row["run_id"]]
    assert curve["step"].tolist() == [0, 4, 8]
    np.testing.assert_allclose(curve["train_loss"], 1.101 + np.exp(-np.array([0, 4, 8]) / 10))


def test_nan_and_both_infinities_stay_themselves(folder):
    values = np.array([math.inf, -math.inf, math.nan])
    store.add_group(folder, TASK, [result(Lane(1.0, 0), train_loss=values, eval_loss=values[::-1])])
    records = load(folder)
    np.testing.assert_array_equal(records.curves["train_loss"], values)
    np.testing.assert_array_equal(records.curves["eval_loss"], values[::-1])
    assert math.isnan(records.runs["train_loss"].item())
    assert records.runs["eval_loss"].item() == math.inf


def test_runs_with_other_observables_stand_in_one_table(folder):
    run_with(FakeTrainer(), experiment(widths=(4,), observables=("train_loss",)), folder)
    run_with(FakeTrainer(), experiment(widths=(8,), observables=("eval_loss",), records=2), folder)
    records = load(folder)
    assert records.runs.groupby("width")["eval_loss"].count().to_dict() == {4: 0, 8: 12}
    assert len(records.curves) == 12 * 3 + 12 * 2
    assert records.curves[records.curves.width == 8]["train_loss"].isna().all()


def test_of_a_run_found_twice_the_one_with_more_records_is_kept_and_of_equals_the_later(folder):
    rich = next(tasks(experiment(records=9)))
    store.add_group(folder, rich, [result(Lane(1.0, 0), task=rich, train_loss=np.full(9, 3.0))])
    for loss in (4.0, 5.0):
        store.add_group(folder, TASK, [result(Lane(1.0, 0), train_loss=np.full(3, loss))])
        store.add_group(folder, TASK, [result(Lane(2.0, 0), train_loss=np.full(3, loss))])
    runs = load(folder).runs
    assert runs.set_index("learning_rate")["train_loss"].to_dict() == {1.0: 3.0, 2.0: 5.0}


def truncate(content):
    return content[: len(content) // 2]


def flip_one_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, empty])
def test_a_damaged_file_is_set_aside_said_and_its_runs_trained_again(folder, damage):
    sweep = experiment()
    before = run_with(FakeTrainer(), sweep, folder)
    victim = sorted((folder / "groups").glob("mup-w8-*.parquet"))[0]
    victim.write_bytes(damage(victim.read_bytes()))
    again = FakeTrainer()
    with pytest.warns(StoreWarning, match="set aside"):
        after = run_with(again, sweep, folder)
    assert {(task.parameterization, task.width) for task, _ in again.trained} == {("mup", 8)}
    assert len(again.trained) == 3 * 2
    assert (folder / "groups" / "set-aside" / victim.name).exists()
    assert after.runs["train_loss"].tolist() == before.runs["train_loss"].tolist()
    assert len(load(folder).runs) == len(before.runs)


def test_a_foreign_file_among_the_groups_harms_nothing(folder):
    run_with(FakeTrainer(), experiment(), folder)
    (folder / "groups" / "notes.parquet").write_text("remember the milk")
    (folder / "groups" / "notes.txt").write_text("remember the milk")
    with pytest.warns(StoreWarning, match=r"notes\.parquet"):
        assert len(load(folder).runs) == 24
    assert (folder / "groups" / "notes.txt").exists()


def test_damage_in_a_store_that_cannot_be_written_is_said_and_ignored(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)
    victim = sorted((folder / "groups").glob("mup-w8-*.parquet"))[0]
    victim.write_bytes(b"")
    monkeypatch.setattr(store.Path, "replace", lambda self, target: (_ for _ in ()).throw(PermissionError()))
    with pytest.warns(StoreWarning, match="ignored"):
        assert len(load(folder).runs) == 18
    assert victim.exists()


def test_a_write_that_fails_leaves_nothing_behind(folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(ValueError, match="cannot be written: No space left on device"):
        store.add_group(folder, TASK, [result(Lane(1.0, 0))])
    assert list((folder / "groups").iterdir()) == []


def test_a_directory_with_other_things_is_no_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(ValueError, match=r"holds other files and no store\.json: give a new or empty directory"):
        store.open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="cannot be made"):
        store.open_store(tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match="there is no store at"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [('{"sharplab_store": 99}', "has schema 99, this version reads 1"), ("{", "is damaged"), ("[]", "is damaged")],
)
def test_a_store_of_another_schema_is_refused(folder, content, sentence):
    (folder / "store.json").write_text(content)
    for use in (store.open_store, load):
        with pytest.raises(ValueError, match=sentence):
            use(folder)


def test_a_read_only_store_is_refused_before_anything_is_trained_but_can_be_loaded(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)
    monkeypatch.setattr(store.os, "access", lambda path, mode: not mode & os.W_OK)
    trainer = FakeTrainer()
    with pytest.raises(ValueError, match="cannot be written: change the permissions"):
        run_with(trainer, experiment(seeds=5), folder)
    assert trainer.trained == []
    assert len(load(folder).runs) == 24


def test_an_unreadable_file_gets_a_sentence(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"\.parquet cannot be read: Permission denied"):
        load(folder)


def test_a_store_without_runs_says_so(folder):
    with pytest.raises(ValueError, match="holds no runs yet"):
        load(folder)


def test_ten_thousand_runs_load_in_seconds(folder):
    for width in range(1, 41):
        (task,) = tasks(experiment(widths=(width,), parameterizations=("mup",), records=9))
        store.add_group(folder, task, [result(Lane(1.0, seed), task=task) for seed in range(250)])
    began = time.perf_counter()
    records = load(folder)
    assert time.perf_counter() - began < 5
    assert len(records.runs) == 10_000
    assert len(records.curves) == 90_000
