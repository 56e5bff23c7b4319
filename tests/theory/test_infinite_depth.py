"""Deep kernels: the recursion in sixty digits, known networks, the singularity, and the three classifiers."""

from decimal import Decimal, localcontext

import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.theory import deep_classify, deep_kernels, deep_log_kernel, dual_slopes, infinite_depth, mlp_kernels
from sharplab.theory.infinite_depth import OPTIMAL, cosine_gaps

DUALS = {"d=1": OPTIMAL[1], "d=2": OPTIMAL[2], "square": (0, 0, 1), "mixed": (0, 0, 0.25, 0.75), "linear": (0, 1)}


def exact(gap, p, depth):
    """ln K by the recursion of the module's docstring, in decimal arithmetic of 60 digits."""
    with localcontext() as context:
        context.prec, context.Emin = 60, -(10**15)
        t = kernel = 1 - Decimal(gap)
        for _ in range(depth):
            slope = sum(k * Decimal(c) * t ** (k - 1) for k, c in enumerate(p) if k)
            t = sum(Decimal(c) * t**k for k, c in enumerate(p) if c)
            kernel = slope * kernel + t
        return float(kernel.ln())


@pytest.mark.parametrize("name", DUALS)
def test_logarithms_are_those_of_the_recursion_at_every_depth(name):
    gaps = np.array([0.0, 1e-14, 1e-6, 0.02, 0.4, 0.9])
    for depth in (1, 7, 45):
        expected = [exact(gap, DUALS[name], depth) for gap in gaps.tolist()]
        assert deep_log_kernel(gaps, DUALS[name], depth) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_closed_end_agrees_with_the_recursion_beyond_it():
    """At these depths all but some hundred layers are summed in closed form."""
    for gap in (1e-3, 0.5):
        assert deep_log_kernel(np.array([gap]), OPTIMAL[2], 600)[0] == pytest.approx(
            exact(gap, OPTIMAL[2], 600), rel=1e-13
        )
    near, far = (deep_log_kernel(np.array([0.3]), OPTIMAL[1], depth)[0] for depth in (10**9, 2 * 10**9))
    assert far - near == pytest.approx(10**9 * np.log(0.5) + np.log(2), abs=1e-5)  # L Aᴸ


def test_relu_is_the_network_of_the_lab(float64):
    inputs = np.random.default_rng(0).uniform(size=(4, 3))
    unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
    for depth in (1, 5):
        # Its inputs have variance |x|²/3, and its readout gain 1 in place of √2.
        ntk = mlp_kernels(jnp.asarray(unit * 3**0.5), depth=depth).ntk
        own = np.exp(deep_log_kernel(cosine_gaps(inputs, inputs), "relu", depth))
        assert own == pytest.approx(2 * np.asarray(ntk), rel=1e-6)


def test_relu_interpolates_between_layers_that_are_computed(monkeypatch):
    gaps = np.append(np.geomspace(1e-18, 1, 40), 0.0)
    directly = deep_log_kernel(gaps, "relu", 900)
    monkeypatch.setattr(infinite_depth, "DIRECT", 1)
    assert deep_log_kernel(gaps, "relu", 900) == pytest.approx(directly, abs=1e-8)


@pytest.mark.parametrize("dual", [OPTIMAL[1], OPTIMAL[2], (0, 0.5, *[0] * 29, 0.5), (0, 0, 1)])
@pytest.mark.parametrize("depth", [2, 40])
def test_many_gaps_have_the_kernels_that_each_has(dual, depth):
    gaps = np.concatenate([[0.0, 1.0], np.geomspace(1e-20, 0.9, 90_000), 1 - np.geomspace(1e-9, 0.1, 10_000)])
    few = np.append(np.arange(0, len(gaps), 101), [1, len(gaps) - 1])
    of_many, alone = (deep_log_kernel(gaps, dual, depth)[few], deep_log_kernel(gaps[few], dual, depth))
    assert of_many == pytest.approx(alone, rel=1e-13 if depth == 40 and dual[1] == 0 else 0, abs=1e-10)


def test_relu_kernels_forget_their_inputs():
    gaps = np.array([0.0, 1e-3, 0.3, 1.0])
    same, *others = np.exp(deep_log_kernel(gaps, "relu", 5000)) / 5001
    assert same == pytest.approx(1) and others == pytest.approx([0.25] * 3, abs=0.012)


@pytest.mark.parametrize(("dimension", "alpha"), [(1, 1.0), (2, 2.0)])
def test_the_singularity_has_its_exponent_over_whole_periods(dimension, alpha):
    slopes = dual_slopes(OPTIMAL[dimension])
    assert slopes.alpha == pytest.approx(alpha)
    # A layer takes a gap to B times it: the kernel is a power times a periodic function of the logarithm.
    gaps = 1e-3 / slopes.at_1 ** np.arange(3)
    steps = np.diff(deep_log_kernel(gaps, OPTIMAL[dimension], 10**9)) / np.log(slopes.at_1**0.5)
    assert steps == pytest.approx([alpha] * 2, rel=2e-3)


def test_classifiers_are_the_nearest_neighbour_and_the_majority():
    rng = np.random.default_rng(1)
    train, test = rng.uniform(0.05, 1, (15, 3)), rng.uniform(0.05, 1, (20, 3))
    labels = np.where(np.arange(15) % 3 == 0, -1.0, 1.0)
    nearest = labels[cosine_gaps(test, train).argmin(axis=1)]
    assert (deep_classify(deep_kernels(train, test, (0, 0, 1), 40), labels) == nearest).all()
    assert (deep_classify(deep_kernels(train, test, "relu", 1000), labels) == 1).all()
    singular = deep_kernels(train, test, OPTIMAL[2], 10**9)
    weights = np.exp(singular.test - singular.test.max(axis=1, keepdims=True))
    assert (deep_classify(singular, labels) == np.sign(weights @ labels)).all()  # off the diagonal nothing is left


def test_what_is_wrong_is_named():
    one = np.array([[1.0, 0.0]])
    for call, name in (
        (lambda: deep_log_kernel(np.array([1.2]), (0, 1), 3), "gaps"),
        (lambda: deep_log_kernel(np.array([0.2]), (0.5, 0.5), 3), "dual"),
        (lambda: deep_log_kernel(np.array([0.2]), (0, 2, -1), 3), "dual"),
        (lambda: deep_log_kernel(np.array([0.2]), "gelu", 3), "dual"),
        (lambda: deep_log_kernel(np.array([0.2]), (0, 1), 0), "depth"),
        (lambda: deep_classify(deep_kernels(one, np.array([[1.0, 1.0]]), (0, 0, 1), 10**4), np.ones(1)), "depth"),
    ):
        with pytest.raises(ValueError, match=name):
            call()


def test_gaps_of_half_floats_are_those_of_their_values():
    """Of rows whose squared norm float16 does not hold."""
    rows = (100 * np.random.default_rng(0).uniform(size=(3, 50))).astype(np.float16)
    np.testing.assert_array_equal(cosine_gaps(rows, rows[:2]), cosine_gaps(rows.astype(float), rows[:2].astype(float)))
