"""The figure of AutoLRS: steps to a target, its rule, and that it can be made."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.gallery.finding import plain

script = load("autolrs")
STEPS = np.arange(0, 101, 10)


def made_up(faster):
    """Runs of three seeds that fall linearly to 0, and one of AutoLRS so many times as fast."""
    curves, stages = [], []
    for seed in range(3):
        for name, speed in (("constant", 1.0), ("cosine", 1.0), ("AutoLRS", faster * (1 + seed / 100))):
            losses = np.maximum(1 - speed * STEPS / 100, 0.1)
            curves.append(pd.DataFrame({"seed": seed, "schedule": name, "step": STEPS, "train_loss": losses}))
        stages += [{"seed": seed, "first": first, "search_steps": 50} for first in (0, 50)]
    return pd.concat(curves), pd.DataFrame(stages)


@pytest.mark.parametrize(("faster", "verdict"), [(1.5, "holds"), (0.7, "fails")])
def test_speed_ups_are_those_that_were_put_in(faster, verdict):
    found = script.speed_ups(*made_up(faster))
    for name in script.SCHEDULES:
        gain = found[name, False]
        # Of a slower run the last loss is the target, which it reaches at its end.
        assert gain.value == pytest.approx(faster * 1.01, rel=0.02)
        assert gain.low <= gain.value <= gain.high
    assert found["constant", True].value < 0.6 * faster
    assert script.judge([gain for (_, counted), gain in found.items() if not counted]) == verdict


def test_rule():
    above, across, below = Measured(1.2, 1.1, 1.3), Measured(1.1, 0.9, 1.3), Measured(0.8, 0.7, 0.9)
    assert script.judge([above, above]) == "holds"
    assert script.judge([above, across]) == "inconclusive"
    assert script.judge([across, below]) == "fails"
    assert script.judge([Measured(2.0, 0.0, math.inf)]) == "inconclusive"


def test_a_search_that_ends_above_its_start_fails():
    curves, stages = made_up(1.5)
    curves.loc[(curves["schedule"] == "AutoLRS") & (curves["seed"] == 1) & (curves["step"] == 100), "train_loss"] = (
        math.nan
    )
    gain = script.speed_ups(curves, stages)["cosine", False]
    assert gain.value == 0
    assert script.judge([gain]) == "fails"


def test_steps_to_a_target_lie_on_the_line_between_records():
    run = pd.DataFrame({"step": [0, 10, 20], "train_loss": [1.0, 0.5, 0.1]})
    assert script.steps_to(run, 0.75) == 5
    assert script.steps_to(run, 0.3) == 15
    assert script.steps_to(run, 1.0) == 0
    assert script.steps_to(run, 0.05) == math.inf


@pytest.mark.long
def test_it_is_made_with_all_schedules_at_the_same_steps(tmp_path):
    finding = script.find("smoke", tmp_path)
    curves = finding.table[finding.table["part"] == "curves"]
    assert set(curves["schedule"]) == {"constant", "cosine", "AutoLRS"}
    starts = curves[curves["step"] == 0].groupby("seed")["train_loss"]
    assert (starts.max() - starts.min() < 1e-5).all()  # one start for all schedules of a seed
    assert (curves.groupby(["schedule", "seed"]).size() == 11).all()
    stages = finding.table[finding.table["part"] == "stages"]
    assert stages["search_steps"].sum() == 2 * 60
    assert set(finding.numbers) == {"MLP"}
    json.dumps(plain(finding.numbers))
