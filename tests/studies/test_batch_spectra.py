"""Extreme eigenvalues of batch Hessians: against dense ones, and the law of random matrices recovered from samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binomtest

from sharplab.studies.batch_spectra import BatchSpectra, _variances, batch_spectra, fit_spike_law

N = 256
SIZES = (2, 12, 64)


def loss(w, hessians):
    return jnp.mean(jax.vmap(lambda h: w @ h @ w / 2)(hessians))


def noisy_hessians(spikes, sigma, size=64):
    """N Hessians whose mean has these eigenvalues, else 0, each with noise of variance σ² in every entry."""
    noise = sigma * np.random.default_rng(0).standard_normal((N, size, size))
    noise = (noise + noise.transpose(0, 2, 1)) / np.sqrt(2)
    noise *= np.sqrt(N / (N - 1))
    mean = np.zeros(size)
    mean[: len(spikes)] = spikes
    return jnp.asarray(np.diag(mean) + noise - noise.mean(0), jnp.float32)


@pytest.fixture(scope="module")
def found():
    return batch_spectra(loss, jnp.zeros(64), noisy_hessians((3.0, -1.5), 1.0), SIZES, draws=6)


@pytest.mark.long
def test_both_ends_of_random_matrices_tell_their_spike_and_the_one_noise(found):
    for law, spike in ((found.largest, 3.0), (found.smallest, 1.5)):
        assert law.eigenvalue.value == pytest.approx(spike, rel=0.05)
        assert law.noise.value == pytest.approx(64.0, rel=0.15)
        b = 64 / spike**2
        assert law.threshold.low < b / (1 + b / N) < law.threshold.high
        # Of 64 rows the edge of the noise is not quite that of infinitely many.
        assert np.allclose(law.predict(SIZES), _law(spike, 64.0, SIZES), rtol=0.1)
    assert (found.table["largest_error"] < 0.02 * found.table["largest"]).all()


def _law(spike, noise, sizes):
    b = np.array(sizes) / (1 - np.array(sizes) / N)
    return np.where(spike**2 > noise / b, spike + noise / (b * spike), 2 * np.sqrt(noise / b))


def test_eigenvalues_are_those_of_the_batches_in_the_metric():
    data = noisy_hessians((3.0,), 1.0, size=6)
    metric = jnp.linspace(0.5, 2.0, 6)
    key = jax.random.key(3)
    table = batch_spectra(loss, jnp.zeros(6), data, (4, N - 1), metric=metric, draws=2, tol=1e-4, key=key).table
    root = np.sqrt(np.asarray(metric))
    for size, rows in table.groupby("batch_size"):
        for draw, each in enumerate(jax.random.split(jax.random.fold_in(key, size), 2)):
            chosen = np.asarray(jax.random.choice(each, N, (size,), replace=False))
            exact = np.linalg.eigvalsh(root[:, None] * np.asarray(data)[chosen].mean(0) * root)
            got = rows[rows["draw"] == draw][["largest", "smallest"]].to_numpy()[0]
            assert np.allclose(got, exact[[-1, 0]], rtol=1e-3)


@pytest.mark.parametrize(
    ("sizes", "draws", "noise"),
    [
        (2 ** np.arange(2, 12), 6, 900.0),
        (2 ** np.arange(2, 12), 6, 120.0),
        ((4, 64), 8, 900.0),  # noise alone is seen: all that is known of λ is that it is no larger
        ((2, 16, 128), 3, 900.0),  # as good as
        ((2, 16, 128), 2, 120.0),
    ],
    ids=["half_noise", "most_spike", "no_spike", "hardly_any_spike", "two_draws"],
)
def test_intervals_cover_what_was_put_in_at_their_rate(sizes, draws, noise):
    sizes, examples, eigenvalue = np.asarray(sizes), 8192, 3.0
    b = sizes / (1 - sizes / examples)
    mean = np.where(eigenvalue**2 > noise / b, eigenvalue + noise / (b * eigenvalue), 2 * np.sqrt(noise / b))
    spread = 0.3 * sizes**-0.25
    at = noise / eigenvalue**2
    true = {"eigenvalue": eigenvalue, "noise": noise, "threshold": at / (1 + at / examples)}
    random, hits, repeats = np.random.default_rng(1), dict.fromkeys(true, 0), 200
    for _ in range(repeats):
        drawn = mean[:, None] * np.exp(spread[:, None] * random.standard_normal((len(sizes), draws)))
        law = fit_spike_law(dict(zip(sizes.tolist(), drawn, strict=True)), examples)
        for name, value in true.items():
            measured = getattr(law, name)
            hits[name] += measured.low <= value <= measured.high
    for name, count in hits.items():
        assert binomtest(count, repeats, 0.95, alternative="less").pvalue > 0.005, (name, count)


def test_the_law_is_the_one_of_least_squares():
    sizes, random = np.array([5.0, 16.0, 48.0, 128.0]), np.random.default_rng(0)  # above a threshold of 3.3
    draws = np.exp(0.1 * random.standard_normal((4, 400))) * (3 + 30 / sizes / 3)[:, None]
    law = fit_spike_law(dict(zip(sizes.astype(int).tolist(), draws, strict=True)), 10**9)
    means = np.log(draws).mean(1)
    least = minimize(lambda x: np.sum((np.log(np.exp(x[0]) + np.exp(x[1] - x[0]) / sizes) - means) ** 2), [1.0, 3.0]).x
    # Its weights differ by what the draws tell of variances, which are the same.
    assert np.log(law.eigenvalue.value) == pytest.approx(least[0], abs=2e-3)
    assert np.log(law.noise.value) == pytest.approx(least[1], abs=1e-2)
    assert np.allclose(law.predict(sizes), np.exp(means), rtol=0.02)


def test_what_the_sizes_do_not_reach_is_left_open():
    draws = np.exp(0.02 * np.random.default_rng(0).standard_normal((3, 5)))
    edge = fit_spike_law(dict(zip(SIZES, 2 * np.array(SIZES)[:, None] ** -0.5 * draws, strict=True)), 10**9)
    assert (edge.eigenvalue.low, edge.threshold.high) == (0, np.inf)
    assert edge.noise.low < 1 < edge.noise.high
    spike = fit_spike_law(dict(zip(SIZES, 3 * draws, strict=True)), 10**9)
    assert (spike.noise.low, spike.threshold.low) == (0, 0)
    assert spike.eigenvalue.low < 3 < spike.eigenvalue.high


def test_a_law_that_does_not_hold_shows_in_its_misfit_and_widens_intervals():
    draws = np.exp(0.02 * np.random.default_rng(0).standard_normal((3, 5)))
    steps = np.array([1.0, 3.0, 1.0])[:, None]
    off, even = (fit_spike_law(dict(zip(SIZES, each, strict=True)), N) for each in (steps * draws, draws))
    assert off.misfit > 100 > 20 * even.misfit
    assert off.eigenvalue.high - off.eigenvalue.value > 10 * (even.eigenvalue.high - even.eigenvalue.value)


def test_noise_of_means_is_that_of_the_draws_about_a_power_law_of_the_size():
    logs = [sd * np.random.default_rng(0).standard_normal(4) for sd in (0.4, 0.2, 0.1)]
    logs[1] *= 3  # off the power law
    ratios = [each.var(ddof=1) / 4 / of for each, of in zip(logs, _variances(np.array([1, 4, 16]), logs), strict=True)]
    assert np.mean(ratios) == pytest.approx(1)


@pytest.mark.long
def test_a_convex_loss_has_no_law_of_the_smallest(found):
    assert BatchSpectra(found.table.assign(smallest=0.5), N).smallest is None
    assert "not negative" in str(BatchSpectra(found.table.assign(smallest=0.5), N))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"batch_sizes": (4,)}, "batch_sizes"),
        ({"batch_sizes": (4, N)}, "batch_sizes.*256"),
        ({"draws": 1}, "draws"),
    ],
)
def test_what_tells_no_law_is_refused(wrong, name):
    arguments = {"batch_sizes": (2, 4), "draws": 2} | wrong
    with pytest.raises(ValueError, match=name):
        batch_spectra(loss, jnp.zeros(6), noisy_hessians((3.0,), 1.0, size=6), **arguments)


@pytest.mark.parametrize("values", [{2: [1.0, 2.0]}, {2: [1.0, 2.0], 4: [1.0]}, {2: [1.0, 2.0], 4: [1.0, -1.0]}])
def test_values_that_no_law_goes_through_are_refused(values):
    with pytest.raises(ValueError, match="values"):
        fit_spike_law(values, N)


def test_the_law_is_the_least_of_what_is_minimised_to_six_digits():
    """Not only of the thresholds that its interval was looked for on."""
    sizes = np.array([1, 2, 4, 8, 16, 32, 64])
    draws = np.exp(0.3 * np.random.default_rng(5).standard_normal((7, 6))) * (2 + 10 / sizes)[:, None]
    law, logs = fit_spike_law(dict(zip(sizes.tolist(), draws, strict=True)), 10**9), list(np.log(draws))
    means, weights = np.array([each.mean() for each in logs]), 1 / _variances(sizes.astype(float), logs)

    def squares(x):
        spike, noise = np.exp(x)
        above = spike**2 > noise / sizes
        return (
            weights @ (means - np.log(np.where(above, spike + noise / sizes / spike, 2 * np.sqrt(noise / sizes)))) ** 2
        )

    start = np.log([law.eigenvalue.value, law.noise.value])
    found = minimize(squares, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    assert np.allclose(start, found, rtol=0, atol=2e-6)
