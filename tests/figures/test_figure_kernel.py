"""The figure of the infinitely wide kernel: its predictions begin where the runs do, and its rule."""

import math

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

script = load("kernel")
OPEN = (-math.inf, math.inf)


@pytest.fixture(scope="module")
def finding(tmp_path_factory):
    return script.find("smoke", tmp_path_factory.mktemp("runs"))


@pytest.mark.long
def test_predictions_begin_at_the_outputs_of_each_run_and_stay_near(finding):
    trajectory = finding.table
    assert len(trajectory) == 2 * 2 * 2 * 3  # widths, learning rates, seeds, records
    assert finding.verdict in ("holds", "fails", "inconclusive")
    first, last = (trajectory[trajectory["step"] == step] for step in (0, trajectory["step"].max()))
    for name in ("train_loss", "eval_loss"):
        assert np.allclose(first[name], first[f"{name}_predicted"], rtol=1e-5)
        wide = last[last["width"] == last["width"].max()]
        # Training moves the loss by more than the prediction misses it.
        moved = np.abs(wide[name].to_numpy() - first[first["width"] == wide["width"].max()][name].to_numpy())
        assert (np.abs(wide[name] - wide[f"{name}_predicted"]) < moved).all()
    assert trajectory["ntk_1_predicted"].nunique() == 1


@pytest.mark.long
def test_numbers_can_be_recomputed_from_the_table(finding):
    trained = finding.table[finding.table["step"] > 0]
    gap = np.log2(trained["eval_loss"] / trained["eval_loss_predicted"]).abs()
    means = gap.groupby([trained["learning_rate"], trained["width"]]).mean()
    for rate in (0.25, 1.0):
        stated = finding.numbers[f"learning_rate_{rate:g}"]["loss_gap"]["octaves_by_width"]
        assert np.allclose([stated["16"], stated["64"]], means[rate], rtol=1e-6)


def test_gaps_of_a_run_are_those_of_the_rule():
    trajectory = pd.DataFrame(
        {
            "learning_rate": 1.0,
            "width": 8,
            "seed": 0,
            "step": [4, 0, 2],  # in no order
            "eval_loss": [1.0, 9.0, 4.0],
            "eval_loss_predicted": [2.0, 1.0, 2.0],
            "ntk_1": [0.5, 4.0, 1.0],
            "ntk_1_predicted": 1.0,
        }
    )
    (run,) = script.gaps_of(trajectory).to_dict("records")
    assert (run["loss_gap"], run["eigenvalue_gap"], run["eigenvalue_move"]) == (1.0, 2.0, 3.0)


def test_slope_of_an_exact_power_law_and_of_a_diverged_run():
    widths, seeds = (8, 16, 32, 64), range(3)
    table = pd.DataFrame([{"width": w, "seed": s, "loss_gap": (1 + s / 10) * w**-0.5} for w in widths for s in seeds])
    slope, (low, high) = script.slope_of(table, "loss_gap")
    assert slope == pytest.approx(-0.5)
    assert low < -0.5 < high < -0.25
    table.loc[0, "loss_gap"] = np.nan
    assert script.slope_of(table, "loss_gap")[1] == OPEN


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ([(-0.6, -0.4), (-0.9, -0.3)], "holds"),
        ([(-0.6, -0.4), (-0.9, -0.2)], "inconclusive"),
        ([(-0.6, -0.4), (-0.2, 0.1)], "fails"),
        ([(-0.6, -0.4), OPEN], "inconclusive"),
    ],
)
def test_rule(intervals, verdict):
    assert script.judge(intervals) == verdict
