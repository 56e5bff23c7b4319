"""Trace and diagonal estimators: exact limits, errors that are honest, and fewer products where spectra decay."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import matrix_operator, symmetric

from sharplab.curvature import LinearOperator
from sharplab.spectrum.stochastic import diagonal, trace

N = 60
METHODS = ("hutchinson", "hutch++", "xtrace")
SPECTRA = {
    "decaying": 1 / np.arange(1, N + 1) ** 2,
    "flat": np.linspace(1, 3, N),
    "indefinite": np.linspace(-1, 2, N),
    "outliers": np.r_[np.linspace(-0.1, 0.1, N - 3), 3, 5, 10],
}
LOW_RANK = {"rank one": np.r_[np.zeros(N - 1), 3.0], "rank five": np.r_[np.zeros(N - 5), np.arange(1.0, 6)]}
KEYS = 400


@partial(jax.jit, static_argnames="method")
def traces(A, keys, method):
    return jax.lax.map(lambda key: trace(matrix_operator(A), method=method, matvecs=24, key=key), keys)


@cache
def errors_and_stderrs(method, spectrum):
    """Of 24 products with each of many keys, float64."""
    with jax.enable_x64(True):
        exact = SPECTRA[spectrum]
        found = traces(jnp.asarray(symmetric(exact)), jax.random.split(jax.random.key(3), KEYS), method)
        return np.asarray(found.value) - exact.sum(), np.asarray(found.stderr)


def rms(x):
    return np.sqrt(np.mean(x**2))


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("method", METHODS)
def test_standard_errors_are_honest_and_there_is_no_bias(method, spectrum):
    """Root mean squares of error and stderr agree within 0.65–1.25, two standard errors cover 85 %."""
    error, stderr = errors_and_stderrs(method, spectrum)
    assert abs(error.mean()) <= 3.5 * rms(error) / np.sqrt(KEYS)
    assert 0.65 <= rms(error) / rms(stderr) <= 1.25
    assert np.mean(np.abs(error) <= 2 * stderr) >= 0.85


def test_variance_of_hutchinson_is_the_known_one():
    """2 (‖A‖² − Σ A_ii²)/m for random signs."""
    error, _ = errors_and_stderrs("hutchinson", "indefinite")
    A = symmetric(SPECTRA["indefinite"])
    exact = np.sqrt(2 * (np.sum(A**2) - np.sum(np.diag(A) ** 2)) / 24)
    assert abs(rms(error) / exact - 1) < 0.15


@pytest.mark.parametrize("spectrum, gain", [("decaying", 10), ("outliers", 10)])
def test_sketches_beat_hutchinson_where_the_spectrum_decays(spectrum, gain):
    plain, sketched, exchanged = (rms(errors_and_stderrs(method, spectrum)[0]) for method in METHODS)
    assert gain * sketched < plain
    assert gain * exchanged < plain
    assert exchanged < sketched


@pytest.mark.parametrize("method", METHODS)
def test_errors_of_tiny_operators_do_not_underflow(method):
    matrix = symmetric(np.arange(40.0))
    plain, tiny = (
        trace(matrix_operator(jnp.float32(unit * matrix)), matvecs=20, method=method) for unit in (1.0, 2.0**-90)
    )
    assert plain.stderr > 0
    assert float(tiny) * 2.0**90 == pytest.approx(float(plain), rel=1e-4)
    assert float(tiny.stderr) * 2.0**90 == pytest.approx(float(plain.stderr), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spectrum", LOW_RANK)
@pytest.mark.parametrize("method", ["hutch++", "xtrace"])
def test_low_rank_within_the_sketch_is_exact_but_for_rounding(method, spectrum, dtype):
    exact = LOW_RANK[spectrum]
    with jax.enable_x64(dtype == np.float64):
        found = trace(matrix_operator(symmetric(exact).astype(dtype)), method=method, matvecs=24)
        eps = np.finfo(dtype).eps
        assert abs(float(found) - exact.sum()) <= 4 * float(found.stderr)
        assert 0 < found.stderr <= 100 * eps * exact.sum()


@pytest.mark.parametrize("method", METHODS)
def test_zero_operator_has_trace_zero_with_no_error(method):
    found = trace(matrix_operator(np.zeros((N, N), np.float32)), method=method, matvecs=24)
    assert found.value == found.stderr == 0


@pytest.mark.parametrize("method", METHODS)
def test_as_many_products_as_rows_are_exact(float64, method):
    A = symmetric(SPECTRA["indefinite"])
    found = trace(matrix_operator(A), method=method, matvecs=N)
    assert np.isclose(float(found), np.trace(A), rtol=1e-12)
    assert found.stderr < 1e-12
    assert found.matvecs == N


@pytest.mark.parametrize("method, products", [("hutchinson", 11), ("hutch++", 11), ("xtrace", 10)])
def test_products_are_counted_and_within_the_budget(method, products):
    made = []

    def prepare(A):
        def product(v):
            made.append(1)
            return A @ v

        return product

    A = jnp.asarray(symmetric(SPECTRA["indefinite"]), jnp.float32)
    from_host = LinearOperator(prepare, A, jnp.zeros(N), jittable=False)
    found = trace(from_host, method=method, matvecs=11)
    assert found.matvecs == len(made) == products
    compiled = trace(matrix_operator(A), method=method, matvecs=11)
    assert np.isclose(float(found), float(compiled), rtol=1e-3)
    assert np.isclose(found.stderr, compiled.stderr, rtol=1e-3)


def test_models_that_convolve_are_estimated_too():
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 1, 1)), jnp.float32)
    image = jnp.zeros((1, 5, 5, 1))
    op = LinearOperator(correlate_twice, kernel, image)
    exact = np.trace(op.dense())
    for found in (trace(op, method="hutchinson", matvecs=20), trace(op, matvecs=20), trace(op)):
        assert abs(float(found) - exact) <= 4 * float(found.stderr) + 1e-4 * exact


def correlate_twice(kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")

    def correlate(x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dimensions)

    def product(v):
        return jax.linear_transpose(correlate, v)(correlate(v))[0]

    return product


def test_diagonal_is_found_with_errors_of_the_right_size(float64):
    """Over the entries of many estimates, rms error ÷ rms stderr within 0.9–1.1, two standard errors cover 90 %."""
    A = symmetric(np.linspace(-1, 2, N)) + np.diag(np.arange(N) / 10)

    @jax.jit
    def run(A, keys):
        return jax.lax.map(lambda key: diagonal(matrix_operator(A), matvecs=20, key=key), keys)

    found = run(A, jax.random.split(jax.random.key(0), 50))
    error, stderr = np.asarray(found.value) - np.diag(A), np.asarray(found.stderr)
    assert 0.9 <= rms(error) / rms(stderr) <= 1.1
    assert np.mean(np.abs(error) <= 2 * stderr) >= 0.9
    variance = (np.sum(A**2, axis=1) - np.diag(A) ** 2) / 20
    assert np.allclose(np.mean(stderr**2, axis=0), variance, rtol=0.3)


@pytest.mark.parametrize("matvecs", [6, 8])
def test_diagonal_is_shaped_like_params(matvecs):
    domain = ({"w": jnp.zeros(())}, nnx.State({"layer": {"w": nnx.Param(jnp.zeros((2, 3))), "b": jnp.zeros(1)}}))
    entries = jnp.arange(8.0)
    op = matrix_operator(np.diag(entries), domain)
    for jittable in (True, False):
        found = diagonal(LinearOperator(op.prepare, op.args, domain, jittable=jittable), matvecs=matvecs)
        for part in (found.value, found.stderr):
            assert jax.tree.structure(part) == jax.tree.structure(domain)
            assert jax.tree.map(jnp.shape, part) == jax.tree.map(jnp.shape, domain)
        flat = jax.flatten_util.ravel_pytree(found.value)[0]
        assert np.allclose(flat, entries, atol=1e-5)  # of a diagonal matrix, signs give the diagonal exactly
        assert found.matvecs == matvecs
    assert abs(float(trace(op, matvecs=matvecs, method="hutchinson")) - 28) < 1e-4


def test_bad_arguments_and_products_are_named():
    op = matrix_operator(np.eye(N, dtype=np.float32))
    with pytest.raises(ValueError, match="method 'xtrac'"):
        trace(op, method="xtrac")
    with pytest.raises(ValueError, match=r"matvecs .*3"):
        trace(op, matvecs=3)
    with pytest.raises(ValueError, match=r"matvecs .*0"):
        diagonal(op, matvecs=0)
    nan = matrix_operator(np.full((N, N), np.nan, np.float32))
    for method in METHODS:
        with pytest.raises(ValueError, match="not finite"):
            trace(nan, method=method, matvecs=24)
    with pytest.raises(ValueError, match="not finite"):
        diagonal(nan, matvecs=9)
    assert jnp.isnan(traces(nan.args, jax.random.split(jax.random.key(0), 2), "hutchinson").value).all()
