"""The directory of runs: what was written comes back, whole or not at all."""

import json
import math
import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from fake_training import FakeTrainer, experiment
from stored_results import TASK, result

from sharplab.sweep import load
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import run_with
from sharplab.sweep.store import directory as store
from sharplab.training.task import Run


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
    assert (row["seconds"], row["device"], row["batching"]) == (0.5, "formula", "sequential")
    assert {"python", "jax", "flax", "optax", "numpy", "sharplab"} <= set(json.loads(row["versions"]))
    curve = records.curves[records.curves["run_id"] == row["run_id"]]
    assert curve["step"].tolist() == [0, 4, 8]
    np.testing.assert_allclose(curve["train_loss"], 1.101 + np.exp(-np.array([0, 4, 8]) / 10))


def test_nan_and_both_infinities_stay_themselves(folder):
    values = np.array([math.inf, -math.inf, math.nan])
    store.add_group(folder, TASK, [result(Run(1.0, 0), train_loss=values, eval_loss=values[::-1])])
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
    store.add_group(folder, rich, [result(Run(1.0, 0), task=rich, train_loss=np.full(9, 3.0))])
    for loss in (4.0, 5.0):
        store.add_group(folder, TASK, [result(Run(1.0, 0), train_loss=np.full(3, loss))])
        store.add_group(folder, TASK, [result(Run(2.0, 0), train_loss=np.full(3, loss))])
    runs = load(folder).runs
    assert runs.set_index("learning_rate")["train_loss"].to_dict() == {1.0: 3.0, 2.0: 5.0}


def test_results_are_dated_no_earlier_than_those_that_they_replace(folder):
    future = "2999-01-01T00:00:00.000001+00:00"
    store.add_group(
        folder, TASK, [result(Run(1.0, 0), train_loss=np.full(3, 1.0))], not_before="2999-01-01T01:00+01:00"
    )
    store.add_group(folder, TASK, [result(Run(1.0, 0), train_loss=np.full(3, 2.0))], not_before=future)
    row = load(folder).runs.iloc[0]
    assert (row["written"], row["train_loss"]) == (future, 2.0)
    store.add_group(folder, TASK, [result(Run(2.0, 0))], not_before="1999-01-01T00:00:00+00:00")
    assert "2020" < load(folder).runs["written"].min() < "2999"


def test_a_directory_with_other_things_is_no_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(ValueError, match=r"store\.json"):
        store.open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="cannot be made"):
        store.open_store(tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match="no store"):
        load(tmp_path)


def test_a_store_without_runs_says_so(folder):
    with pytest.raises(ValueError, match="no runs"):
        load(folder)
    assert {"run_id", "written", "train_loss"} <= set(store.read_rows(folder))


def test_a_process_reads_each_file_once(folder, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 4)
    read = []
    plain = store.Path.read_bytes
    monkeypatch.setattr(store.Path, "read_bytes", lambda path: read.append(path.name) or plain(path))
    for number in range(11):
        path = store.add_group(folder, TASK, [result(Run(1.0 + number, 0))])
        assert sorted(store.read_rows(folder)["learning_rate"]) == [1.0 + i for i in range(number + 1)]
        assert read.pop() == path.name
        assert read == []


def test_rows_are_the_same_whatever_the_order_of_the_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 2)
    for width, observables in ((4, ("train_loss",)), (8, ("eval_loss",)), (16, ("train_loss", "sharpness"))):
        sweep = experiment(widths=(width,), observables=observables)
        run_with(FakeTrainer(), sweep, folder)
    other = store.open_store(tmp_path / "other")
    for age, path in enumerate(sorted((folder / "groups").iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        shutil.copy(path, other / "groups")
        os.utime(other / "groups" / path.name, (10**9 - age, 10**9 - age))
    ours, theirs = load(folder), load(other)
    pd.testing.assert_frame_equal(ours.runs, theirs.runs)
    pd.testing.assert_frame_equal(ours.curves, theirs.curves)


def test_yes_and_no_along_a_curve_come_back(folder):
    missed = np.array([False, True, True])
    flagged = result(Run(1.0, 0))
    flagged.curves["hessian_missed"] = missed
    store.add_group(folder, TASK, [flagged])
    records = load(folder)
    assert records.runs["hessian_missed"].tolist() == [True]
    assert records.curves["hessian_missed"].tolist() == [0.0, 1.0, 1.0]
    store.add_group(folder, TASK, [result(Run(2.0, 0))])
    np.testing.assert_array_equal(load(folder).runs["hessian_missed"], [1.0, np.nan])


def test_whole_numbers_stay_whole_where_every_run_has_them(folder):
    run_with(FakeTrainer(), experiment(observables=("train_loss", "sharpness"), widths=(4,)), folder)
    assert load(folder).runs["sharpness_matvecs"].dtype == np.int64
    run_with(FakeTrainer(), experiment(observables=("train_loss",), widths=(8,)), folder)
    runs = load(folder).runs.set_index("width")
    assert runs.loc[4, "sharpness_matvecs"].tolist() == [5.0] * 12
    assert runs.loc[8, "sharpness_matvecs"].isna().all()


@pytest.mark.parametrize(("groups", "runs"), [(40, 250), (100, 10)])
def test_thousands_of_runs_load_in_seconds(folder, groups, runs):
    for width in range(1, groups + 1):
        (task,) = tasks(experiment(widths=(width,), parameterizations=("mup",), records=9))
        store.add_group(folder, task, [result(Run(1.0, seed), task=task) for seed in range(runs)])
    began = time.process_time()
    records = load(folder)
    assert time.process_time() - began < 2
    assert len(records.runs) == groups * runs
    assert len(records.curves) == groups * runs * 9
