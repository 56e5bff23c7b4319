"""The time above the edge, against the cubic model of descent iterated, and its limit near rest."""

import math

import pytest

from sharplab.theory import stabilisation_time

RATE, SHARPENING, RESPONSE = 0.5, 2e-4, 3.0
REST = math.sqrt(2 * SHARPENING / RESPONSE)


def iterated(displacement):
    """The steps of descent on (1/η + δ/2) x² + …, with δ = √β y, from δ = 0 until δ is below 0 again."""
    x, excess, steps = displacement, 0.0, 0
    while steps == 0 or excess > 0:
        x, excess = -(1 + RATE * excess) * x, excess + RATE * (SHARPENING - RESPONSE * x**2 / 2)
        steps += 1
    return steps


@pytest.mark.parametrize("share", [0.5, 1e-2, 1e-6])
def test_it_is_what_descent_takes_where_it_is_slow(share):
    found = stabilisation_time(RATE, sharpening=SHARPENING, response=RESPONSE, displacement=share * REST)
    assert found == pytest.approx(iterated(share * REST), rel=0.02, abs=2)


def test_near_rest_it_is_half_a_period_of_small_oscillations():
    least = math.pi / (RATE * math.sqrt(2 * SHARPENING))
    for share in (1 - 1e-3, 1 - 1e-9):
        found = stabilisation_time(RATE, sharpening=SHARPENING, response=RESPONSE, displacement=share * REST)
        assert found == pytest.approx(least, rel=1e-3)


def test_beyond_its_rest_the_sharpness_cannot_cross_upwards():
    with pytest.raises(ValueError, match="displacement"):
        stabilisation_time(RATE, sharpening=SHARPENING, response=RESPONSE, displacement=1.1 * REST)
