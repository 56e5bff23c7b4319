"""Curves that are consistent, or drift apart, by construction."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from sharplab.analysis.consistent import consistency
from sharplab.records import Records

STEPS = np.arange(0, 101, 20)
WIDTHS = (8, 16, 32)


def records(octaves: np.ndarray, *, widths=WIDTHS, steps=STEPS) -> Records:
    """Curves of sharpness whose log₂ is (widths, seeds, T)."""
    width, seed, step = np.meshgrid(widths, np.arange(octaves.shape[1]), steps, indexing="ij")
    keys = {"width": width.ravel(), "seed": seed.ravel()}
    table = pd.DataFrame(keys | {"parameterization": "mup", "learning_rate": 0.5})
    curves = table.assign(step=step.ravel(), sharpness=2.0 ** octaves.ravel())
    return Records(table.drop_duplicates(), curves)


def curves(slope: float, noise: float, *, widths=WIDTHS, seeds=4, growth=0.0, rng=None) -> Records:
    """Log₂ sharpness slope·log₂ width + step/100, and `growth` of slope more in the second half, each seed off."""
    rng = rng or np.random.default_rng(0)
    doublings = np.log2(widths)[:, None, None]
    gained = growth * doublings * (STEPS >= 50)
    offset = noise * rng.normal(size=(len(widths), seeds, 1))
    return records(slope * doublings + STEPS / 100 + gained + offset, widths=widths)


def mup(*arguments, **options):
    return consistency(*arguments, **options)["mup"]


def verdicts(draw, cases, **options):
    return Counter(mup(draw(), "sharpness", **options).verdict for _ in range(cases))


def covers(interval, truth):
    return interval[0] <= truth <= interval[1]


def test_slope_growth_and_spread_are_those_put_in():
    found = mup(curves(0.3, 1e-6, growth=0.2), "sharpness")
    assert found.slope == pytest.approx(0.5, abs=1e-4)
    assert found.growth == pytest.approx(0.2, abs=1e-4)
    assert found.final_slope == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_allclose(found.spread[:3], np.std(0.3 * np.array([3, 4, 5]), ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found.spread[3:], np.std(0.5 * np.array([3, 4, 5]), ddof=1), rtol=1e-4)
    assert found.p_value < 1e-6
    assert found.verdict == "finite-size effects"


def test_slopes_of_curves_that_differ_by_seeds_alone_are_covered_at_their_rate():
    rng = np.random.default_rng(1)
    hits, growths, small = 0, 0, 0
    for _ in range(120):
        walk = 0.1 * np.cumsum(rng.normal(size=(3, 4, len(STEPS))), axis=2)
        found = mup(records(walk), "sharpness")
        hits += covers(found.slope_interval, 0)
        growths += covers(found.growth_interval, 0)
        small += found.p_value < 0.05
    # 95 % and 5 %, within three standard deviations; scatter about the line may widen intervals.
    assert hits >= 107 and growths >= 107
    assert small <= 13


def test_little_seed_noise_alone_is_super_consistent():
    rng = np.random.default_rng(2)
    found = verdicts(lambda: curves(0.0, 0.02, rng=rng), 60)
    assert found["super consistent"] >= 57
    assert not found["finite-size effects"]


@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_seed_noise_alone_passes_for_finite_size_effects_at_most_at_the_stated_rate(noise):
    rng = np.random.default_rng(3)
    # A tolerance far below the noise, where the rate is the highest.
    found = verdicts(lambda: curves(0.0, noise, rng=rng), 100, tolerance=1e-6)
    assert found["finite-size effects"] <= 100 * 0.1 + 3 * np.sqrt(100 * 0.1 * 0.9)


def test_a_slope_at_the_tolerance_passes_for_consistent_in_half_of_the_stated_rate():
    rng = np.random.default_rng(4)
    found = verdicts(lambda: curves(0.1, 0.02, rng=rng), 120)
    assert found["super consistent"] <= 120 * 0.025 + 3 * np.sqrt(120 * 0.025)
    assert found["finite-size effects"] <= 120 * 0.025 + 3 * np.sqrt(120 * 0.025)


@pytest.mark.parametrize(("slope", "growth"), [(0.3, 0.0), (-0.3, 0.0), (-0.3, 0.3)])
def test_a_known_drift_is_a_finite_size_effect(slope, growth):
    rng = np.random.default_rng(5)
    # The last drifts at first and agrees late: its growth tells.
    found = verdicts(lambda: curves(slope, 0.05, growth=growth, rng=rng), 20)
    assert found["finite-size effects"] >= 18  # where sizes scatter by chance, their slope counts as hardly known


def test_one_seed_one_size_or_two_records_are_inconclusive():
    assert mup(curves(0.0, 0.02, seeds=1), "sharpness").verdict == "inconclusive"
    assert mup(curves(0.0, 0.02, widths=(8,)), "sharpness").verdict == "inconclusive"
    few = curves(0.0, 0.02)
    ends = Records(few.runs, few.curves[few.curves["step"].isin([0, 100])])
    assert mup(ends, "sharpness").verdict == "inconclusive"


def test_two_noisy_seeds_are_inconclusive():
    rng = np.random.default_rng(6)
    found = verdicts(lambda: curves(0.0, 0.3, seeds=2, rng=rng), 50)
    assert found["inconclusive"] >= 45


def converging(rng, *, exponent=-1.0, growth=1.0, noise=0.0, seeds=4, widths=(8, 16, 32, 64)):
    """q = 1 + t^growth · N^exponent, each run off by noise that its records share, and another that they do not."""
    width = np.array(widths)[:, None, None]
    t = np.arange(0, 65, 4)
    shape = (len(widths), seeds, len(t))
    clean = 1 + 0.05 * t**growth * width**exponent
    noisy = clean * (1 + noise * rng.normal(size=(*shape[:2], 1)) + noise * rng.normal(size=shape))
    return records(np.log2(noisy), widths=widths, steps=t)


def test_laws_of_the_gap_in_size_and_time_are_those_put_in():
    found = mup(converging(np.random.default_rng(0), exponent=-1.0, growth=0.8), "sharpness")
    for part in ("early", "middle", "late"):
        exponent, _ = found.gaps.limit_exponents[part]
        assert exponent == pytest.approx(-1.0, abs=0.01)
        assert found.gaps.in_size[part].exponent < -1.0
    for size in (8, 16, 32, "all"):
        assert found.gaps.in_time[size].exponent == pytest.approx(0.8, abs=0.01)
        assert found.gaps.in_time[size].r_squared > 0.999
    t = found.steps[1:]
    np.testing.assert_allclose(found.gaps.mean[0, 1:], 0.05 * t**0.8 * (1 / 8 - 1 / 64), rtol=1e-6)
    np.testing.assert_allclose(found.gaps.in_time[8].predict(t), found.gaps.mean[0, 1:], rtol=0.05)
    ratio = np.log2((1 + 0.05 * t**0.8 / 8) / (1 + 0.05 * t**0.8 / 64))
    np.testing.assert_allclose(found.relative_gaps.mean[0, 1:], ratio, rtol=1e-6)


def test_exponents_are_covered_at_their_rate_under_seed_noise():
    rng = np.random.default_rng(7)
    late, growth, narrow = 0, 0, 0
    for _ in range(120):
        found = mup(converging(rng, noise=0.01), "sharpness")
        late += covers(found.gaps.limit_exponents["late"][1], -1.0)
        growth += covers(found.gaps.in_time["all"].exponent_interval, 1.0)
        narrow += found.gaps.in_time["all"].exponent_interval[1] < 1.5
    assert 107 <= late < 120 and 107 <= growth < 120
    assert narrow > 80  # it is not by being wide that they cover


def test_pairing_drops_what_the_sizes_of_a_seed_share():
    rng = np.random.default_rng(8)
    shared = 0.5 * rng.normal(size=(1, 4, 6))
    found = mup(records(np.log2(WIDTHS)[:, None, None] * 0.2 + shared), "sharpness")
    np.testing.assert_allclose(found.relative_gaps.stderr, 0, atol=1e-9)
    np.testing.assert_allclose(found.relative_gaps.mean, np.outer([-0.4, -0.2], np.ones(6)), rtol=1e-9)


def test_the_table_and_the_text_have_every_law():
    found = mup(converging(np.random.default_rng(0), noise=0.01), "sharpness")
    table = found.table()
    assert len(table) == 2 * (3 + 4)
    assert set(table["gap"]) == {"absolute", "relative"}
    assert str(found).count("gap,") == len(table)


def test_diverged_and_negative_values_are_left_out_and_counted():
    bad = curves(0.0, 0.1)
    bad.curves.loc[0, "sharpness"] = -1.0
    bad.curves.loc[1, "sharpness"] = np.nan
    found = mup(bad, "sharpness")
    assert found.left_out == 2
    assert np.isfinite(found.spread).all()
    assert found.gaps.seeds == 3  # that seed's gaps lack records


def test_a_record_that_one_seed_has_alone_drops_no_other():
    given = curves(0.05, 0.02)
    further = given.curves[(given.curves["seed"] == 0) & (given.curves["step"] == 100)].assign(step=103)
    found = mup(Records(given.runs, pd.concat([given.curves, further])), "sharpness")
    assert found.seeds == (4, 4, 4) and found.left_out == 0
    assert found.slopes == mup(given, "sharpness").slopes
    lacks = given.curves.drop(given.curves.query("width == 8 and seed == 1 and step == 80").index)
    found = mup(Records(given.runs, lacks), "sharpness")
    assert found.seeds == (3, 4, 4) and found.left_out == 1 and "1 records" in str(found)


def test_a_seed_that_diverges_late_drops_out_of_the_late_average_alone():
    sound = curves(0.0, 0.1)
    table = sound.curves
    diverged = (table["width"] == 8) & (table["seed"] == 0) & (table["step"] > 60)
    found = mup(Records(sound.runs, table.assign(sharpness=table["sharpness"].mask(diverged))), "sharpness")
    kept = table[~((table["width"] == 8) & (table["seed"] == 0))]
    assert found.late_spread == pytest.approx(mup(Records(sound.runs, kept), "sharpness").late_spread)
    assert found.left_out == 2


def test_one_seed_gives_a_spread_but_no_noise():
    found = mup(curves(0.3, 0.0, seeds=1), "sharpness")
    assert found.late_spread == pytest.approx(0.3)
    assert np.isnan(found.late_noise) and np.isnan(found.p_value)
    assert found.slope_interval == (-np.inf, np.inf)


def test_what_does_not_compare_is_refused():
    sound = curves(0.0, 0.1)
    mixed = sound.curves.assign(learning_rate=np.arange(len(sound.curves)))
    with pytest.raises(ValueError, match=r"mup .*select\(learning_rate="):
        consistency(Records(sound.runs, mixed), "sharpness")
    with pytest.raises(ValueError, match="'loss'"):
        consistency(sound, "loss")
    with pytest.raises(ValueError, match=r"mup .*width and seed"):
        consistency(Records(sound.runs, pd.concat([sound.curves, sound.curves])), "sharpness")
    optimizers = pd.concat([sound.runs.assign(optimizer="sgd"), sound.runs.assign(optimizer="adam")])
    with pytest.raises(ValueError, match="optimizer = adam, sgd"):
        consistency(Records(optimizers, sound.curves), "sharpness")
    negative = sound.curves.assign(sharpness=sound.curves["sharpness"].mask(sound.curves["width"] == 8, -1.0))
    with pytest.raises(ValueError, match=r"'sharpness' .*width"):
        consistency(Records(sound.runs, negative), "sharpness")
    with pytest.raises(ValueError, match=r"tolerance .*0.0"):
        consistency(sound, "sharpness", tolerance=0.0)
    with pytest.raises(ValueError, match="column 'size'"):
        consistency(sound, "sharpness", over="size")


def test_a_learning_rate_that_was_rounded_for_some_seeds_is_one():
    drawn = curves(0.3, 0.01)
    rounded = drawn.curves.assign(learning_rate=np.where(drawn.curves["seed"] == 0, float(np.float32(0.1)), 0.1))
    with pytest.warns(UserWarning, match="learning_rate"):
        found = mup(Records(drawn.runs, rounded), "sharpness")
    assert found.slope_interval == mup(drawn, "sharpness").slope_interval


@pytest.mark.parametrize("slope", [0.0, 0.06, 0.2])
def test_what_is_wanted_is_about_what_decides(slope):
    """With the seeds that four ask for, about half of such curves are decided; those decided at once want nothing."""

    def found(seeds, draw):
        rng = np.random.default_rng([draw, seeds])
        width, seed, step = (a.ravel() for a in np.meshgrid([16, 32, 64, 128], range(seeds), range(0, 65, 8)))
        of_run = 0.15 * rng.normal(size=(4, seeds))[np.log2(width / 16).astype(int), seed]
        octaves = slope * np.log2(width / 16) + of_run + 0.05 * rng.normal(size=step.size)
        keys = {"width": width, "seed": seed, "learning_rate": 0.5}
        curves = pd.DataFrame(keys | {"step": step, "sharpness": 2.0**octaves})
        return consistency(Records(pd.DataFrame(keys).drop_duplicates(), curves), "sharpness")["runs"]

    decided = []
    for draw in range(16):
        first = found(4, draw)
        assert (first.wanted is None) == (first.verdict != "inconclusive")
        if first.wanted is not None and first.wanted.seeds is not None:
            decided.append(found(first.wanted.seeds[0], draw).verdict != "inconclusive")
    assert np.mean(decided) > 0.25
