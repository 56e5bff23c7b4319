"""Curves that agree, or do not, by construction."""

import numpy as np
import pandas as pd
import pytest

from sharplab.analysis import agreement
from sharplab.analysis.trend import Noise, pooled_noise, trend
from sharplab.records import Records


def curves(slope: float, noise: float, *, widths=(8, 16, 32), seeds=4, rng=None) -> Records:
    """Sharpness 2^(slope·log₂ width + step/100), each seed off by a constant of `noise` octaves."""
    rng = rng or np.random.default_rng(0)
    rows = []
    for width in widths:
        for seed in range(seeds):
            offset = noise * rng.normal()
            rows += [
                ("mup", width, 0.5, seed, step, 2.0 ** (slope * np.log2(width) + step / 100 + offset))
                for step in range(0, 101, 20)
            ]
    names = ["parameterization", "width", "learning_rate", "seed", "step", "sharpness"]
    table = pd.DataFrame(rows, columns=names)
    return Records(table.drop(columns=["step", "sharpness"]).drop_duplicates(), table)


def test_slope_and_spread_are_those_put_in():
    found = agreement(curves(0.3, 1e-6), "sharpness")["mup"]
    assert found.slope == pytest.approx(0.3, abs=1e-4)
    np.testing.assert_allclose(found.spread, np.std(0.3 * np.array([3, 4, 5]), ddof=1), rtol=1e-4)
    assert found.p_value < 1e-6
    assert found.final_slope == pytest.approx(0.3, abs=1e-4)


def test_the_slope_of_curves_that_differ_by_seeds_alone_is_covered_at_its_rate():
    rng = np.random.default_rng(1)
    hits, small = 0, 0
    for _ in range(100):
        found = agreement(curves(0.0, 0.2, rng=rng), "sharpness")["mup"]
        hits += found.slope_interval[0] <= 0 <= found.slope_interval[1]
        small += found.p_value < 0.05
    assert hits >= 87
    assert small <= 13


def test_diverged_and_negative_values_are_left_out_and_counted():
    records = curves(0.0, 0.1)
    assert records.curves is not None
    records.curves.loc[0, "sharpness"] = -1.0
    records.curves.loc[1, "sharpness"] = np.nan
    found = agreement(records, "sharpness")["mup"]
    assert found.left_out == 2
    assert np.isfinite(found.spread).all()


def test_several_learning_rates_or_no_curves_are_refused():
    records = curves(0.0, 0.1)
    assert records.curves is not None
    mixed = records.curves.assign(learning_rate=np.arange(len(records.curves)))
    with pytest.raises(ValueError, match="several learning rates"):
        agreement(Records(records.runs, mixed), "sharpness")
    with pytest.raises(ValueError, match="no curves of 'loss'"):
        agreement(records, "loss")


def test_a_trend_through_a_bent_line_is_not_known_better_than_the_bend():
    noises = [Noise(1e-6, 8)] * 4
    straight = trend([1, 2, 4, 8], [0, 1, 2, 3], noises)
    bent = trend([1, 2, 4, 8], [0, 2, 2, 3], noises)
    assert straight.slope == pytest.approx(1)
    assert bent.noise.variance > 1e3 * straight.noise.variance


def test_noise_is_pooled_within_groups_and_adds_as_welch_says():
    noise = pooled_noise([np.array([1.0, 3.0]), np.array([10.0, 10.0, 13.0])])
    assert (noise.variance, noise.df) == (pytest.approx(8 / 3), 3)
    total = Noise(1.0, 4) + Noise(1.0, 4)
    assert (total.variance, total.df) == (2.0, pytest.approx(8.0))
    assert Noise(1.0, 0).interval(0.0, 0.95) == (-np.inf, np.inf)


def test_two_curves_of_one_seed_are_refused_and_not_averaged():
    records = curves(0.0, 0.1)
    assert records.curves is not None
    twice = Records(records.runs, pd.concat([records.curves, records.curves]))
    with pytest.raises(ValueError, match="two curves of one width and seed"):
        agreement(twice, "sharpness")
    mixed = pd.concat([records.runs.assign(optimizer="sgd"), records.runs.assign(optimizer="adam")])
    with pytest.raises(ValueError, match="mix optimizer = adam, sgd"):
        agreement(Records(mixed, records.curves), "sharpness")


def test_a_seed_that_diverges_late_drops_out_of_the_late_average_alone():
    records = curves(0.0, 0.1)
    assert records.curves is not None
    table = records.curves
    diverged = (table["width"] == 8) & (table["seed"] == 0) & (table["step"] > 60)
    found = agreement(Records(records.runs, table.assign(sharpness=table["sharpness"].mask(diverged))), "sharpness")
    kept = table[~((table["width"] == 8) & (table["seed"] == 0))]
    expected = agreement(Records(records.runs, kept), "sharpness")["mup"]
    assert found["mup"].late_spread == pytest.approx(expected.late_spread)
    assert found["mup"].left_out == 2


def test_one_seed_gives_a_spread_but_no_noise():
    found = agreement(curves(0.3, 0.0, seeds=1), "sharpness")["mup"]
    assert found.late_spread == pytest.approx(0.3)
    assert np.isnan(found.late_noise) and np.isnan(found.p_value)
    assert found.slope_interval == (-np.inf, np.inf)


def test_a_size_without_positive_values_is_refused():
    records = curves(0.0, 0.1)
    assert records.curves is not None
    negative = records.curves.assign(sharpness=records.curves["sharpness"].mask(records.curves["width"] == 8, -1.0))
    with pytest.raises(ValueError, match="no step at which 'sharpness' is positive at every width"):
        agreement(Records(records.runs, negative), "sharpness")
