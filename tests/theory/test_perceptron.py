"""Separating methods: counts known exactly, the perceptron as a limit, bounds, and margins with their certificate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.special import expit

from sharplab.theory import largest_margin, separate, separating_iterates, separation_bound
from sharplab.theory.perceptron import METHODS, worst_case

pytestmark = pytest.mark.usefixtures("float64")


def separable(seed, n=20, features=4):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, features))
    return inputs, np.sign(inputs @ rng.normal(size=features))


@pytest.mark.parametrize(("n", "steps"), [(10, 4), (100, 31), (500, 151), (1000, 301), (5000, 1501)])
def test_the_batch_perceptron_is_slow_in_the_number_of_examples(n, steps):
    assert separate(*worst_case(n), method="perceptron").steps == steps


@pytest.mark.parametrize(("learning_rate", "plain", "normalised"), [(100, 308, 2), (10, 729, 2), (1, 7313, 16)])
def test_the_counts_of_the_worst_case(learning_rate, plain, normalised):
    given = worst_case(1000)
    assert separate(*given, learning_rate=learning_rate).steps == plain
    assert separate(*given, method="normalised_logistic", learning_rate=learning_rate).steps == normalised


def test_small_learning_rates_and_limits_on_steps():
    given = worst_case(1000)
    assert separate(*given, method="normalised_logistic", learning_rate=0.1).steps == 157
    stopped = separate(*given, learning_rate=100, max_steps=307)
    assert (stopped.steps, stopped.separated) == (307, False)


def test_the_iterates_are_those_of_the_formula_and_separate_where_it_says():
    inputs, labels = separable(0)
    signed, theta = labels[:, None] * inputs, np.zeros(4)
    found = separate(inputs, labels, learning_rate=3.0)
    iterates = np.asarray(separating_iterates(inputs, labels, learning_rate=3.0, steps=found.steps + 1))
    for step, iterate in enumerate(iterates):
        assert iterate == pytest.approx(theta, rel=1e-12)
        assert (signed @ iterate > 0).all() == (step >= found.steps)
        theta = theta + 3.0 * expit(-signed @ theta) @ signed / len(signed)
    assert found.separated and iterates[found.steps] == pytest.approx(np.asarray(found.parameters))


@pytest.mark.parametrize(
    ("smooth", "limit"), [("logistic", "perceptron"), ("normalised_logistic", "normalised_perceptron")]
)
def test_descent_over_its_learning_rate_becomes_the_perceptron(smooth, limit):
    given = separable(1)
    steps = separate(*given, method=limit).steps
    wanted = separating_iterates(*given, method=limit, steps=steps + 2)
    assert (wanted[-1] == wanted[-3]).all()  # there it stops

    def gap(rate):
        iterates = separating_iterates(*given, method=smooth, learning_rate=rate, steps=steps)
        return float(jnp.max(jnp.abs(iterates / rate - wanted[:-2])))

    gaps = [gap(rate) for rate in (1e1, 1e3, 1e8)]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-6


def test_descent_goes_on_past_separation_where_errors_underflow():
    iterates = separating_iterates(*separable(2), method="normalised_logistic", learning_rate=1e6, steps=60)
    assert jnp.isfinite(iterates).all() and (jnp.diff(jnp.linalg.norm(iterates[-9:], axis=1)) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_method_takes_more_steps_than_its_bound(method):
    for seed in range(6):
        inputs, labels = separable(seed)
        bound = {"margin": largest_margin(inputs, labels).upper, "examples": len(labels)}
        bound["radius"] = np.linalg.norm(inputs, axis=1).max()
        for rate in (0.1, 1.0, 100.0):
            found = separate(inputs, labels, method=method, learning_rate=rate)
            assert found.separated and found.steps <= separation_bound(method, learning_rate=rate, **bound)


def test_a_margin_is_enclosed_and_no_direction_does_better():
    for seed in range(4):
        inputs, labels = separable(seed, n=40)
        signed = labels[:, None] * inputs
        lower, upper, u = largest_margin(inputs, labels)
        assert np.linalg.norm(u) == pytest.approx(1) and (signed @ u).min() == pytest.approx(lower)
        assert 0 < lower <= upper * (1 + 1e-12) and upper == pytest.approx(lower, rel=1e-9)
        # u is a non-negative combination of the examples at the margin, the condition of optimality.
        active = signed[signed @ u < lower * (1 + 1e-9)]
        solved = linprog(np.zeros(len(active)), A_eq=active.T, b_eq=u, bounds=(0, None))
        assert solved.status == 0
        nearby = u + 0.05 * np.random.default_rng(seed).normal(size=(200, 4))
        assert (signed @ (nearby / np.linalg.norm(nearby, axis=1, keepdims=True)).T).min(axis=0).max() <= upper


def test_margins_scale_with_the_examples_and_two_points_have_theirs():
    inputs, labels = np.array([[3.0, 0.0], [0.0, -4.0]]), np.array([1, -1])
    for scale in (1e-6, 1.0, 1e6):
        assert largest_margin(scale * inputs, labels).lower == pytest.approx(2.4 * scale)  # 3·4/5


def test_a_small_margin_of_large_examples_is_enclosed_where_jax_has_float32():
    """Whose rounding would be a third of it."""
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(50) % 2, 1.0, -1.0)
    a = rng.uniform(1e5, 2e5, 50)
    inputs = np.column_stack([a, a - labels * rng.uniform(0.02, 0.04, 50)])
    with jax.enable_x64(False):
        lower, upper, u = largest_margin(inputs, labels)
    assert lower <= (labels[:, None] * inputs @ u).min() * (1 + 1e-9) <= upper
    assert lower >= 0.9 * (labels * (inputs @ [1, -1])).min() / 2**0.5 and upper <= 1.1 * lower


WRONG = [
    (separate, {"labels": [1.0, 0.0]}, "labels"),
    (separate, {"labels": [1.0]}, "labels"),
    (separate, {"inputs": [1.0, 2.0]}, "inputs"),
    (separate, {"inputs": [[1.0], [np.nan]]}, "inputs"),
    (separate, {"method": "newton"}, "method"),
    (separate, {"learning_rate": 0.0}, "learning_rate"),
    (separating_iterates, {"steps": 0}, "steps"),
    (largest_margin, {"inputs": [[1.0], [1.0]]}, "inputs"),
    (largest_margin, {"inputs": [[0.0], [0.0]]}, "inputs"),
]


@pytest.mark.parametrize(("call", "wrong", "name"), WRONG)
def test_what_is_wrong_is_named(call, wrong, name):
    more = {"steps": 3} if call is separating_iterates else {}
    with pytest.raises(ValueError, match=name):
        call(**{"inputs": [[1.0], [-1.0]], "labels": [1.0, -1.0]} | more | wrong)
