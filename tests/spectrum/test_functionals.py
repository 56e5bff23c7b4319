"""Log-determinant and effective dimension against the eigenvalues, with errors that are honest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import matrix_operator, symmetric

from sharplab.spectrum.functionals import effective_dimension, logdet

N = 60
SPECTRA = {
    "clustered": np.r_[1 + 1e-6 * np.arange(5), np.linspace(-0.5, 0.7, N - 5)],
    "rank one": np.r_[np.zeros(N - 1), 3.0],
    "zero": np.zeros(N),
    "indefinite": np.linspace(-3, 1, N),
    "condition 1e8": np.geomspace(1e-8, 1, N),
    "outliers": np.r_[np.linspace(-0.1, 0.1, N - 3), 3, 5, 10],
}
FUNCTIONALS = {
    logdet: lambda values, shift: np.sum(np.log(values + shift)),
    effective_dimension: lambda values, shift: np.sum(values / (values + shift)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("functional", FUNCTIONALS)
def test_prescribed_spectra_within_the_error(functional, spectrum, dtype):
    exact = SPECTRA[spectrum]
    shift = 0.1 - exact.min()
    truth = FUNCTIONALS[functional](exact, shift)
    with jax.enable_x64(dtype == np.float64):
        found = functional(matrix_operator(symmetric(exact).astype(dtype)), shift, steps=20, probes=20)
        assert abs(float(found) - truth) <= 3.5 * float(found.stderr) + 1e-5 * abs(truth)
        # Signs: 2 ‖f(A)‖²/probes bounds the variance.
        each = [FUNCTIONALS[functional](np.array([x]), shift) for x in exact]
        assert float(found.stderr) <= 2 * np.sqrt(2 * np.sum(np.square(each)) / 20) + 1e-5 * abs(truth)


@pytest.mark.parametrize("functional", FUNCTIONALS)
def test_multiples_of_the_identity_are_exact(functional):
    found = functional(matrix_operator(2 * np.eye(N, dtype=np.float32)), 1.0)
    assert np.isclose(float(found), FUNCTIONALS[functional](np.full(N, 2.0), 1.0), rtol=1e-5)
    assert found.stderr < 1e-3
    assert found.matvecs == 8


@pytest.mark.parametrize("functional", FUNCTIONALS)
def test_standard_errors_are_as_large_as_the_errors(float64, functional):
    """Over 200 keys: rms error ÷ rms stderr within 0.8–1.25, 95 % t-intervals of 8 probes cover 85 %."""
    exact, shift = np.linspace(0, 2, N), 0.05

    @jax.jit
    def run(A, keys):
        return jax.lax.map(lambda key: functional(matrix_operator(A), shift, steps=25, key=key), keys)

    found = run(jnp.asarray(symmetric(exact)), jax.random.split(jax.random.key(2), 200))
    error, stderr = np.asarray(found.value) - FUNCTIONALS[functional](exact, shift), np.asarray(found.stderr)
    assert 0.8 <= np.sqrt(np.mean(error**2) / np.mean(stderr**2)) <= 1.25
    assert np.mean(np.abs(error) <= 2.365 * stderr) >= 0.85


def test_of_a_multiple_the_log_determinant_has_more_by_the_logarithm():
    A, c = matrix_operator(symmetric(np.linspace(0, 2, N)).astype(np.float32)), 1e-20
    one, small = logdet(A, 1.0), logdet(c * A, c)
    assert np.isclose(float(small), float(one) + N * np.log(c), atol=4 * float(small.stderr))
    assert np.isclose(float(effective_dimension(c * A, c)), float(effective_dimension(A, 1.0)), rtol=1e-4)


def test_too_few_steps_for_the_condition_show_in_the_error(float64):
    exact = np.geomspace(1e-8, 1, N)
    op = matrix_operator(symmetric(exact))
    coarse, fine = (logdet(op, 1e-6, steps=steps, probes=200) for steps in (5, 40))
    truth = FUNCTIONALS[logdet](exact, 1e-6)
    assert abs(float(coarse) - truth) > 4 * float(fine.stderr)
    assert abs(float(coarse) - truth) <= 3 * float(coarse.stderr)
    assert abs(float(fine) - truth) <= 3 * float(fine.stderr)


@pytest.mark.parametrize("functional", FUNCTIONALS)
def test_shift_that_does_not_make_it_positive_is_refused(functional):
    op = matrix_operator(symmetric(SPECTRA["indefinite"]).astype(np.float32))
    with pytest.raises(ValueError, match=r"shift .*(3|2\.9\d*) .*1"):
        functional(op, 1.0, steps=20, probes=20)


def test_shift_may_be_traced_without_recompiling_and_is_nan_where_refused_eagerly():
    op = matrix_operator(np.diag(np.r_[0.0, 1, 3]).astype(np.float32))
    traces = []

    @jax.jit
    def run(op, shift):
        traces.append(1)
        return logdet(op, shift).value, effective_dimension(op, shift).value

    for shift in (1.0, 2.0):
        det, dimension = run(op, shift)
        assert np.isclose(det, np.log(np.array([0, 1, 3]) + shift).sum(), rtol=1e-5)
        assert np.isclose(dimension, 1 / (1 + shift) + 3 / (3 + shift), rtol=1e-5)
    assert all(jnp.isnan(value) for value in run(op, -0.5))
    assert len(traces) == 1
