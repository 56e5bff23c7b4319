"""Running a sweep: only what is missing, and nothing lost on the way."""

import dataclasses
import inspect
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from fake_training import FakeTrainer, experiment

from sharplab.sweep import load, run, work
from sharplab.sweep.runner import run_with

# What may differ between two trainings of one run.
CIRCUMSTANCES = ["seconds", "written", "versions", "device", "batching", "loop"]


def assert_same_records(ours, theirs):
    pd.testing.assert_frame_equal(ours.runs.drop(columns=CIRCUMSTANCES), theirs.runs.drop(columns=CIRCUMSTANCES))
    pd.testing.assert_frame_equal(ours.curves, theirs.curves)


def test_a_second_call_trains_nothing_and_returns_the_same(tmp_path):
    first = run_with(FakeTrainer(), experiment(refine=True), tmp_path)
    again = FakeTrainer()
    second = run_with(again, experiment(refine=True), tmp_path)
    assert again.trained == []
    assert_same_records(first, second)
    assert first.runs["written"].tolist() == second.runs["written"].tolist()


@pytest.mark.parametrize(
    ("longer", "new"),
    [
        ({"learning_rates": (0.5, 1.0, 2.0, 4.0)}, 2 * 2 * 2),
        ({"seeds": 3}, 2 * 2 * 3),
        ({"widths": (4, 8, 16)}, 2 * 3 * 2),
        ({"parameterizations": ("mup", "ntk", "standard")}, 2 * 3 * 2),
        ({"observables": ("train_loss",), "records": 2}, 0),
        ({"observables": ("train_loss", "eval_loss", "eval_accuracy", "sharpness")}, 24),
        ({"records": 5}, 24),
        ({"steps": 16}, 24),
    ],
)
def test_a_longer_sweep_trains_only_what_is_new(tmp_path, longer, new):
    run_with(FakeTrainer(), experiment(), tmp_path)
    trainer = FakeTrainer()
    records = run_with(trainer, experiment(**longer), tmp_path)
    assert len(trainer.trained) == new
    whole = run_with(FakeTrainer(), experiment(**longer), tmp_path / "alone")
    assert records.runs["run_id"].tolist() == whole.runs["run_id"].tolist()


def test_sweeps_that_observe_one_run_differently_share_a_store(tmp_path):
    many = experiment(records=9)
    few = experiment(records=2, observables=("train_loss", "sharpness"))
    for sweep, trained in ((many, 24), (few, 24), (many, 0), (few, 0)):
        trainer = FakeTrainer()
        records = run_with(trainer, sweep, tmp_path)
        assert len(trainer.trained) == trained
        assert len(records.runs) == 24
        assert set(sweep.observables) <= set(records.curves)
        assert records.curves[list(sweep.observables)].notna().all(axis=None)
        assert sorted(set(records.curves["step"])) == list(sweep.record_steps())


def test_only_the_runs_of_the_experiment_are_returned(tmp_path):
    run_with(FakeTrainer(), experiment(seeds=5, widths=(4, 8, 16), refine=True), tmp_path)
    records = run_with(FakeTrainer(), experiment(), tmp_path)
    assert len(records.runs) == 24
    assert set(records.runs["width"]) == {4, 8}
    assert set(records.curves["run_id"]) == set(records.runs["run_id"])


def test_refined_runs_are_returned_with_the_others(tmp_path):
    records = run_with(FakeTrainer(optimum=lambda task: task.width / 1.0), experiment(refine=True), tmp_path)
    best = records.runs.groupby(["parameterization", "width", "learning_rate"])["train_loss"].mean()
    for width in (4, 8):
        assert best["mup", width].idxmin() == width
        assert best["mup", width].index.max() > width
    assert records.runs["diverged"].sum() == 0


def test_diverged_runs_are_results(tmp_path):
    trainer = FakeTrainer(edge=1.5)
    records = run_with(trainer, experiment(), tmp_path)
    diverged = records.runs[records.runs["learning_rate"] == 2.0]
    assert diverged["diverged"].all()
    assert (diverged["diverged_step"] == 1).all()
    assert diverged["train_loss"].isna().all()
    assert not records.runs[records.runs["learning_rate"] < 2]["diverged"].any()


def test_without_resume_all_is_trained_anew_and_the_newest_is_what_is_read(tmp_path):
    run_with(FakeTrainer(), experiment(refine=True), tmp_path)
    trainer = FakeTrainer(shift=1.0)
    records = run_with(trainer, experiment(refine=True), tmp_path, resume=False)
    assert len(trainer.trained) == len(records.runs)
    assert records.runs["train_loss"].min() > 2
    assert_same_records(load(tmp_path), records)


