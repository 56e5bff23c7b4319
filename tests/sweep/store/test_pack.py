"""Some runs of a store as a store of one small file."""

import dataclasses

import pandas as pd
from fake_training import FakeTrainer, experiment

from sharplab.sweep import load
from sharplab.sweep.runner import run_with
from sharplab.sweep.store.directory import group_files
from sharplab.sweep.store.pack import pack


def test_packed_runs_are_those_of_the_store_in_one_file(tmp_path):
    store, packed = tmp_path / "store", tmp_path / "packed"
    run_with(FakeTrainer(), experiment(widths=(4, 8, 16)), store)
    both = run_with(FakeTrainer(), experiment(widths=(4, 8)), store)
    pack(store, set(both.runs["run_id"]), packed)
    found = load(packed)
    pd.testing.assert_frame_equal(found.runs, both.runs)
    pd.testing.assert_frame_equal(found.curves, both.curves)
    assert len(group_files(packed)) == 1 < len(group_files(store))


def test_the_same_runs_are_packed_into_the_same_bytes(tmp_path):
    store, packed, again = tmp_path / "store", tmp_path / "packed", tmp_path / "again"
    ids = set(run_with(FakeTrainer(), experiment(), store).runs["run_id"])
    pack(store, ids, packed)
    pack(packed, ids, again)  # from one file rather than several
    assert [path.name for path in group_files(packed)] == [path.name for path in group_files(again)]


def test_every_record_of_a_packed_run_is_kept(tmp_path):
    store, packed = tmp_path / "store", tmp_path / "packed"
    losses = experiment(records=5)
    sharpness = dataclasses.replace(losses, records=3, observables=(*losses.observables, "sharpness"))
    first, second = (run_with(FakeTrainer(), one, store) for one in (losses, sharpness))
    pack(store, set(first.runs["run_id"]), packed)
    for one, before in ((losses, first), (sharpness, second)):
        after = run_with(FakeTrainer(stop_after=0), one, packed)
        pd.testing.assert_frame_equal(after.curves[list(before.curves)], before.curves)


def test_of_a_file_with_several_runs_those_asked_for_are_packed_alone(tmp_path):
    store, packed = tmp_path / "store", tmp_path / "packed"
    ids = sorted(run_with(FakeTrainer(), experiment(), store).runs["run_id"])[::2]
    pack(store, ids, packed)
    assert sorted(load(packed).runs["run_id"]) == ids
