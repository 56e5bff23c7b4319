"""Sweeps drawn from the seeds of a real one: what is drawn, and the truth about it."""

import numpy as np
import pandas as pd
import pytest

from sharplab.analysis.resampling import ResampledSweep


@pytest.fixture(scope="module")
def runs():
    """Six seeds at three widths, whose optima lie at ¼ octave per doubling and about it by 0.1 octave."""
    rng = np.random.default_rng(0)
    x = np.arange(-2, 3.5, 0.5)
    rows = []
    for width in (8, 16, 32):
        for seed in range(6):
            best = 0.25 * np.log2(width / 8) + 0.1 * rng.normal()
            losses = 1 + 0.1 * (x - best) ** 2
            rows.append(pd.DataFrame({"width": width, "learning_rate": 2.0**x, "seed": seed, "final_loss": losses}))
    return pd.concat(rows, ignore_index=True)


def test_a_draw_has_whole_curves_of_the_seeds_of_its_width(runs):
    drawn = ResampledSweep(runs, "final_loss", 4).records(np.random.default_rng(1)).runs
    assert (drawn.groupby("width")["seed"].nunique() == 4).all()
    for width, table in drawn.groupby("width"):
        real = runs[runs["width"] == width].pivot(index="learning_rate", columns="seed", values="final_loss")
        ours = table.pivot(index="learning_rate", columns="seed", values="final_loss")
        assert {tuple(curve) for curve in ours.to_numpy().T} <= {tuple(curve) for curve in real.to_numpy().T}


def test_the_truth_is_what_all_seeds_say(runs):
    truth = ResampledSweep(runs, "final_loss", 4).truth
    assert truth["shift"] == pytest.approx(0.25, abs=0.06)
    np.testing.assert_allclose(truth["optimum"], [0, 0.25, 0.5], atol=0.12)


@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.25])
def test_learning_rates_are_moved_to_the_true_shift(runs, shift):
    sweep = ResampledSweep(runs, "final_loss", 4, shift)
    assert sweep.truth["shift"] == pytest.approx(shift, abs=1e-6)
    widest = sweep.records(np.random.default_rng(0)).runs.query("width == 32")["learning_rate"].unique()
    assert len(widest) == 11
