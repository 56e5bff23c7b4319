"""Tables for other programs: nothing lost, everything explained."""

import math
import os
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tyro
import xarray
from fake_training import FakeTrainer, experiment

from sharplab.commands import export as export_command
from sharplab.commands import merge as merge_command
from sharplab.core import files
from sharplab.data import LICENCES, load_dataset
from sharplab.records import Records
from sharplab.sweep import load, run
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import run_with
from sharplab.sweep.store import directory as store
from sharplab.sweep.store.columns import SETTINGS, describe
from sharplab.sweep.store.export import EXPORTED, export
from sharplab.sweep.store.identity import settings
from sharplab.tracking.observables import OBSERVABLES, SPECTRA
from sharplab.training.task import Run, find_recipe
from sharplab.training.train import RunResult

TASK = next(tasks(experiment()))


@pytest.fixture
def folder(tmp_path):
    """A store with diverged runs and two ways of looking."""
    run_with(FakeTrainer(edge=1.5), experiment(), tmp_path / "runs")
    run_with(FakeTrainer(), experiment(widths=(16,), observables=("train_loss", "sharpness")), tmp_path / "runs")
    return tmp_path / "runs"


def read(exported):
    return Records(pd.read_parquet(exported / "runs.parquet"), pd.read_parquet(exported / "curves.parquet"))


def test_the_tables_come_back_as_they_are_loaded(folder, tmp_path):
    exported = export(folder, tmp_path / "tables")
    assert sorted(os.listdir(exported)) == sorted(EXPORTED)
    ours, theirs = load(folder), read(exported)
    pd.testing.assert_frame_equal(theirs.runs, ours.runs)
    pd.testing.assert_frame_equal(theirs.curves, ours.curves)


def test_what_is_not_a_number_and_what_was_not_recorded_stay_apart(tmp_path):
    place = store.open_store(tmp_path / "runs")
    steps = np.array(TASK.record_steps)
    values = np.array([math.inf, -math.inf, math.nan])
    for each, curves in ((Run(1.0, 0), {"train_loss": values}), (Run(2.0, 0), {"eval_loss": np.ones(3)})):
        store.add_group(place, TASK, [RunResult(each, {"step": steps} | curves, False, -1, 0.1)])
    exported = export(place, tmp_path / "tables")
    curves = pq.read_table(exported / "curves.parquet")
    assert str(curves["train_loss"].to_pylist()) == "[inf, -inf, nan, None, None, None]"
    assert curves["eval_loss"].to_pylist() == [None, None, None, 1.0, 1.0, 1.0]
    runs = pq.read_table(exported / "runs.parquet")
    assert str(runs["train_loss"].to_pylist()) == "[nan, None]"
    assert runs["eval_loss"].to_pylist() == [None, 1.0]
    np.testing.assert_array_equal(read(exported).curves["train_loss"].head(3), values)


def test_every_column_of_a_real_store_is_explained(tmp_path):
    sweep = experiment(
        widths=(4,),
        parameterizations=("mup",),
        learning_rates=(0.5,),
        seeds=1,
        batch_size=32,
        probe_size=32,
        observables=("train_loss", "eval_loss", "eval_accuracy"),
        records=2,
    )
    records = run(sweep, tmp_path / "runs")
    columns = [*records.runs, *records.curves]
    assert {"eval_accuracy", "seconds", "device", "batching"} <= set(columns)
    assert [name for name in columns if describe(name) is None] == []
    card = (export(tmp_path / "runs", tmp_path / "tables") / "README.md").read_text()
    assert "not known to this version" not in card
    assert "| `eval_accuracy` | float64 | share, 0 to 1 | share of the held-out examples" in card


def test_every_column_that_can_be_observed_is_explained():
    names = (*OBSERVABLES, *(f"{family}_top2" for family in SPECTRA))
    recipe = find_recipe(next(tasks(experiment(widths=(4,), observables=names))))
    data = load_dataset("gaussian-clusters")
    batch = (recipe.prepare(data.train_inputs[:32]), jnp.asarray(data.train_targets[:32]))

    def record(seed):
        run = recipe.begin(seed)
        return recipe.observe(run, recipe.measurement().init(run.params, batch), seed, batch, batch)[1]

    columns = jax.eval_shape(record, 0)  # nothing is compiled
    assert {"ntk_2_identity", "hessian_missed", "sharpness_raw_residual", "gauss_newton_matvecs"} <= set(columns)
    assert [name for name in columns if describe(name) is None] == []


def test_every_name_has_its_entry():
    assert set(SETTINGS) == set(settings(TASK, Run(1.0, 0)))
    assert all(describe(name) is not None and describe(name).unit for name in OBSERVABLES)
    assert describe("hessian_2").meaning == "eigenvalue 2 from the top of D^½ H D^½"
    assert describe("hessian_2_error").unit == describe("hessian_2").unit == "1/learning rate"
    assert describe("sharpness_raw_matvecs").unit == "products"
    assert [describe(name) for name in ("loss_of_my_own", "milk_error", "hessian", "matvecs_missed")] == [None] * 4


