"""What a sweep is said to take."""

import dataclasses

import jax
import pytest
from fake_training import experiment

from sharplab.sweep import estimate as estimating
from sharplab.sweep import timing
from sharplab.sweep.estimate import estimate
from sharplab.sweep.plan import Group, tasks
from sharplab.sweep.timing import Measured, measure
from sharplab.training.task import Run

MEASURED = Measured(
    runs=2,
    devices=2,
    compile_seconds=7.0,
    begin_seconds=1.0,
    step_seconds=0.5,
    first_record_seconds=3.0,
    record_seconds=2.0,
    bytes=100,
)


def groups(runs: int = 3, **changes: object) -> list[Group]:
    return [Group(task, tuple(Run(0.1, seed) for seed in range(runs))) for task in tasks(experiment(**changes))]


@pytest.fixture
def measured(monkeypatch):
    """The groups that are measured, each said to take the same."""
    seen = []

    def say(group):
        seen.append(group)
        return MEASURED

    monkeypatch.setattr(estimating, "measure", say)
    return seen


def test_runs_come_in_companies_and_records_after_steps(measured):
    (group,) = groups(widths=4, parameterizations="mup")  # 8 steps, 3 records
    found = estimate([group])
    (taken,) = found.groups
    assert taken.seconds == 2 * (1.0 + 8 * 0.5 + 3.0 + 2 * 2.0)  # two runs at a time: two run batches
    assert found.seconds == taken.seconds + 7.0
    assert found.bytes == 2 * 100


def test_workers_share_the_time_and_each_has_the_memory(measured):
    few, many = (estimate(groups(runs=40), workers=workers) for workers in (1, 8))
    assert few.seconds == pytest.approx(8 * many.seconds)
    assert few.compile_seconds == pytest.approx(8 * many.compile_seconds)
    assert many.bytes == 8 * few.bytes
    # Two workers with one device are as fast as this process with two, while programs are not compiled.
    two, here = (estimate(groups(runs=40), workers=workers) for workers in (2, None))
    assert two.groups == here.groups


def test_a_shape_is_measured_once_and_each_program_compiled(measured):
    found = estimate(groups(parameterizations=("mup", "ntk")) + groups(parameterizations="mup", steps=16, gamma=2.0))
    assert [group.task.width for group in measured] == [4, 8]
    assert found.compile_seconds == 6 * 7.0


@pytest.mark.parametrize(
    "changes", [{"widths": 16}, {"depths": 3}, {"batch_size": 32}, {"observables": "train_loss"}, {"optimizer": "adam"}]
)
def test_another_shape_is_measured_anew(measured, changes):
    estimate(
        [*groups(widths=4, parameterizations="mup"), *groups(**{"widths": 4, "parameterizations": "mup"} | changes)]
    )
    assert len(measured) == 2


def test_nothing_takes_no_time(measured):
    found = estimate([])
    assert (found.seconds, found.bytes, found.groups, measured) == (0.0, 0, (), [])


def test_no_workers_are_refused(measured):
    with pytest.raises(ValueError, match=r"workers.* 0"):
        estimate(groups(), workers=0)


def test_a_long_measurement_says_what_it_is_at_and_a_short_one_nothing(measured, monkeypatch, capsys):
    estimate(groups())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(estimating, "QUIET_SECONDS", 0.0)
    estimate(groups())
    assert "measuring shape 2 of 2: residual_mlp width 8 depth 2" in capsys.readouterr().err


@pytest.fixture(scope="module")
def quick_measured():
    """A small network's own figures, with spectra, so small that compiling is all there is."""
    settings = {"widths": 4, "parameterizations": "mup", "observables": ("train_loss", "sharpness"), "probe_size": 64}
    (group,) = groups(**settings)
    jax.clear_caches()  # what another module's tests have compiled takes no time again
    return group, measure(group)


@pytest.mark.long
def test_a_real_shape_has_positive_figures(quick_measured):
    _, found = quick_measured
    assert found.runs == found.devices == len(jax.local_devices())
    for name in ("compile_seconds", "begin_seconds", "step_seconds", "first_record_seconds", "record_seconds"):
        assert 0 < getattr(found, name) < 60, name
    assert found.compile_seconds > found.step_seconds


@pytest.mark.long
def test_memory_counts_the_data_and_grows_with_the_network(quick_measured):
    group, small = quick_measured
    data = (1024 + 64 + 256) * (16 * 4 + 4)  # training, probe and held-out examples, with their targets
    wider = dataclasses.replace(group.task, width=128, observables=("train_loss",))
    assert data < small.bytes < 3 * data
    assert measure(Group(wider, group.runs)).bytes > small.bytes + 128 * 128 * 4


@pytest.mark.long
def test_steps_of_runs_that_diverge_are_timed_without_moving(quick_measured, monkeypatch):
    group, _ = quick_measured
    task = dataclasses.replace(group.task, observables=("train_loss",))
    rates, time_steps = [], timing._time_steps

    def note(run_batch, state, tried):
        rates.append(float(tried[0]))
        return time_steps(run_batch, state, tried)

    monkeypatch.setattr(timing, "_time_steps", note)
    measure(Group(task, (Run(0.25, 0),)))
    measure(Group(task, (Run(2.0**100, 0),)))
    assert rates == [0.25, 2.0**100, 0.0]
