"""The figure of the spectral learner: its speed-ups, its rule, and that it can be made."""

import json

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.gallery.finding import plain

script = load("spectral-learner")
HEAVY_BALL = script.TUNED["momentum"]
STEPS = np.arange(0, 101, 10)


def made_up(cost, last=0.0):
    """Two learners that fall alike per step, of which the judged one's steps cost so many evaluations."""
    tables = []
    for seed in range(3):
        for name, each in ((HEAVY_BALL, 1.0), (script.JUDGED, cost * (1 + seed / 100))):
            losses = 1 - STEPS / 100 + (last * (STEPS == 100) if name == script.JUDGED else 0)
            tables.append(
                pd.DataFrame(
                    {"learner": name, "seed": seed, "step": STEPS, "evaluations": each * STEPS, "train_loss": losses}
                )
            )
    return pd.concat(tables)


@pytest.mark.parametrize(("cost", "verdict"), [(2.0, "fails"), (0.5, "holds")])
def test_speed_ups_count_what_spectra_cost(cost, verdict):
    gain = script.speed_up(made_up(cost), script.JUDGED, HEAVY_BALL)
    assert gain.value == pytest.approx(1 / cost / 1.01, rel=1e-3)
    assert script.judge(gain) == verdict


def test_rule():
    assert script.judge(Measured(1.1, 0.9, 1.3)) == "inconclusive"
    diverged = script.speed_up(made_up(0.5, last=9.0), script.JUDGED, HEAVY_BALL)
    assert diverged.value == 0
    assert script.judge(diverged) == "fails"


@pytest.mark.long
def test_it_is_made_and_counts_evaluations(tmp_path):
    finding = script.find("smoke", tmp_path)
    own = finding.table[finding.table["learner"] == script.JUDGED]
    # Of 16 steps two begin with 4 products, of two gradients each.
    assert own[own["step"] == 16]["evaluations"].tolist() == [16 + 2 * 2 * 4] * 2
    starts = finding.table[finding.table["step"] == 0].groupby("seed")["train_loss"]
    assert (starts.max() - starts.min() < 1e-5).all()
    assert set(finding.numbers["last_loss"]) == set(script.COLOURS)
    json.dumps(plain(finding.numbers))
