"""The plan as it is shown before anything is trained."""

import pytest
from fake_training import FakeTrainer, experiment
from rich.console import Console

from sharplab.sweep import preview
from sharplab.sweep.estimate import Estimated, GroupEstimate
from sharplab.sweep.plan import Group, Shard
from sharplab.sweep.preview import plan_tasks, print_plan
from sharplab.sweep.runner import run_with
from sharplab.sweep.several import product


def estimated(planned) -> Estimated:
    groups = [Group(each.task, each.missing) for each in planned if each.missing]
    return Estimated(tuple(GroupEstimate(90.0, 3_000_000) for group in groups), 8, 600, 6_000_000, 2)


def printed(planned, estimate: Estimated | None = None) -> str:
    console = Console(width=160)
    with console.capture() as caught:
        print_plan(planned, estimate or estimated(planned), console)
    return caught.get()


def test_without_a_store_everything_is_missing_and_no_store_is_made(tmp_path):
    planned = plan_tasks([experiment()], tmp_path / "runs")
    assert [(each.task.parameterization, each.task.width) for each in planned] == [
        ("mup", 4),
        ("mup", 8),
        ("ntk", 4),
        ("ntk", 8),
    ]
    assert {(each.rates, each.seeds, each.stored, len(each.missing)) for each in planned} == {((0.5, 1, 2), 2, 0, 6)}
    assert not (tmp_path / "runs").exists()


def test_what_is_stored_is_not_missing(tmp_path):
    run_with(FakeTrainer(), experiment(widths=4), tmp_path / "runs")
    planned = plan_tasks([experiment(seeds=3)], tmp_path / "runs")
    assert [(each.task.width, each.stored, len(each.missing)) for each in planned] == [(4, 6, 3), (8, 0, 9)] * 2


def test_a_run_of_several_experiments_is_planned_once(tmp_path):
    planned = plan_tasks(product(experiment(), learning_rates=("0.5:2", "1:4")), tmp_path / "runs")
    assert [len(each.missing) for each in planned] == [6] * 4 + [2] * 4


def test_the_parts_of_a_sweep_are_the_sweep(tmp_path):
    parts = [plan_tasks([experiment()], tmp_path, Shard(index, 3)) for index in range(3)]
    found = sorted(
        (repr(each.task), run.learning_rate, run.seed) for part in parts for each in part for run in each.missing
    )
    whole = plan_tasks([experiment()], tmp_path)
    assert found == sorted((repr(each.task), run.learning_rate, run.seed) for each in whole for run in each.missing)


def test_a_directory_that_cannot_become_a_store_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        plan_tasks([experiment()], tmp_path)


@pytest.mark.parametrize("optimum", [1.0, 1e6, 1.4])
def test_refinement_adds_no_more_than_was_said(tmp_path, optimum):
    sweep = experiment(refine=True, learning_rates=(0.25, 1, 2), parameterizations="mup", widths=4)
    (planned,) = plan_tasks([sweep], tmp_path / "runs")
    records = run_with(FakeTrainer(optimum=lambda task: optimum, edge=1e9), sweep, tmp_path / "runs")
    added = len(records.runs) - len(planned.missing)
    assert 0 < added <= planned.further
    if optimum == 1.0:
        assert added <= planned.inside
    (done,) = plan_tasks([sweep], tmp_path / "runs")
    assert (done.missing, done.inside, done.further) == ((), 0, 0)


def test_the_table_has_each_task_and_the_totals(tmp_path):
    run_with(FakeTrainer(), experiment(widths=4, parameterizations="mup"), tmp_path / "runs")
    text = printed(plan_tasks([experiment(seeds=3)], tmp_path / "runs"))
    rows = [line.split() for line in text.splitlines()]
    assert ["mup", "4", "2", "2^-1", "…", "2^1", "(3)", "3", "6", "3", "2", "min", "3.0", "MB"] in rows
    assert ["ntk", "8", "2", "2^-1", "…", "2^1", "(3)", "3", "0", "9", "2", "min", "3.0", "MB"] in rows
    assert ["in", "all", "6", "30", "10", "min", "6.0", "MB"] in rows
    assert "Nothing was trained." in text
    assert "Refinement" not in text


def test_the_table_tells_the_tasks_of_several_experiments_apart(tmp_path):
    planned = plan_tasks(product(experiment(widths=4), gamma=(0.5, 2), batch_size=(32, 64)), tmp_path / "runs")
    text = printed(planned)
    assert "gamma" in text
    assert "batch size" in text
    assert "steps" not in text
    rows = {tuple(line.split()[:5]) for line in text.splitlines()}
    assert {("mup", "4", "2", gamma, size) for gamma in ("0.5", "2.0") for size in ("32", "64")} <= rows


def test_refinement_is_announced(tmp_path):
    text = printed(plan_tasks([experiment(refine=True)], tmp_path / "runs"))
    assert "Refinement follows: 16 further runs" in text
    assert "up to 112" in text


def test_a_sweep_that_is_done_has_nothing_to_train(tmp_path):
    run_with(FakeTrainer(), experiment(), tmp_path / "runs")
    planned = plan_tasks([experiment()], tmp_path / "runs")
    assert preview.estimate_tasks(planned).seconds == 0
    assert ["in", "all", "24", "0", "0", "s", "0", "B"] in [
        line.split() for line in printed(planned, preview.estimate_tasks(planned)).splitlines()
    ]


@pytest.mark.parametrize(("free", "said"), [(7e6, None), (5e6, "fits"), (6e6 - 1, "fits"), (None, None)])
def test_a_sweep_that_cannot_fit_is_told_before_it_starts(tmp_path, monkeypatch, free, said):
    monkeypatch.setattr(preview, "free_bytes", lambda: free)
    text = printed(plan_tasks([experiment()], tmp_path / "runs"))
    assert ("memory free" in text) == (said is not None)
    assert said is None or said in text


def test_the_tasks_that_fit_are_told(tmp_path, monkeypatch):
    planned = plan_tasks([experiment()], tmp_path / "runs")
    sizes = [2_000_000, 3_000_000, 4_000_000, 9_000_000]
    found = Estimated(tuple(GroupEstimate(90.0, size) for size in sizes), 8, 600, 18_000_000, 2)
    monkeypatch.setattr(preview, "free_bytes", lambda: 7e6)
    assert "Tasks of up to 3.0 MB each fit" in printed(planned, found)
