"""The spread beyond noise, against the one that was put in."""

import numpy as np
import pytest
from scipy import stats

from sharplab.analysis.spread import noises_of_means, p_value, spread_and_noise, true_spread


@pytest.mark.parametrize("truth", [0.0, 0.5, 3.0])
def test_the_true_spread_is_covered_at_its_rate(truth):
    rng, free, df, draws = np.random.default_rng(0), 5, 12, 300
    means = truth * np.sqrt(free) * np.eye(free)[0]  # whose mean square is truth²
    hits = 0
    for _ in range(draws):
        square = np.mean((means + rng.normal(size=free)) ** 2)
        found = true_spread(square, rng.chisquare(df) / df, free, df, 0.95)
        hits += found.low <= truth <= found.high
    assert stats.binom.cdf(hits, draws, 0.95) > 1e-4, hits / draws


def test_without_noise_the_spread_is_the_root_of_the_square():
    assert true_spread(0.25, 1e-9, 4, 50, 0.95).interval == pytest.approx((0.5, 0.5), rel=0.3)
    for noise in (1e-9, 1e-15, 0.0):
        assert true_spread(0.25, noise, 4, 1e9, 0.95).interval == pytest.approx((0.5, 0.5), rel=5e-3)


def test_less_than_the_noise_is_no_spread():
    found = true_spread(0.5, 1.0, 4, 20, 0.95)
    assert found.value == found.low == 0 < found.high


@pytest.mark.parametrize(("deviations", "seeds"), [((10, 1, 1, 1), (2, 8, 8, 8)), ((1, 1, 1), (3, 3, 3))])
def test_sizes_that_differ_in_noise_alone_are_seldom_found_apart(deviations, seeds):
    """The plain analysis of variance says so of the first in 58 % of the draws."""
    random, small = np.random.default_rng(0), 0
    for _ in range(300):
        small += p_value([sd * random.normal(size=n) for sd, n in zip(deviations, seeds, strict=True)]) < 0.05
    assert small <= 0.15 * 300


def test_the_noise_of_means_is_each_sizes_own_and_a_single_seeds_the_others():
    groups = [np.array([0.0, 2.0]), np.array([5.0]), np.array([1.0, 1.0])]
    noises = noises_of_means(groups)
    assert [(noise.variance, noise.df) for noise in noises] == [(1.0, 1), (1.0, 2), (0.0, 1)]
    assert spread_and_noise(groups) == pytest.approx((np.std([1, 5, 1], ddof=1), np.sqrt(2 / 3)))
