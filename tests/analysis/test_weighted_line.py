"""The weighted line through points against its definitions."""

import numpy as np
import pytest
from scipy import stats

from sharplab.analysis.weighted_line import WeightedLine

X = np.array([3.0, 4.0, 5.0, 6.0])


def test_slope_and_level_are_those_of_weighted_least_squares():
    y, deviations = np.array([0.3, -1.0, 2.0, 0.5]), np.array([1.0, 0.5, 2.0, 0.1])
    line = WeightedLine.through(X, y, deviations**2)
    slope, intercept = np.polyfit(X, y, 1, w=1 / deviations)
    assert line.slope == pytest.approx(slope)
    assert line.level - line.slope * line.centre == pytest.approx(intercept)
    assert line.squares == pytest.approx(np.sum(((y - intercept - slope * X) / deviations) ** 2))


def test_the_likelihood_of_a_line_is_that_of_the_values_under_a_flat_prior():
    rng = np.random.default_rng(0)
    y, design = rng.normal(size=4), np.stack([np.ones(4), X], axis=1)
    found, expected = [], []
    for variances in ([0.1, 0.2, 0.3, 0.1], [0.1, 0.2, 1.3, 0.1]):
        found.append(WeightedLine.through(X, y, np.array(variances)).log_likelihood(1e8))
        broad = np.diag(variances) + 1e6 * design @ design.T
        expected.append(stats.multivariate_normal(np.zeros(4), broad).logpdf(y))
    assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], abs=1e-4)
