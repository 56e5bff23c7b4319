"""Gaps of known laws, under noise of either sign."""

import numpy as np
import pytest

from sharplab.analysis.gap_laws import gap_law, limit_exponent

SIZES = np.array([8.0, 16.0, 32.0, 64.0])
LARGEST = 256.0
STEPS = np.arange(16.0, 257.0, 16.0)


def size_curves(rng, *, exponent=-1.0, scale=1.5, noise=0.05, seeds=5):
    """q = 1 + scale·N^exponent of each (seed, size), the largest last; noisier when small, alike in a seed."""
    sizes = np.append(SIZES, LARGEST)
    own = noise * rng.normal(size=(seeds, 5)) * (sizes / 8) ** -0.5
    return 1 + scale * sizes**exponent + own + rng.normal(size=(seeds, 1))


def covered(intervals, truth):
    lows, highs = np.array(intervals).T
    return np.mean((lows <= truth) & (truth <= highs))


@pytest.mark.parametrize("exponent", [-2.0, -0.5, 0.3, 2.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_exact_law_is_found_exactly_whatever_its_sign(exponent, sign):
    law = gap_law(SIZES, np.tile(sign * 3 * SIZES**exponent, (3, 1)), typical=-0.5)
    assert law.exponent == pytest.approx(exponent, abs=1e-3)
    assert law.prefactor == pytest.approx(sign * 3, rel=1e-2)
    np.testing.assert_allclose(law.exponent_interval, exponent, atol=1e-3)
    assert law.r_squared == pytest.approx(1)


@pytest.mark.parametrize("exponent", [-2.0, -0.5, 0.3])
def test_gaps_to_the_largest_size_give_the_exponent_to_the_limit(exponent):
    gaps = np.tile(SIZES**exponent - LARGEST**exponent, (3, 1))
    found, _ = limit_exponent(SIZES, gaps, LARGEST, typical=-0.5)
    assert found == pytest.approx(exponent, abs=2e-3)
    assert gap_law(SIZES, gaps, typical=-0.5).exponent < exponent - 0.01  # the power law through them is steeper


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_in_size_cover_at_their_rate_though_gaps_share_the_largest_size(seeds):
    rng = np.random.default_rng(0)
    limits = []
    for _ in range(400):
        curves = size_curves(rng, seeds=seeds)
        limits.append(limit_exponent(SIZES, curves[:, :-1] - curves[:, -1:], LARGEST, typical=-0.5)[1])
    assert 0.91 <= covered(limits, -1.0) <= 0.99
    assert np.isfinite(np.array(limits)).all(axis=1).mean() > 0.3  # it is not by being open that they cover


def test_intervals_in_time_cover_at_their_rate_though_records_of_a_run_are_alike():
    rng = np.random.default_rng(1)
    laws = []
    for _ in range(400):
        walk = np.cumsum(rng.normal(size=(4, len(STEPS))), axis=1)
        laws.append(gap_law(STEPS, 0.2 * STEPS**0.7 + 0.05 * walk, typical=1.0))
    assert 0.91 <= covered([law.exponent_interval for law in laws], 0.7) <= 0.99
    assert covered([law.prefactor_interval for law in laws], 0.2) >= 0.93
    assert covered([law.exponent_interval for law in laws], 1.0) < 0.5
    assert np.median([law.exponent for law in laws]) == pytest.approx(0.7, abs=0.05)


def test_seed_noise_alone_has_no_exponent():
    rng = np.random.default_rng(2)
    laws = [gap_law(SIZES, rng.normal(size=(4, 4)), typical=-0.5) for _ in range(200)]
    assert np.mean([law.exponent_interval == (-np.inf, np.inf) for law in laws]) > 0.9


def test_one_seed_or_one_gap_leaves_the_interval_open():
    law = gap_law(SIZES, SIZES[None] ** -1.0, typical=-0.5)
    assert law.exponent == pytest.approx(-1, abs=1e-3)
    assert law.exponent_interval == (-np.inf, np.inf)
    assert np.isnan(gap_law(SIZES[:1], np.ones((3, 1)), typical=-0.5).exponent)
    assert np.isnan(limit_exponent(SIZES[:1], np.ones((3, 1)), LARGEST, typical=-0.5)[0])


def test_a_gap_that_changes_its_sign_has_no_exponent():
    gaps = np.array([-3.0, 1.0, 1.0]) + 1e-3 * np.random.default_rng(0).normal(size=(4, 3))
    law = gap_law(np.array([8.0, 16.0, 32.0]), gaps, typical=-0.5)
    assert np.isnan(law.exponent) and law.exponent_interval == (-np.inf, np.inf)


def test_little_noise_leaves_the_interval_about_its_value():
    x, gaps = 2.0 ** np.arange(3, 7), 3 * (2.0 ** np.arange(3, 7)) ** -0.73
    law = gap_law(x, gaps + 1e-7 * np.random.default_rng(1).normal(size=(4, 4)), typical=-0.5)
    low, high = law.exponent_interval
    assert low < law.exponent < high and law.exponent == pytest.approx(-0.73, abs=1e-6)
