"""Several stores made one, or refused."""

import dataclasses
import io
import math
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tyro
from fake_training import FakeTrainer, experiment

from sharplab.commands import merge as merge_command
from sharplab.core import files
from sharplab.sweep import StoreWarning, load
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import run_with
from sharplab.sweep.store import directory as store
from sharplab.sweep.store import group_file
from sharplab.sweep.store.export import merge
from sharplab.training.task import Run

TASK = next(tasks(experiment()))


def stored(folder, *results, task=TASK):
    """A store of these results, one file for each."""
    place = store.open_store(folder)
    for result in results:
        store.add_group(place, task, [result])
    return place


def starting_at(loss, *, run=Run(1.0, 0), name="train_loss", task=TASK):  # noqa: B008 (frozen)
    """A run whose first record of one loss is given."""
    result = FakeTrainer().result(task, run)
    curve = result.curves[name].astype(float)
    curve[0] = loss
    return dataclasses.replace(result, curves=result.curves | {name: curve})


def altered(path, **columns):
    """The same group file with other settings under the same identities."""
    table = pq.read_table(path)
    for name, value in columns.items():
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array([value] * len(table)))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    path.unlink()
    (path.parent / f"altered-{group_file.digest(buffer.getvalue())}.parquet").write_bytes(buffer.getvalue())


