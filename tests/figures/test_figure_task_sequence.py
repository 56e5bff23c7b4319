"""The figure of tasks in sequence: its rule on made-up runs, and that it can be made."""

import json
import sys
import warnings

import jax
import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.gallery.finding import plain

script = load("task-sequence")
training = sys.modules["task_sequence_runs"]  # which the script imports from beside it


def scores(old, new):
    """What `told` finds: (area_low, area_high, less_rate_low, less_rate_high) of the two sharpnesses."""
    columns = ["area_low", "area_high", "less_rate_low", "less_rate_high"]
    return pd.DataFrame([old, new], columns=columns, index=list(script.SHARPNESSES))


GOOD, BELOW, BEHIND, OPEN = (0.85, 0.9, 0.1, 0.2), (0.6, 0.7, 0.1, 0.2), (0.85, 0.9, -0.2, -0.1), (0.7, 0.9, 0.1, 0.2)


def test_each_part_holds_fails_or_is_open():
    above, open_, below = Measured(0.2, 0.1, 0.3), Measured(0.1, 0.0, 0.2), Measured(0.01, -0.01, 0.04)
    assert [script.accumulates(gains) for gains in ([above, above], [above, open_], [above, below])] == [
        "holds",
        "inconclusive",
        "fails",
    ]
    assert [script.preserved(said) for said in ("transfers", "inconclusive", "shifts")] == [
        "holds",
        "inconclusive",
        "fails",
    ]
    assert script.tells(scores(GOOD, BELOW)) == "holds" == script.tells(scores(OPEN, GOOD))
    assert script.tells(scores(BELOW, BEHIND)) == "fails" and script.tells(scores(BELOW, OPEN)) == "inconclusive"


def test_the_claim_holds_where_all_parts_do():
    assert script.judge(["holds"] * 3, 8) == "holds" and script.judge(["holds"] * 3, 7) == "inconclusive"
    assert script.judge(["holds", "inconclusive", "fails"], 8) == "fails"
    assert script.judge(["holds", "inconclusive", "holds"], 8) == "inconclusive"


def test_what_was_put_into_runs_comes_out():
    rng = np.random.default_rng(0)
    rate, width, seed = (x.ravel() for x in np.meshgrid(2.0 ** np.arange(-7, -1.9, 0.5), [16, 32, 64], range(8)))
    off = np.log2(rate) + 5
    early, late = (1 + 0.1 * (off - at) ** 2 + 0.001 * rng.normal(size=len(rate)) for at in (-0.5, 0.5))
    runs = pd.DataFrame({"learning_rate": rate, "width": width, "seed": seed, "early_loss": early, "late_loss": late})
    accuracy = 0.7 - 0.05 * off**2 + 0.01 * rng.normal(size=len(rate))
    runs = runs.assign(late_accuracy=accuracy, gain=0.3, arm="plain")
    runs = pd.concat([runs, runs.assign(arm="plain, 4 epochs", late_accuracy=accuracy - 0.1)])
    shifts = {("plain", when, "loss"): script.best_rates(runs, "plain", when, "loss") for when in script.WHEN}
    assert script.shift_of(shifts["plain", "late", "loss"])["verdict"] == "transfers"
    for moved in script.drift(shifts, "plain").values():
        assert moved["low"] < 1 < moved["high"] and moved["value"] == pytest.approx(1, abs=0.1)
    assert (script.at_best(runs, "plain", 64)["learning_rate"] == 2.0**-5).all()
    assert script.less_four_epochs(runs, "plain", 64).value == pytest.approx(0.1)


def test_a_step_of_the_readout_moves_logits_as_far_at_every_width():
    x = np.random.default_rng(0).normal(size=(16, 196)).astype(np.float32)
    for width in (32, 128):
        first, hidden, readout = training.begin(width, 196, seed=0)
        units = training.model([first, hidden, np.eye(width)], x)  # the kernel is the sum of squares: base width × 1
        assert np.mean(np.sum(np.square(units), axis=1)) == pytest.approx(training.BASE, rel=0.15)
        assert np.std(readout) == pytest.approx(width**-0.5, rel=0.1)


def test_a_mask_leaves_the_logits_of_other_classes_alone():
    params, x = training.begin(8, 4, seed=1), np.ones((6, 4), np.float32)
    for masked in (True, False):
        slope = jax.grad(training.loss)(params, (x, np.arange(6) % 2, np.full(6, masked)))[2]
        assert np.any(slope[:, :2]) and np.any(slope[:, 2:]) != masked


@pytest.mark.long
def test_it_is_made(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        finding = script.find("smoke", tmp_path)
    curves = finding.table
    assert finding.verdict == "inconclusive" and set(curves["part"]) == set(script.ARMS)
    assert curves["accuracy"].between(0, 1).all() and curves["step"].max() == 8 * 4
    json.dumps(plain(finding.numbers))
