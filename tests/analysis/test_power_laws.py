"""Power laws through points whose law is known."""

import numpy as np
import pytest

from sharplab.analysis.power_laws import power_law

X = 2.0 ** np.arange(3, 8)
EXPONENT, PREFACTOR = -0.7, 3.0
Y = PREFACTOR * X**EXPONENT


def test_an_exact_law_is_found_exactly():
    law = power_law(X, Y)
    assert (law.exponent, law.prefactor) == (pytest.approx(EXPONENT), pytest.approx(PREFACTOR))
    np.testing.assert_allclose(law.predict([1, 100]), PREFACTOR * np.array([1, 100]) ** EXPONENT)
    np.testing.assert_allclose(law.exponent_interval, EXPONENT, atol=1e-9)
    assert (law.points, law.left_out, law.r_squared) == (5, 0, pytest.approx(1))


def test_units_of_x_and_y_change_the_prefactor_alone():
    rng = np.random.default_rng(0)
    y = Y * np.exp(0.1 * rng.normal(size=5))
    law, other = power_law(X, y), power_law(10 * X, 7 * y)
    assert other.exponent == pytest.approx(law.exponent)
    assert other.exponent_interval == pytest.approx(law.exponent_interval)
    assert other.prefactor == pytest.approx(7 * law.prefactor / 10**law.exponent)
    assert other.r_squared == pytest.approx(law.r_squared)


def scattered(rng):
    return power_law(X, Y * np.exp(0.1 * rng.normal(size=5)))


def over_three_seeds(rng):
    return power_law(X, Y[:, None] * np.exp(0.1 * rng.normal(size=(5, 3))))


def of_known_errors(rng):
    return power_law(X, Y * (1 + 0.05 * rng.normal(size=5)), stderr=0.05 * Y)


@pytest.mark.parametrize("draw", [scattered, over_three_seeds, of_known_errors])
def test_intervals_cover_at_their_rate(draw):
    rng = np.random.default_rng(1)
    laws = [draw(rng) for _ in range(400)]
    for name, truth in (("exponent", EXPONENT), ("prefactor", PREFACTOR)):
        lows, highs = np.array([getattr(law, f"{name}_interval") for law in laws]).T
        # Three standard deviations of a share of 400 about 95 %; a doubtful scatter may widen, never narrow.
        assert np.mean((lows <= truth) & (truth <= highs)) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)
        assert np.mean((lows <= 1.2 * truth) & (1.2 * truth <= highs)) < 0.95


def test_points_weigh_as_their_errors_say():
    y = Y * np.array([1, 1, 1, 1, 3])
    vague_end = power_law(X, y, stderr=Y * np.array([0.01, 0.01, 0.01, 0.01, 10.0]))
    assert vague_end.exponent == pytest.approx(EXPONENT, abs=1e-3)
    assert power_law(X, y, stderr=0.01 * Y).exponent > EXPONENT + 0.1


def test_scatter_beyond_the_noise_widens_the_interval_as_far_as_scatter_alone_says():
    y = Y * np.exp(0.3 * np.array([1, -1, 1, -1, 1]))
    sure = power_law(X, y, stderr=1e-6 * y)
    alone = power_law(X, y)
    np.testing.assert_allclose(sure.exponent_interval, alone.exponent_interval, rtol=1e-3)


def test_two_points_without_noise_have_an_open_interval():
    law = power_law([1, 2], [1, 3])
    assert law.exponent == pytest.approx(np.log2(3))
    assert law.exponent_interval == (-np.inf, np.inf)
    assert law.prefactor_interval == (0.0, np.inf)


def test_what_has_no_logarithm_is_left_out_and_counted():
    law = power_law([0, *X, 1000, 2000], [1, *Y, -1, np.nan])
    assert (law.points, law.left_out) == (5, 3)
    assert law.exponent == pytest.approx(EXPONENT)


def test_missing_seeds_lower_a_points_weight_alone():
    rng = np.random.default_rng(2)
    y = Y[:, None] * np.exp(0.1 * rng.normal(size=(5, 4)))
    y[0, 1:] = np.nan
    y[1, 0] = -1.0
    law = power_law(X, y)
    assert (law.points, law.left_out) == (5, 0)
    assert law.exponent == pytest.approx(EXPONENT, abs=0.2)


def test_what_makes_no_line_is_refused():
    with pytest.raises(ValueError, match="positive x"):
        power_law([1, 2], [1, -1])
    with pytest.raises(ValueError, match="positive x"):
        power_law([2, 2, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"x .*\(3,\) and \(2,\)"):
        power_law([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="stderr"):
        power_law([1, 2], [1, 2], stderr=[0.1, -0.1])
    with pytest.raises(ValueError, match=r"confidence .*95"):
        power_law([1, 2], [1, 2], confidence=95)
