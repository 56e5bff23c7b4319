"""How long the groups that are left will take, from timings made up by a law that is known."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from fake_training import FakeTrainer, experiment

from sharplab.sweep.claims import Claim
from sharplab.sweep.plan import Group, missing_groups, tasks
from sharplab.sweep.progress import share_done, time_left
from sharplab.sweep.runner import run_with
from sharplab.sweep.session import Session, SessionLog, read_sessions
from sharplab.sweep.store.directory import open_store, read_rows
from sharplab.sweep.time_left import (
    NOTHING,
    TYPICAL,
    Left,
    Spent,
    Timing,
    fit,
    predict,
    size_of,
    step_cost,
    still_left,
    stored_timings,
    timing,
)
from sharplab.training.task import Run

RUNS = tuple(Run(rate, seed) for rate, seed in product((0.5, 1.0), (0, 1)))
WIDTHS = (16, 32, 64, 128, 256)


def planned(**changes):
    """The groups of a sweep, the cheapest first."""
    settings = {"widths": WIDTHS, "parameterizations": ("mup", "ntk"), "steps": 256, "records": 9} | changes
    groups = [Group(task, RUNS) for task in tasks(experiment(**settings))]
    return sorted(groups, key=lambda group: group.cost)


def per_step(group, a, b):
    return a + b * step_cost(group)


def spent(group, a, b, compiling=0.0, factor=1.0):
    return Spent(len(group.runs), factor * per_step(group, a, b) * group.task.steps * len(group.runs), compiling)


LAWS = [(1e-4, 6e-9), (6e-4, 8e-9), (1e-4, 4e-8), (1e-3, 1e-11), (1e-7, 1e-8)]


@pytest.mark.parametrize(("a", "b"), LAWS)
def test_timings_of_several_sizes_give_back_the_law_that_they_follow(a, b):
    costs = np.array([step_cost(group) for group in planned()])
    found = fit([(cost, a + b * cost) for cost in costs])
    np.testing.assert_allclose(found[0] + found[1] * costs, a + b * costs, rtol=0.08)
    if 2**-6 < a / b / TYPICAL < 2**6:
        np.testing.assert_allclose(found, (a, b), rtol=0.05)


def test_one_size_is_given_back_and_divided_as_is_typical():
    a, b = fit([(5120.0, 3e-4)])
    assert a + b * 5120 == pytest.approx(3e-4)
    assert a / b == pytest.approx(TYPICAL)


def test_noise_between_two_sizes_that_are_near_does_not_rule_those_that_are_far():
    a, b = 1e-4, 1e-4 / TYPICAL
    small, large, far = 1792.0, 5120.0, 212992.0
    for one, other in product((0.9, 1.1), repeat=2):
        found = fit([(small, one * (a + b * small)), (large, other * (a + b * large))])
        assert 0.4 < (found[0] + found[1] * far) / (a + b * far) < 2.5


@pytest.mark.parametrize(("a", "b"), LAWS[:3])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_time_left_of_a_sweep_from_small_to_large(a, b, noise):
    groups, compiling, random = planned(), 4.0, np.random.default_rng(0)
    measured, met, times = [], set(), []
    for group in groups:
        new = group.task.width not in met
        met.add(group.task.width)
        times.append(spent(group, a, b, compiling * new, np.exp(noise * random.standard_normal())))
    for done, (group, taken) in enumerate(zip(groups, times, strict=True), start=1):
        measured.append(timing(group, taken))
        left = predict(groups[done:], measured, ())
        real = sum(each.seconds + each.compiling for each in times[done:])
        estimate = sum(still_left(left, []))
        sizes = len({each.size for each in measured})
        if sizes == 1 or (noise and sizes == 2):
            assert real / 2 < estimate < 2 * real
        elif real:
            assert estimate == pytest.approx(real, rel=0.25), (done, sizes)


def test_compilation_is_added_once_for_each_size_that_is_not_known():
    groups = planned()
    first, *others = groups
    left = predict(others, [timing(first, spent(first, 1e-4, 6e-9, 3.0))], ())
    assert [each.compiling for each in left] == [0.0] + [3.0, 0.0] * (len(WIDTHS) - 1)
    alike = [replace(first, task=replace(first.task, base_width=8, gamma=2.0, alpha=1.0, parameterization="standard"))]
    assert predict(alike, [timing(first, spent(first, 1e-4, 6e-9, 3.0))], ())[0].compiling == 0.0


def test_the_programs_of_one_size_are_counted_together_where_several_workers_made_them():
    groups = planned()
    measured = [timing(group, spent(group, 1e-4, 6e-9, 2.0)) for group in groups[:2]]
    assert predict(groups[2:3], measured, ())[0].compiling == 4.0


def test_nothing_is_predicted_where_nothing_of_the_kind_is_known():
    groups = planned()
    assert predict(groups, [], []) is None
    measured = [timing(groups[0], spent(groups[0], 1e-4, 6e-9))]
    for other in ({"optimizer": "adam"}, {"batch_size": 7}, {"records": 33}, {"observables": ("train_loss",)}):
        assert predict(planned(**other), measured, []) is None
    assert predict(planned(gamma=2.0, steps=512, records=17), [], measured) is None  # 18 steps a record, not 28
    assert predict([], [], []) == ()


def test_a_group_that_was_stored_by_others_says_nothing():
    assert timing(planned()[0], NOTHING) is None
    assert timing(planned()[0], Spent(0, 0.01, 0.0)) is None


def test_runs_of_a_store_are_timed_by_the_median_and_those_of_this_call_go_first(tmp_path):
    sweep = experiment(widths=(4, 8), parameterizations=("mup",))
    run_with(FakeTrainer(), sweep, tmp_path)
    rows = read_rows(tmp_path)
    held = rows.groupby("width")["seconds"].cumcount() == 0
    timings = stored_timings(rows.assign(seconds=rows["width"] / 4.0 + 10 * held))
    groups = missing_groups(experiment(parameterizations=("ntk",)), read_rows(open_store(tmp_path / "other")))
    assert {each.size for each in timings} == {size_of(group.task) for group in groups}
    assert {each.size.width: (each.seconds * 8, each.compiling) for each in timings} == {4: (1, 10), 8: (2, 10)}
    assert {each.size.width: each.cost for each in timings} == {g.task.width: step_cost(g) for g in groups}
    left = predict(groups, [], timings)
    assert all(each.compiling == 0 for each in left)
    four = Timing(timings[0].size, timings[0].cost, 100.0, 0.0)
    assert predict(groups, [four], timings) == predict(groups, [four], [t for t in timings if t.size != four.size])
    wider = missing_groups(experiment(widths=(16,)), read_rows(open_store(tmp_path / "other")))
    assert [each.compiling for each in predict(wider, [], timings)] == [10.0, 0.0]


def test_runs_of_another_device_and_old_stores_say_nothing(tmp_path):
    run_with(FakeTrainer(), experiment(parameterizations=("mup",)), tmp_path)
    rows = read_rows(tmp_path)
    latest = rows["written"] == rows["written"].max()
    both = pd.concat([rows.assign(device="far", seconds=99.0, written="2000"), rows])
    assert latest.any()
    assert {each.seconds for each in stored_timings(both)} == {0.5 / 8}
    assert stored_timings(rows.drop(columns="seconds")) == []
    assert stored_timings(rows.iloc[:0]) == []


def test_groups_under_way_count_by_their_steps_and_workers_share_what_is_left():
    left = (Left("1", 40.0, 10.0), Left("2", 60.0, 5.0), Left("3", 100.0, 0.0))
    claims = [
        Claim("x", "a", "one", ("1", "9"), done=3, total=4),
        Claim("y", "a", "two", ("2",), done=0, total=4),
        Claim("z", "a", "another call's", ("7",), done=1, total=4),
    ]
    assert still_left(left, claims) == [10.0, 65.0, 100.0]
    session = Session("a", groups=4, groups_done=1, seconds_done=35.0, left=left)
    assert share_done(session, claims) == pytest.approx(1 - 175 / 250)
    assert time_left(session, claims[:2]) == ", about 100 s left"
    assert time_left(replace(session, workers=1), claims[:1]) == ", about 175 s left"
    assert time_left(replace(session, workers=8), claims) == ", about 100 s left"  # the longest group alone
    assert time_left(replace(session, left=None), claims) == ""
    assert share_done(replace(session, left=()), []) == 1


def test_the_session_of_a_sweep_says_what_is_left(tmp_path):
    groups = planned()[:4]
    log = SessionLog(open_store(tmp_path))
    log.plan(16, 0, groups, 2)
    assert log.session.left is None and log.session.workers == 2
    log.finish(groups[0], 1.0, spent(groups[0], 1e-4, 6e-9, 3.0))
    assert [each.first for each in log.session.left] == [group.first_id for group in groups[1:]]
    log.divide(groups[2], groups[2].parts(2))
    assert log.session.groups == 5 and len(log.session.left) == 4
    assert sum(each.compiling for each in log.session.left) == 3.0
    log.fail(groups[1], "an error")
    assert len(log.session.left) == 3
    (session,) = read_sessions(tmp_path)
    assert session == log.session and isinstance(session.left[0], Left)
    for part in (*groups[2].parts(2), groups[3]):
        log.finish(part, 1.0, spent(part, 1e-4, 6e-9))
    assert log.session.left == () and share_done(log.session, []) == 1


def test_what_a_worker_spent_reaches_the_session(tmp_path):
    run_with(FakeTrainer(), experiment(), tmp_path)
    (session,) = read_sessions(tmp_path)
    assert session.left == () and session.seconds_done >= 0.5 * 24