def test_the_public_function_can_resume_or_not():
    assert inspect.signature(run).parameters["resume"].default is True


@pytest.mark.parametrize("cause", [RuntimeError, KeyboardInterrupt])
def test_what_was_finished_before_an_interruption_is_kept(tmp_path, cause):
    with pytest.raises(cause):
        run_with(FakeTrainer(stop_after=10, stop_with=cause), experiment(), tmp_path)
    assert len(load(tmp_path).runs) == 10
    rest = FakeTrainer()
    records = run_with(rest, experiment(), tmp_path)
    assert len(rest.trained) == 14
    assert_same_records(records, run_with(FakeTrainer(), experiment(), tmp_path / "alone"))


def test_results_are_written_as_they_come_and_not_at_the_end_alone(tmp_path, monkeypatch):
    sweep = experiment(widths=(4,), parameterizations=("mup",))
    run_with(FakeTrainer(), sweep, tmp_path / "at-the-end")
    monkeypatch.setattr(work, "FLUSH_SECONDS", 0.0)
    run_with(FakeTrainer(), sweep, tmp_path / "at-once")
    assert len(list((tmp_path / "at-the-end" / "groups").iterdir())) == 1
    assert len(list((tmp_path / "at-once" / "groups").iterdir())) == 6


def test_a_sweep_killed_and_resumed_gives_the_records_of_one_left_alone(tmp_path):
    killed = tmp_path / "killed"
    script = Path(__file__).with_name("interrupted_sweep.py")
    process = subprocess.Popen([sys.executable, str(script), str(killed)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(killed.glob("groups/*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = len(load(killed).runs)
    sweep = experiment(refine=True, seeds=3)
    rest = FakeTrainer()
    resumed = run_with(rest, sweep, killed)
    alone = run_with(FakeTrainer(), sweep, tmp_path / "alone")
    assert 0 < kept < len(alone.runs)
    assert len(rest.trained) == len(alone.runs) - kept
    assert_same_records(resumed, alone)


def test_real_training_fills_a_store(tmp_path):
    sweep = experiment(
        widths=(4,), parameterizations=("mup",), learning_rates=(0.5, 1e6), seeds=1, batch_size=32, probe_size=64
    )
    records = run(sweep, tmp_path)
    runs = records.runs.set_index("learning_rate")
    assert 0 < runs.loc[0.5, "train_loss"] < 3
    assert runs["diverged"].to_dict() == {0.5: False, 1e6: True}
    shorter = dataclasses.replace(sweep, learning_rates=(0.5,), records=2)
    assert run(shorter, tmp_path).runs["written"].item() == runs.loc[0.5, "written"]


@pytest.mark.parametrize("executor", ["here", pytest.param("processes:2", marks=pytest.mark.long)])
def test_executors_are_known_by_their_texts_too(tmp_path, executor):
    assert len(run_with(FakeTrainer(), experiment(), tmp_path / "store", executor=executor).runs) == 24


@pytest.mark.parametrize("executor", ["nowhere", 4, object()])
def test_what_is_no_executor_is_refused(tmp_path, executor):
    with pytest.raises(ValueError, match="executor"):
        run_with(FakeTrainer(), experiment(), tmp_path / "store", executor=executor)


def test_records_are_those_asked_for_whatever_else_the_store_holds(tmp_path):
    few = experiment(records=3)
    first = run_with(FakeTrainer(), few, tmp_path)
    more = dataclasses.replace(few, records=5, observables=(*few.observables, "sharpness"))
    assert set(first.curves["step"]) < set(run_with(FakeTrainer(), more, tmp_path).curves["step"])
    again = run_with(FakeTrainer(stop_after=0), few, tmp_path)
    pd.testing.assert_frame_equal(again.curves[list(first.curves)], first.curves)


def test_a_run_that_two_experiments_want_has_the_records_of_both(tmp_path):
    thirds, quarters = experiment(steps=12, records=4), experiment(steps=12, records=5)
    both = dataclasses.replace(thirds, records=13)
    run_with(FakeTrainer(), both, tmp_path)
    records = run_with(FakeTrainer(stop_after=0), (thirds, quarters), tmp_path)
    assert sorted(records.curves["step"].unique()) == [0, 3, 4, 6, 8, 9, 12]
