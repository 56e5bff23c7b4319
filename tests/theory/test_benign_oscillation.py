"""Two signals: descent by autodiff, the threshold, and the limit in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.theory import two_signals, weak_signal_limit


def loss(w, v, u):
    return (1 - (w @ v) ** 2 - (w @ u) ** 2) ** 2 / 2


def test_the_trajectory_is_descent_on_the_neuron_and_the_sharpness_its_largest_eigenvalue(float64):
    v, u = jnp.array([0.0, 1.5, 0.0]), jnp.array([0.3, 0.0, 0.4])
    w, rate = jnp.array([0.4, -0.2, 0.1]), 0.3
    run = two_signals(rate, strong=2.25, weak=0.25, start=(float(w @ v), float(w @ u)), steps=12)
    for step in range(13):
        assert (run.strong[step], run.weak[step]) == (pytest.approx(w @ v), pytest.approx(w @ u))
        assert run.loss[step] == pytest.approx(loss(w, v, u))
        dense = jax.hessian(loss)(w, v, u)
        inside = jnp.stack([v / 1.5, u / 0.5])  # off the plane of both signals the Hessian is 0
        assert run.sharpness[step] == pytest.approx(jnp.linalg.eigvalsh(inside @ dense @ inside.T)[-1])
        w = w - rate * jax.grad(loss)(w, v, u)


@pytest.mark.parametrize(
    ("rate", "simulated", "theory"), [(0.55, 0.0956, 0.0947), (0.7, 0.3005, 0.2976), (1, 0.526, 0.521)]
)
def test_above_the_threshold_the_weak_signal_is_learned_up_to_its_limit(rate, simulated, theory):
    run = two_signals(rate, steps=3000)
    assert float(run.weak[-1]) ** 2 == pytest.approx(simulated, abs=1e-4)
    assert weak_signal_limit(rate) == pytest.approx(theory, abs=2e-4)
    assert run.loss[-1] < 1e-5 and run.sharpness[-1] * rate == pytest.approx(2, abs=0.025)


@pytest.mark.parametrize("rate", [0.1, 0.45])
def test_below_the_threshold_the_weak_signal_keeps_about_its_start(rate):
    run = two_signals(rate, steps=3000)
    assert weak_signal_limit(rate) == 0 and weak_signal_limit(0.5) == 0
    assert float(run.weak[-1]) ** 2 < 0.0135 and run.loss[-1] < 1e-8


def test_where_both_signals_oscillate_there_is_no_limit():
    run = two_signals(1.0, steps=4000, weak=0.6)
    assert run.loss[-500:].max() > 0.01
    with pytest.raises(ValueError, match=r"weak .*0\.5"):
        weak_signal_limit(1.0, weak=0.6)
    assert weak_signal_limit(1.0, weak=0.5) == 1


def test_small_steps_raise_both_signals_together():
    """Under gradient flow ln b grows by U/V of what ln a does."""
    run = two_signals(0.01, steps=3000)
    grown = np.log(run.weak[-1] / run.weak[0]) / np.log(run.strong[-1] / run.strong[0])
    assert run.loss[-1] < 1e-8 and grown == pytest.approx(0.04, rel=0.03)


def test_only_products_of_rate_and_squared_norms_matter():
    one, other = two_signals(0.7, steps=500), two_signals(0.07, strong=10.0, weak=0.4, steps=500)
    assert np.asarray(other.weak) == pytest.approx(np.asarray(one.weak), rel=1e-3) and other.sharpness[
        -1
    ] == pytest.approx(10 * one.sharpness[-1])


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"learning_rate": 1.1}, "learning_rate"),
        ({"weak": 1.0}, "weak"),
        ({"strong": -1.0}, "strong"),
        ({"steps": 0}, "steps"),
    ],
)
def test_what_is_wrong_is_named(wrong, name):
    with pytest.raises(ValueError, match=name):
        two_signals(**{"learning_rate": 0.5, "steps": 3} | wrong)
