"""Stores that earlier versions wrote are read as if written today."""

import shutil
from pathlib import Path

import pytest

import sharplab as sl
from sharplab.sweep.store.columns import describe

EARLY = Path(__file__).with_name("store_of_version_0_1")
EXPERIMENT = sl.Experiment(
    model="residual_mlp",
    data="gaussian-clusters",
    widths=(4, 8),
    depths=(1,),
    learning_rates=(0.25, 0.5),
    parameterizations=("mup",),
    seeds=1,
    steps=4,
    batch_size=16,
    probe_size=32,
    records=2,
    observables=("train_loss", "sharpness_raw"),
)


def test_columns_have_the_names_and_values_of_today():
    runs = sl.load(EARLY).runs
    assert set(runs["batching"]) == {"sequential"}
    assert set(runs["runs_per_device"]) == {"1"}
    assert set(runs["loop"]) == {"compiled"}
    assert all(describe(name) is not None for name in runs)


@pytest.mark.long
def test_runs_of_an_early_store_are_not_trained_again(tmp_path):
    store = tmp_path / "store"
    shutil.copytree(EARLY, store)
    before = sl.load(store).runs
    found = sl.run(EXPERIMENT, store).runs
    assert len(found) == 4
    assert found["written"].tolist() == before["written"].tolist()
    longer = sl.run(sl.sweep.product(EXPERIMENT, seeds=((0,), (1,))), store).runs
    assert len(longer) == 8
    assert set(longer["loop"]) == {"compiled"}
