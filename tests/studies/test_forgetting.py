"""Forgetting and accumulation on made-up runs whose answers are known."""

import numpy as np
import pandas as pd
import pytest

import sharplab as sl
from sharplab.studies.forgetting import accumulation, records_after, slopes, told
from sharplab.studies.task_sequence import TaskRuns

RNG = np.random.default_rng(0)


def switches(seeds=8, many=20):
    """Switches where the slope makes forgetting, sharpness is noise, and higher rates forget a little more."""
    rate, seed = np.tile([0.1, 0.2, 0.4], seeds * many), np.repeat(np.arange(seeds), 3 * many)
    slope = RNG.normal(size=len(rate)) + rate
    return pd.DataFrame(
        {
            "learning_rate": rate,
            "seed": seed,
            "shared": RNG.integers(2, size=len(rate)),
            "slope": slope,
            "old_over_threshold": RNG.normal(size=len(rate)),
            "old_loss": 1.0,
            "old_loss_after": 1 + np.exp(slope),
            "old_accuracy": 0.8,
            "old_accuracy_after": np.where(slope > 0.3, 0.3, 0.7),
        }
    )


def test_what_makes_forgetting_tells_it_and_noise_does_not():
    found = told(switches(), ["slope", "old_over_threshold", "learning_rate"])
    slope, noise = found.loc["slope"], found.loc["old_over_threshold"]
    assert slope["area"] == slope["area_low"] == 1 and slope["less_rate_low"] > 0.3
    assert slope["within"] == pytest.approx(1) and noise["area_low"] < 0.5 < noise["area_high"]
    assert noise["within_low"] < 0 < noise["within_high"] and noise["less_rate_high"] < slope["less_rate_low"]
    assert np.isnan(found.loc["learning_rate", "within"])  # which all switches of a cell share
    told_by_less = told(switches(), ["slope"], lost=0.9)
    assert np.isnan(told_by_less.loc["slope", "area"])  # nothing loses as much


def test_runs_that_had_diverged_are_left_out_and_scores_that_overflow_are_the_largest():
    table = switches()
    gone = table.assign(old_loss=np.inf, slope=-99.0)
    over = table.assign(slope=table["slope"].where(table["slope"] < 2))
    pd.testing.assert_frame_equal(told(pd.concat([table, gone]), ["slope"]), told(table, ["slope"]))
    assert told(over, ["slope"]).loc["slope", "area"] == 1
    with pytest.raises(ValueError, match="switches"):
        told(gone, ["slope"])
    with pytest.raises(ValueError, match="switches must have the columns over_critical"):
        told(table, ["over_critical"])


def test_runs_that_diverge_in_the_switch_have_forgotten():
    table = switches()
    lost = table["slope"] > 0.3
    nan = table.assign(
        old_accuracy_after=table["old_accuracy_after"].where(~lost), old_loss_after=table["old_loss_after"].where(~lost)
    )
    zero = table.assign(
        old_accuracy_after=table["old_accuracy_after"].where(~lost, 0.0),
        old_loss_after=table["old_loss_after"].where(~lost, np.inf),
    )
    assert told(nan, ["slope"]).loc["slope", "area"] == 1
    pd.testing.assert_frame_equal(told(nan, ["slope"]), told(zero, ["slope"]))


def test_slopes_are_of_least_squares_after_the_first_task():
    accuracy = np.concatenate([np.full((5, 1), 9.0), RNG.random((5, 7))], axis=1)
    expected = [np.polyfit(np.arange(1, 8), each[1:], 1)[0] for each in accuracy]
    assert np.allclose(slopes(accuracy), expected)
    found = accumulation(accuracy)
    assert found.low < found.value == pytest.approx(np.mean(expected))
    alone = accumulation(accuracy[:1])
    assert (alone.low, alone.high) == (-np.inf, np.inf)


def made_runs(best):
    """Runs whose loss on all classes is a parabola about a best rate, which grows from task to task."""
    rates, seeds, tasks = 2.0 ** (np.arange(-6, 9) / 2), 6, 4
    at = np.log2(rates)[:, None, None, None] - np.log2(best) - np.arange(tasks + 1)[:, None] / 4
    losses = 1 + 0.1 * at**2 + 0.002 * RNG.normal(size=(len(rates), seeds, tasks + 1, 3))
    present = np.tile(np.array([True, True, False]), (seeds, tasks, 1))
    return TaskRuns(rates, present, losses, np.exp(-losses), pd.DataFrame(), None)


def test_records_tell_where_the_best_rate_lies_at_some_tasks():
    runs = {width: made_runs(1.0) for width in (8, 16, 32)}
    early, late = records_after(runs, 1, 1), records_after(runs, 3, 4)
    for records, best in ((early, 2**0.25), (late, 2 ** (3.5 / 4))):
        (found,) = sl.transfer(records).values()
        assert found.verdict == "transfers" and np.allclose(np.log2(found.optimum), np.log2(best), atol=0.1)
    first = runs[8]
    row = early.runs.iloc[0]
    assert row["eval_loss"] == pytest.approx(first.losses[0, 0, 1].mean())
    assert row["current_loss"] == pytest.approx(first.losses[0, 0, 1, :2].mean())
    assert row["eval_accuracy"] == pytest.approx(first.accuracies[0, 0, 1].mean())
    with pytest.raises(ValueError, match="first and last"):
        records_after(runs, 3, 5)
