"""The spread beyond noise, against the one that was put in."""

import numpy as np
import pytest
from scipy import stats

from sharplab.analysis.spread import true_spread


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
