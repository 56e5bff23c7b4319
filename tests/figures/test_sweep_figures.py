"""The figures made of sweeps side by side: they run through, state what they show, and judge by their rules."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_figures import judged, script
from matplotlib.colors import to_hex

import sharplab as sl
from sharplab.plotting import log_ticks

slow = pytest.mark.slow
SIZES = {
    "adam": ("width", 2),
    "depth": ("depth", 3),
    "optimizers": ("width", 3),
    "gpt": ("width", 2),
    "depth-convnet": ("depth", 3),
    "depth-vit": ("depth", 1),
    "batch-size": ("width", 3),
    "augmentation": ("width", 2),
    "vit": ("width", 2),
    "loss-mse": ("width", 2),
    "parameterizations": ("width", 5),
    "decay": ("width", 2),
    "embedding": ("width", 3),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["adam", *(pytest.param(name, marks=slow) for name in list(SIZES)[1:])])
def test_figure_shows_every_run_and_states_every_column(name, tmp_path):
    size, columns = SIZES[name]
    finding = script(name).find("smoke", tmp_path / "runs")
    table = finding.table
    assert finding.verdict in ("holds", "fails", "inconclusive")
    assert table["column"].nunique() == columns
    sweep = table[table["part"] == "sweep"]
    assert not sweep.duplicated(["column", size, "learning_rate", "seed"]).any()
    assert (sweep.groupby("column")[size].nunique() == 2).all()
    trajectory = table[table["part"] == "course"]
    measured = trajectory.filter(regex="^sharpness(_raw)?$").max(axis=1)
    assert (measured[trajectory["step"] > 0] > 0).all()
    for title in table["column"].unique():
        stated = finding.numbers[title]
        assert math.isfinite(stated["shift_per_doubling"])
        assert set(stated["optimum"]) == {str(value) for value in sweep[size].unique()}
    drawn = [ax for ax in finding.figure.axes if ax.has_data()]
    assert len(drawn) == 2 * columns


def made_column(shared, depths):
    """A column of made-up runs: a valley at learning rate 1 at each depth, and one flat course."""
    cases = [(depth, rate, seed) for depth in depths for rate in (0.25, 0.5, 1.0, 2.0, 4.0) for seed in (0, 1)]
    runs = pd.DataFrame(cases, columns=["depth", "learning_rate", "seed"])
    loss = 1 + 0.1 * np.log2(runs["learning_rate"]) ** 2 + 0.01 * runs["seed"]
    runs = runs.assign(parameterization="mup", width=8, train_loss=loss, loss="cross_entropy", optimizer="sgd")
    finals = sl.Records(runs)
    (found,) = sl.transfer(finals, over="depth", metric="train_loss").values()
    courses = pd.concat([runs[runs["learning_rate"] == 1.0].assign(step=step, sharpness=1.0) for step in (0, 8)])
    return shared.Column(
        "made up", "depth", finals, "train_loss", found, sl.Records(runs, courses), 1.0, "sharpness", 2.0
    )


def test_a_colour_has_one_meaning_in_a_figure_whose_columns_have_other_sizes():
    shared = script("adam").shared
    figure = shared.draw([made_column(shared, (2, 4)), made_column(shared, (2, 4, 8))])
    meant = {line.get_label(): to_hex(line.get_color()) for line in figure.legends[0].get_lines()}
    assert list(meant) == ["depth 2", "depth 4", "depth 8"]
    few, many = ({to_hex(line.get_color()) for line in ax.get_lines()} for ax in (figure.axes[0], figure.axes[1]))
    assert set(meant.values()) <= many
    assert meant["depth 4"] in few and meant["depth 8"] not in few


@pytest.mark.parametrize(
    ("standard", "mup", "verdict"),
    [
        (judged("shifts", -1.0), judged("transfers"), "holds"),
        (judged("shifts", 1.0), judged("transfers"), "inconclusive"),
        (judged("shifts", -1.0), judged("shifts", 0.5), "fails"),
        (judged("transfers"), judged("transfers"), "fails"),
        (judged("inconclusive"), judged("transfers"), "inconclusive"),
        (judged("shifts", -1.0), judged("inconclusive"), "inconclusive"),
    ],
)
def test_rule_of_standard_against_mup(standard, mup, verdict):
    assert script("adam").shared.judge_contrast(standard, mup) == verdict


@pytest.mark.parametrize(
    ("plain", "half", "one", "verdict"),
    [
        (judged("shifts", -3.0), judged("transfers"), judged("transfers"), "holds"),
        (judged("shifts", -3.0), judged("transfers"), judged("inconclusive"), "inconclusive"),
        (judged("shifts", -3.0), judged("shifts", 0.5), judged("transfers"), "fails"),
        (judged("transfers"), judged("transfers"), judged("transfers"), "fails"),
    ],
)
def test_rule_of_depth(plain, half, one, verdict):
    assert script("depth").judge(plain, half, one) == verdict


def test_rule_of_layers_per_block():
    judge = script("depth-convnet").judge
    assert judge(judged("transfers"), judged("shifts"), judged("shifts")) == "holds"
    assert judge(judged("transfers"), judged("shifts"), judged("inconclusive")) == "inconclusive"
    assert judge(judged("transfers"), judged("shifts"), judged("transfers")) == "fails"
    assert judge(judged("shifts"), judged("shifts"), judged("shifts")) == "fails"
    judge = script("depth-vit").judge
    assert judge(judged("shifts")) == "holds"
    assert judge(judged("transfers")) == "fails"
    assert judge(judged("inconclusive")) == "inconclusive"


@pytest.mark.parametrize("limits", [(0.55, 1.1), (0.34, 0.46), (0.2, 30.0), (900.0, 1100.0)])
def test_a_logarithmic_axis_names_at_least_three_values(limits):
    figure, ax = plt.subplots()
    ax.set_ylim(*limits)
    log_ticks(ax)
    ax.set_ylim(*limits)
    named = [at for at in ax.yaxis.get_major_locator()() if limits[0] <= at <= limits[1]]
    plt.close(figure)
    assert 3 <= len(named) <= 10