def content(folder):
    """Every file below, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def shards(tmp_path):
    """Two stores that share half their runs, each trained on its own, with a diverged run among them."""
    for name, rates in (("a", (0.5, 1.0)), ("b", (1.0, 64.0))):
        run_with(FakeTrainer(), experiment(learning_rates=rates), tmp_path / name)
    return [tmp_path / "a", tmp_path / "b"]


def test_the_merged_store_holds_what_either_held(shards, tmp_path):
    before = [content(shard) for shard in shards]
    copied = merge(shards, tmp_path / "all")
    assert copied == sum(len(store.group_files(shard)) for shard in shards)
    assert [content(shard) for shard in shards] == before
    whole = run_with(FakeTrainer(), experiment(learning_rates=(0.5, 1.0, 64.0)), tmp_path / "whole")
    merged = load(tmp_path / "all")
    pd.testing.assert_frame_equal(merged.runs.drop(columns="written"), whole.runs.drop(columns="written"))
    pd.testing.assert_frame_equal(merged.curves, whole.curves)
    assert merged.runs["diverged"].sum() == 8
    trainer = FakeTrainer()
    run_with(trainer, experiment(learning_rates=(0.5, 1.0, 64.0)), tmp_path / "all")
    assert trainer.trained == []


def test_twice_is_once(shards, tmp_path):
    merge(shards, tmp_path / "all")
    first = content(tmp_path / "all")
    assert merge([*shards, shards[0], tmp_path / "all"], tmp_path / "all") == 0
    assert content(tmp_path / "all") == first
    assert merge(shards[1:], shards[0]) > 0
    assert merge(shards[1:], shards[0]) == 0
    assert len(load(shards[0]).runs) == 24


def test_the_same_file_under_another_name_is_once_too(shards, tmp_path):
    path = min(store.group_files(shards[0]))
    path.rename(path.with_name(f"renamed-{group_file.digest_in(path)}.parquet"))
    other = store.open_store(tmp_path / "other")
    (other / "groups" / path.name).write_bytes(
        (path.with_name(f"renamed-{group_file.digest_in(path)}.parquet")).read_bytes()
    )
    assert merge([shards[0], other], tmp_path / "all") == len(store.group_files(shards[0]))


def test_a_merge_that_was_cut_off_is_finished_by_the_next(shards, tmp_path, monkeypatch):
    calls = []
    sync = os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 8:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(files.StoreError, match=r"store .*all: No space left on device"):
            merge(shards, tmp_path / "all")
    had = len(store.group_files(tmp_path / "all"))
    assert had > 0
    assert merge(shards, tmp_path / "all") == sum(len(store.group_files(shard)) for shard in shards) - had
    assert len(load(tmp_path / "all").runs) == 24


@pytest.mark.parametrize(("name", "value"), [("batch_size", 64), ("model", "vit"), ("learning_rate", 3.0)])
def test_other_settings_under_one_identity_are_refused(shards, tmp_path, name, value):
    victim = min(store.group_files(shards[1]))
    row = pq.read_table(victim).to_pylist()[0]
    altered(victim, **{name: value})
    with pytest.raises(files.StoreError) as caught:
        merge(shards, tmp_path / "all")
    told = str(caught.value)
    assert f"has {name} = " in told and f" and {value} in {shards[1]} (and 1 more runs likewise)" in told
    assert f"in {shards[0]} and" in told
    assert "versions that differ. Nothing was merged" in told
    assert row["parameterization"] in told
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("name", ["train_loss", "eval_loss"])
def test_another_loss_before_the_first_step_is_refused(tmp_path, name):
    ours = stored(tmp_path / "a", starting_at(2.302585, name=name))
    theirs = stored(tmp_path / "b", starting_at(2.303, name=name), starting_at(9.0, run=Run(2.0, 0), name=name))
    into = stored(tmp_path / "all", starting_at(1.0, run=Run(4.0, 0)))
    before = content(into)
    with pytest.raises(files.StoreError) as caught:
        merge([ours, theirs], into)
    run = load(ours).runs["run_id"].item()
    assert str(caught.value).startswith(
        f"run {run} (mup, width 4, depth 2, learning rate 1, seed 0) has {name} at its first record = 2.302585 in "
        f"{ours} and 2.303 in {theirs}: the model or the data behind a name has changed between them."
    )
    assert content(into) == before


def test_the_store_that_takes_the_others_in_is_checked_too(tmp_path):
    into = stored(tmp_path / "all", starting_at(1.0))
    with pytest.raises(files.StoreError, match="has changed between them"):
        merge([stored(tmp_path / "a", starting_at(2.0))], into)


@pytest.mark.parametrize(
    ("here", "there", "agree"),
    [
        (2.0, 2.0 * (1 + 5e-5), True),
        (2.0, 2.0 * (1 + 5e-4), False),
        (math.nan, math.nan, True),
        (math.inf, math.inf, True),
        (math.nan, 2.0, False),
        (2.0, math.inf, False),
        (math.inf, -math.inf, False),
        (0.0, 0.0, True),
    ],
)
def test_rounding_is_no_difference_and_diverged_runs_compare(tmp_path, here, there, agree):
    stores = [stored(tmp_path / "a", starting_at(here)), stored(tmp_path / "b", starting_at(there))]
    if agree:
        assert merge(stores, tmp_path / "all") == 2
        return
    with pytest.raises(files.StoreError, match="train_loss at its first record"):
        merge(stores, tmp_path / "all")


def test_later_records_may_differ_and_other_observables_are_no_difference(tmp_path):
    ours = stored(tmp_path / "a", FakeTrainer().result(TASK, Run(1.0, 0)))
    drifted = FakeTrainer().result(TASK, Run(1.0, 0))
    drifted.curves["train_loss"][1:] = np.nan
    other = next(tasks(experiment(observables=("sharpness",))))
    theirs = stored(tmp_path / "b", drifted)
    stored(tmp_path / "c", FakeTrainer().result(other, Run(1.0, 0)), task=other)
    assert merge([ours, theirs, tmp_path / "c"], tmp_path / "all") == 3
    assert len(load(tmp_path / "all").runs) == 1


def test_what_was_trained_anew_counts_and_not_what_it_replaced(tmp_path):
    ours = stored(tmp_path / "a", starting_at(1.0), starting_at(2.0))
    assert merge([ours, stored(tmp_path / "b", starting_at(2.0))], tmp_path / "all") == 3
    assert len(load(tmp_path / "all").runs) == 1


def test_stores_of_another_schema_and_places_without_a_store_are_refused(shards, tmp_path):
    (shards[1] / "store.json").write_text('{"sharplab_store": 2, "sharplab": "7.1"}')
    with pytest.raises(files.StoreError, match="schema 2"):
        merge(shards, tmp_path / "all")
    with pytest.raises(files.StoreError, match="schema 2"):
        merge(shards[:1], shards[1])
    with pytest.raises(files.StoreError, match="no store"):
        merge([shards[0], tmp_path / "nowhere"], tmp_path / "all")
    with pytest.raises(ValueError, match="sources"):
        merge([], tmp_path / "all")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("...")
    with pytest.raises(files.StoreError, match="holds other files"):
        merge(shards[:1], tmp_path / "thesis")
    assert not (tmp_path / "all").exists()
    assert os.listdir(tmp_path / "thesis") == ["thesis.tex"]


def test_damaged_files_are_left_out_and_said(shards, tmp_path):
    min(store.group_files(shards[0])).write_bytes(b"")
    with pytest.warns(StoreWarning, match="set aside"):
        copied = merge(shards, tmp_path / "all")
    assert copied == sum(len(store.group_files(shard)) for shard in shards)
    assert all(group_file.read_table(group_file.key_of(path)) for path in store.group_files(tmp_path / "all"))


def test_the_command_says_what_it_did(shards, tmp_path, capsys):
    args = [*map(str, shards), "--into", str(tmp_path / "all")]
    for copied in (8, 0):
        merge_command.merge(tyro.cli(merge_command.MergeOptions, args=args))
        assert capsys.readouterr().out == f"{copied} group files copied; {tmp_path / 'all'} now holds 24 runs\n"