def test_the_card_says_what_there_is(folder, tmp_path):
    card = (export(folder, tmp_path / "tables") / "README.md").read_text()
    assert "36 training runs, 8 of them diverged, with 108 records" in card
    assert "| `width` | 4, 8, 16 |" in card
    assert "| `learning_rate` | 0.5, 1, 2 |" in card
    assert "| mup | 8 | 2 | 6 | 2 |" in card
    assert "| `gaussian-clusters` | made by sharplab from a seed; nobody's |" in card
    assert "| jax | 0." in card
    for line in ("pd.read_parquet", "polars.read_parquet", "arrow::read_parquet"):
        assert line in card


def test_an_unknown_column_and_a_data_set_of_ones_own_are_said_to_be_unknown(folder, tmp_path, monkeypatch):
    monkeypatch.delitem(LICENCES, "gaussian-clusters")
    task = next(tasks(experiment(widths=(32,))))
    own = {"step": np.array(task.record_steps), "milk|honey": np.ones(3)}
    store.add_group(folder, task, [RunResult(Run(1.0, 0), own, False, -1, 0.1)])
    card = (export(folder, tmp_path / "tables") / "README.md").read_text()
    assert "| `milk\\|honey` | float64 |  | not known to this version of sharplab |" in card
    assert "| `gaussian-clusters` | not known to sharplab |" in card


def test_an_earlier_export_is_replaced_and_other_things_are_not(folder, tmp_path):
    target = tmp_path / "deep" / "tables"
    export(folder, target)
    run_with(FakeTrainer(), experiment(seeds=3), folder)
    (tmp_path / "empty").mkdir()
    for place in (target, tmp_path / "empty"):
        assert len(read(export(folder, place)).runs) == 36 + 12
    assert os.listdir(tmp_path / "deep") == ["tables"]
    (target / "thesis.tex").write_text("...")
    with pytest.raises(files.StoreError, match=r"tables .*curves\.parquet"):
        export(folder, target)
    (target / "thesis.tex").unlink()
    (target / "README.md").write_text("# My own")
    with pytest.raises(files.StoreError, match="holds other things"):
        export(folder, target)
    with pytest.raises(files.StoreError, match="holds other things"):
        export(folder, folder)
    assert (target / "README.md").read_text() == "# My own"


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_an_export_is_there_whole_or_not_at_all(folder, tmp_path, monkeypatch, there, fails_at):
    target = tmp_path / "out" / "tables"
    if there:
        export(folder, target)
        run_with(FakeTrainer(), experiment(seeds=3), folder)
    calls = []
    rename = files.Path.replace

    def fail(path, destination):
        # Three files and, with one there before, that one's way out, and the new one's way in.
        calls.append(path)
        if len(calls) == fails_at + (there and fails_at == 4):
            raise OSError(28, "No space left on device")
        return rename(path, destination)

    monkeypatch.setattr(files.Path, "replace", fail)
    with pytest.raises(files.StoreError, match="No space left on device"):
        export(folder, target)
    assert os.listdir(target.parent) == (["tables"] if there else [])
    if there:
        assert len(read(target).runs) == 36


def test_without_a_store_or_runs_nothing_is_written(tmp_path):
    with pytest.raises(files.StoreError, match="no store"):
        export(tmp_path / "nowhere", tmp_path / "tables")
    store.open_store(tmp_path / "empty")
    with pytest.raises(files.StoreError, match="no runs"):
        export(tmp_path / "empty", tmp_path / "tables")
    assert os.listdir(tmp_path) == ["empty"]


def test_arrays_are_made_from_a_store_and_from_its_export(folder, tmp_path):
    exported = export(folder, tmp_path / "tables")
    ours, theirs = (records.to_xarray() for records in (load(folder), read(exported)))
    xarray.testing.assert_identical(ours, theirs)
    assert dict(ours.sizes) == {"parameterization": 2, "width": 3, "depth": 1, "learning_rate": 3, "seed": 2, "step": 3}
    at = {"parameterization": "mup", "width": 4, "depth": 2, "learning_rate": 0.5, "seed": 1}
    curves = load(folder).select(**at).curves
    np.testing.assert_array_equal(ours["train_loss"].sel(**at), curves["train_loss"])
    assert ours["train_loss"].sel(at | {"learning_rate": 2.0}).isnull().values.tolist() == [False, True, True]
    assert ours["sharpness"].sel(width=4).isnull().all()
    assert ours["sharpness"].sel(width=16).notnull().all()


def test_arrays_of_a_store_that_mixes_settings_ask_for_one(folder):
    run_with(FakeTrainer(), experiment(batch_size=64), folder)
    with pytest.raises(ValueError, match="select"):
        load(folder).to_xarray()
    assert load(folder).select(batch_size=64).to_xarray().sizes["width"] == 2


@pytest.mark.parametrize(
    ("options", "names"),
    [(export_command.ExportOptions, ("STORE", "FOLDER")), (merge_command.MergeOptions, ("STORE...", "--into"))],
)
def test_every_option_is_explained(options, names, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(options, args=["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in names)
    assert told.count("director") == len(fields(options))


def test_the_command_names_what_it_wrote(folder, tmp_path, capsys):
    options = tyro.cli(export_command.ExportOptions, args=[str(folder), str(tmp_path / "tables")])
    export_command.export(options)
    told = capsys.readouterr().out
    assert all(f"tables/{name}" in told for name in EXPORTED)
