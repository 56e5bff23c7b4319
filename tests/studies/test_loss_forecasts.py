"""Forecasts of losses: exact curves, noise at the stated rate, spikes."""

import numpy as np
import pytest
from scipy.stats import binomtest

from sharplab.studies.loss_forecasts import SLOWEST, forecast, without_spikes

STEPS = np.arange(40)


@pytest.mark.parametrize(("a", "decay"), [(2.0, 0.05), (2.0, 0.004), (-0.5, 0.1)])
def test_an_exact_curve_goes_on_as_it_is(a, decay):
    found = forecast(a * np.exp(-decay * STEPS) + 1, 400)
    true = a * np.exp(-decay * 400) + 1
    assert found.value == pytest.approx(true, abs=1e-5)
    assert found.low - 1e-6 <= true <= found.high + 1e-6


@pytest.mark.parametrize(("n", "noise", "spikes"), [(40, 0.1, 0.0), (80, 0.05, 0.04), (40, 1e-4, 0.0)])
def test_intervals_cover_at_their_rate(n, noise, spikes):
    random, hits, repeats = np.random.default_rng(0), 0, 120
    for _ in range(repeats):
        decay = np.exp(random.uniform(np.log(SLOWEST / (10 * n)), 0))
        a = 1 + 0.5 * random.standard_normal()
        losses = a * np.exp(-decay * np.arange(n)) + 1 + noise * random.standard_normal(n)
        losses += (random.random(n) < spikes) * random.exponential(3, n)
        found = forecast(losses, 10 * n)
        hits += found.low <= a * np.exp(-decay * 10 * n) + 1 <= found.high
    assert binomtest(hits, repeats, 0.95, alternative="less").pvalue > 0.005, hits


def test_spikes_are_found_and_move_no_forecast():
    losses = 2 * np.exp(-STEPS / 10) + 1 + 0.02 * np.random.default_rng(0).standard_normal(40)
    spiked = losses.copy()
    spiked[[7, 20, 21, 39]] += [5.0, 3.0, 2.0, 4.0]
    assert np.flatnonzero(~without_spikes(spiked, 400)).tolist() == [7, 20, 21, 39]
    plain, found = forecast(losses, 400), forecast(spiked, 400)
    assert found.value == pytest.approx(plain.value, abs=0.01)


def test_an_interval_narrows_with_the_losses_and_widens_ahead():
    losses = np.exp(-np.arange(80) / 100) + 1 + 0.02 * np.random.default_rng(0).standard_normal(80)
    widths = [
        found.high - found.low for found in (forecast(losses[:40], 400), forecast(losses, 400), forecast(losses, 90))
    ]
    assert widths == sorted(widths, reverse=True)


def test_a_curve_that_diverges_has_an_infinite_forecast():
    assert forecast(np.array([1.0, 2, 4, 8, np.inf, np.nan]), 60).value == np.inf


@pytest.mark.parametrize(("losses", "at", "name"), [(np.ones(5), 50, "losses"), (np.ones(8), 7, "at")])
def test_what_tells_no_forecast_is_refused(losses, at, name):
    with pytest.raises(ValueError, match=name):
        forecast(losses, at)


def test_a_constant_loss_stays():
    found = forecast(np.full(8, 3.0), 80)
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3.0, 3.0))
