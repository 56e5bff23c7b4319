"""A trend over sizes of which one value may be an outlier."""

import numpy as np
import pytest
from scipy.stats import binomtest

from sharplab.analysis.trend import Noise, pooled_noise, robust_trend, trend, trend_of_means

SIZES = [8, 16, 32, 64]
NOISES = [Noise(0.1**2, 12)] * 4


def test_without_an_outlier_the_robust_slope_is_the_plain_one():
    values = [0.0, 0.52, 0.97, 1.5]
    robust, plain = robust_trend(SIZES, values, NOISES), trend(SIZES, values, NOISES)
    assert robust.slope == pytest.approx(plain.slope, abs=0.02)
    assert plain.noise.variance < robust.noise.variance < 1.5 * plain.noise.variance


@pytest.mark.parametrize("where", range(5))
def test_one_outlier_of_five_hardly_moves_the_slope(where):
    values = np.array([0.02, -0.03, 0.04, 0.0, -0.02])
    values[where] += 2.0
    noises = [Noise(0.1**2, 12)] * 5
    sizes = [*SIZES, 128]
    robust, plain = robust_trend(sizes, values, noises), trend(sizes, values, noises)
    assert abs(robust.slope) < 0.08
    assert np.diff(robust.interval(0.95)) < np.diff(plain.interval(0.95)) / 3


def test_among_three_values_that_make_no_line_each_may_be_the_outlier():
    low, high = robust_trend(SIZES[:3], [0.0, 0.0, 2.0], NOISES[:3]).interval(0.95)
    assert low < 0 and high > 1.9


def test_where_the_noise_is_not_known_or_two_values_make_the_line_nothing_is_taken_for_an_outlier():
    values = [0.0, 0.0, 0.0, 2.0]
    for sizes, noises in ((SIZES, [Noise(np.inf, 0)] * 4), (SIZES[:2], NOISES[:2])):
        assert robust_trend(sizes, values[: len(sizes)], noises) == trend(sizes, values[: len(sizes)], noises)
    assert np.isnan(robust_trend(SIZES, [0.0, np.nan, 0.0, 0.0], NOISES).slope)


def test_scale_and_order_of_sizes_do_not_matter():
    values = [0.1, 0.4, 2.0, 0.9]
    robust = robust_trend(SIZES, values, NOISES)
    wider = robust_trend([10 * size for size in SIZES], values, NOISES)
    reversed_sizes = robust_trend(SIZES[::-1], values[::-1], NOISES)
    for other in (wider, reversed_sizes):
        assert other.slope == pytest.approx(robust.slope)
        assert other.noise.variance == pytest.approx(robust.noise.variance)


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


def test_trend_of_means_pools_the_noise_of_groups_and_is_unknown_where_one_is_empty():
    groups = [np.array([0.0, 2.0]), np.array([2.0, 4.0, 3.0]), np.array([5.0])]
    found = trend_of_means([8, 16, 32], groups)
    pooled = (2.0 + 2.0) / 3  # squares over degrees of freedom
    expected = trend([8, 16, 32], [1.0, 3.0, 5.0], [Noise(pooled / len(group), 3) for group in groups])
    assert (found.slope, found.noise.df) == (pytest.approx(2.0), 3)
    assert found.noise.variance == pytest.approx(expected.noise.variance)
    assert np.isnan(trend_of_means([8, 16], [groups[0], np.array([])]).slope)


def test_scatter_that_no_outlier_explains_leaves_the_robust_slope_few_degrees_of_freedom():
    scattered, straight = (
        robust_trend(SIZES, values, NOISES) for values in ([0, 0.8, -0.8, 0.3], [0.0, 0.1, 0.2, 0.3])
    )
    assert scattered.noise.df < 4 < straight.noise.df == pytest.approx(12)


@pytest.mark.parametrize(("count", "least"), [(3, 0.86), (4, 0.91)])
def test_scatter_about_the_line_counts_as_many_values_as_there_are(count, least):
    """Not as many as there are seeds, which know nothing of it."""
    random, hits, sizes = np.random.default_rng(1), 0, 2.0 ** np.arange(count)
    for _ in range(300):
        groups = [0.05 * random.normal() + 0.01 * random.normal(size=4) for _ in sizes]
        low, high = trend_of_means(sizes, groups).interval(0.95)
        hits += low <= 0 <= high
    assert binomtest(hits, 300, least, alternative="less").pvalue > 0.005, hits
