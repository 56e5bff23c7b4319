"""Intervals of means and slopes of a few values, against scipy."""

import numpy as np
import pytest
from scipy import stats

from sharplab.core.statistics import OPEN, half_width, mean_interval, slope_per_doubling

VALUES = np.random.default_rng(0).standard_normal((3, 5))


def test_the_interval_of_a_mean_is_students():
    for values, half in zip(VALUES, half_width(VALUES, 0.9), strict=True):
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
        mean, interval = mean_interval(values, 0.9)
        assert interval == pytest.approx((expected.low, expected.high))
        assert (mean - half, mean + half) == pytest.approx(interval)


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], [1.0, np.inf]])
def test_the_interval_is_open_where_nothing_is_known_of_the_scatter(values):
    assert mean_interval(values, 0.95)[1] == OPEN


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_values_without_a_logarithm_have_no_slope(value):
    assert np.isnan(slope_per_doubling([1, 2], [1.0, value]))
