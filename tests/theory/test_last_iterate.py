"""The bound of the last point: its closed forms, and descent that keeps to it."""

import numpy as np
import pytest

from sharplab.theory import last_iterate_bound

STEPS = [1, 2, 5, 100]


def harmonic(n):
    return np.sum(1 / np.arange(1, n + 1))


@pytest.mark.parametrize("steps", STEPS)
def test_constant_rates_have_harmonic_numbers(steps):
    rate, distance, norm = 0.3, 2.0, 1.5
    far, near = distance**2 / (2 * rate * steps), rate / 2 * norm**2 * (1 + harmonic(steps - 1))
    found = last_iterate_bound(np.full(steps, rate), distance=distance, gradient_norms=norm)
    assert found == pytest.approx((far + near, np.sqrt(far / near), 2 * np.sqrt(far * near)))


@pytest.mark.parametrize("steps", STEPS)
def test_linear_decay_has_its_closed_form(steps):
    """Rates T … 1: D²/(T(T + 1)) + G²(T − 1/2 + H(T − 1))."""
    norm, distance = 1.5, 2.0
    far, near = distance**2 / (steps * (steps + 1)), norm**2 * (steps - 0.5 + harmonic(steps - 1))
    found = last_iterate_bound(np.arange(steps, 0, -1), distance=distance, gradient_norms=np.full(steps, norm))
    assert found.bound == pytest.approx(far + near) and found.best_bound == pytest.approx(2 * np.sqrt(far * near))


def test_linear_decay_loses_no_logarithm_and_the_constant_does():
    def scaled(make):
        return [last_iterate_bound(make(steps)).best_bound * np.sqrt(steps) for steps in (100, 10_000)]

    linear, constant = scaled(lambda steps: np.arange(steps, 0, -1)), scaled(np.ones)
    assert linear[1] == pytest.approx(2, rel=0.01)
    assert constant[1] / constant[0] == pytest.approx(np.sqrt((1 + harmonic(9999)) / (1 + harmonic(99))))


def test_the_best_factor_gives_the_best_bound_and_rates_of_0_at_the_end_change_nothing():
    rates, norms = np.random.default_rng(0).uniform(0.1, 1, (2, 20))
    found = last_iterate_bound(rates, gradient_norms=norms)
    bounds = [
        last_iterate_bound(factor * found.best_factor * rates, gradient_norms=norms).bound for factor in (0.9, 1, 1.1)
    ]
    assert bounds[1] == pytest.approx(found.best_bound) and min(bounds) == bounds[1]
    assert last_iterate_bound(np.append(rates, 0), gradient_norms=np.append(norms, 3)) == found


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
def test_descent_on_convex_functions_keeps_to_the_bound(shape):
    past = np.arange(40) / 40
    rates = 0.3 * {"constant": 1 + 0 * past, "linear": 1 - past, "cosine": (1 + np.cos(np.pi * past)) / 2}[shape]
    rng = np.random.default_rng(1)
    for _ in range(50):
        rows = rng.normal(size=(6, 3))  # f = max_i |rows_i · x|, least at 0
        x, norms = rng.normal(size=3), []
        distance = np.linalg.norm(x)
        for rate in rates:
            values = rows @ x
            worst = np.argmax(abs(values))
            gradient = np.sign(values[worst]) * rows[worst]
            norms.append(np.linalg.norm(gradient))
            last = abs(values[worst])
            x = x - rate * gradient
        assert last <= last_iterate_bound(rates, distance=distance, gradient_norms=norms).bound
