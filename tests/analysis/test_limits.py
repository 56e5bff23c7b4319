"""Limits and exponents of y = limit + a·x^−p, against those that were put in."""

import numpy as np
import pytest
from scipy import stats

from sharplab.analysis.limits import approach
from sharplab.analysis.trend import Noise

SIZES = 2.0 ** np.arange(3, 9)
EXACT = [Noise(1e-10, 20)] * len(SIZES)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("a", [-3.0, 0.7])
def test_a_law_without_noise_is_found(p, a):
    found = approach(SIZES, 2.5 + a * SIZES**-p, EXACT, 0.95)
    assert found.limit.value == pytest.approx(2.5, abs=5e-3)
    assert found.exponent.value == pytest.approx(p, rel=0.02)


@pytest.mark.parametrize(
    ("p", "sd", "df", "known"),
    [(0.5, 0.01, 15, True), (1.0, 0.01, 4, True), (1.0, 0.01, 4, False), (0.53, 1e-4, 9, True), (0.53, 1e-6, 9, True)],
)
def test_limits_and_exponents_are_covered_at_their_rate(p, sd, df, known):
    rng = np.random.default_rng(0)
    truth, hits = 1 + 2 * SIZES**-p, np.zeros(2, int)
    for _ in range(150):
        variance = sd**2 * rng.chisquare(df) / df
        noises = [Noise(variance, df if known else 0)] * len(SIZES)
        found = approach(SIZES, truth + sd * rng.normal(size=len(SIZES)), noises, 0.95)
        hits += [found.limit.low <= 1 <= found.limit.high, found.exponent.low <= p <= found.exponent.high]
    assert (stats.binom.cdf(hits, 150, 0.95) > 1e-4).all(), hits / 150


def test_what_follows_a_logarithm_or_is_of_three_sizes_has_no_limit():
    line = approach(SIZES, np.log2(SIZES), [Noise(1e-4, 20)] * len(SIZES), 0.95)
    assert line.limit.interval == (-np.inf, np.inf) and line.exponent.low == 0
    few = approach(SIZES[:3], 1 + 1 / SIZES[:3], EXACT[:3], 0.95)
    assert np.isnan([few.limit.value, few.exponent.value]).all() and few.limit.interval == (-np.inf, np.inf)


def test_what_does_not_change_has_a_limit_and_no_exponent():
    rng = np.random.default_rng(1)
    found = approach(SIZES, 1 + 0.01 * rng.normal(size=len(SIZES)), [Noise(1e-4, 20)] * len(SIZES), 0.95)
    assert found.exponent.interval == (0.0, np.inf)


def test_what_is_known_does_not_hang_on_the_unit():
    values = 1 + 2 / SIZES + 0.01 * np.random.default_rng(2).normal(size=len(SIZES))
    plain = approach(SIZES, values, [Noise(1e-4, 20)] * len(SIZES), 0.95)
    tiny = approach(SIZES, 1e-9 * values, [Noise(1e-22, 20)] * len(SIZES), 0.95)
    assert tiny.limit.interval == pytest.approx([1e-9 * end for end in plain.limit.interval])
    assert (tiny.exponent.value, *tiny.exponent.interval) == pytest.approx(
        (plain.exponent.value, *plain.exponent.interval)
    )
