"""Stochastic Lanczos quadrature against spectra known exactly: rules, moments, densities, and their errors."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from flax import nnx
from problems import cast, matrix_operator, symmetric

from sharplab.curvature import LinearOperator, hessian
from sharplab.plotting import draw_density
from sharplab.spectrum.density import spectral_density
from sharplab.spectrum.stochastic import trace

N = 60
BUDGET = {"steps": 16, "probes": 24}  # one program for many tests

SPECTRA = {
    "clustered": np.r_[1 + 1e-6 * np.arange(5), np.linspace(-0.5, 0.7, N - 5)],
    "rank one": np.r_[np.zeros(N - 1), 3.0],
    "rank five": np.r_[np.zeros(N - 5), np.arange(1.0, 6)],
    "zero": np.zeros(N),
    "identity": np.ones(N),
    "indefinite": np.linspace(-3, 1, N),
    "condition 1e8": np.geomspace(1e-8, 1, N),
    "outliers": np.r_[np.linspace(-0.1, 0.1, N - 3), 3, 5, 10],
}


def operator(spectrum, dtype=np.float64):
    return matrix_operator(symmetric(SPECTRA[spectrum]).astype(dtype))


def smoothed(exact, grid, width):
    bumps = np.exp(-(((grid[:, None] - exact) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    return bumps.mean(axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_rules_are_probabilities_on_the_spectrum_and_agree_with_its_moments(spectrum, dtype):
    exact = SPECTRA[spectrum]
    with jax.enable_x64(dtype == np.float64):
        found = spectral_density(operator(spectrum, dtype), **BUDGET)
        eps = 100 * np.finfo(dtype).eps * max(np.abs(exact).max(), 1e-30)
        assert found.nodes.shape == found.weights.shape == (24, 16)
        assert np.all(np.asarray(found.weights) >= 0)
        assert np.allclose(found.weights.sum(axis=1), 1, atol=1e-5)
        assert np.all(np.diff(found.nodes, axis=1) >= -eps)
        assert found.nodes.min() >= exact.min() - eps
        assert found.nodes.max() <= exact.max() + eps
        for p in (0, 1, 2, 3):
            error = abs(float(found.moment(p)) - np.mean(exact**p))
            assert error <= 4 * float(found.moment_stderr(p)) + eps * np.abs(exact).max() ** max(p - 1, 0), p


@pytest.mark.parametrize("spectrum, products", [("rank one", 2), ("rank five", 6), ("zero", 1), ("identity", 1)])
def test_exhausted_space_ends_early_with_exact_rules(float64, spectrum, products):
    op = operator(spectrum)
    found = spectral_density(op, **BUDGET)
    # One product more where rounding alone looks like a direction.
    assert 24 * products <= found.matvecs <= 24 * (products + (products > 2))
    assert np.all(np.sum(np.asarray(found.weights) > 0, axis=1) <= products + (products > 2))
    used = np.asarray(found.nodes)[np.asarray(found.weights) > 1e-12]
    assert np.abs(used[:, None] - SPECTRA[spectrum]).min(axis=1).max() < 1e-12
    # A high moment would tell a rule that is not exact.
    for probe, nodes, weights in zip(probes(24), found.nodes, found.weights, strict=True):
        exact = probe @ np.linalg.matrix_power(np.asarray(op.args), 40) @ probe / N
        assert np.isclose(np.sum(weights * nodes**40), exact, rtol=1e-10, atol=1e-12)


def probes(count):
    keys = jax.random.split(jax.random.key(0), count)
    return [np.asarray(jax.random.rademacher(jax.random.split(k, 1)[0], (N,), jnp.float64)) for k in keys]


def test_rule_of_m_steps_is_exact_up_to_degree_2m_minus_1(float64):
    op = operator("indefinite")
    found = spectral_density(op, steps=5, probes=2)
    power = np.eye(N)
    for p in range(12):
        exact = [z @ power @ z / N for z in probes(2)]
        given = np.sum(found.weights * found.nodes**p, axis=1)
        assert np.allclose(given, exact, rtol=1e-10) == (p <= 9), p
        power = power @ np.asarray(op.args)


def test_fewer_dimensions_than_steps_give_the_whole_spectrum(float64):
    exact = np.array([-1.0, 0.5, 2, 7])
    found = spectral_density(matrix_operator(symmetric(exact)), steps=64, probes=2)
    assert found.nodes.shape == (2, 4)
    assert np.allclose(found.nodes, exact, atol=1e-12)
    assert found.matvecs == 8


def test_one_dimension_is_exact():
    found = spectral_density(matrix_operator(np.array([[2.5]], np.float32)))
    assert np.allclose(found.nodes, 2.5)
    assert abs(float(found.moment(2)) - 6.25) < 1e-5


def test_density_is_the_smoothed_spectrum_within_its_error(float64):
    exact = np.sort(np.random.default_rng(0).standard_normal(300))
    found = spectral_density(matrix_operator(symmetric(exact)), steps=40, probes=20)
    grid = np.linspace(-6, 6, 401)
    for width in (0.3, None):
        density, error = found.density(grid, width), found.density_stderr(grid, width)
        truth = smoothed(exact, grid, float(found.default_width(grid)) if width is None else width)
        assert density.shape == error.shape == grid.shape
        assert abs(np.trapezoid(density, grid) - 1) < 1e-6
        assert np.mean(np.abs(density - truth) <= 3 * error + 1e-12) >= 0.95
        assert np.abs(density - truth).max() <= 0.1 * truth.max()


def test_outliers_stand_apart_with_their_share(float64):
    found = spectral_density(operator("outliers"), **BUDGET)
    for outlier in (3, 5, 10):
        share = found.integrate(lambda x, outlier=outlier: jnp.abs(x - outlier) < 0.5)
        assert abs(float(share) - 1 / N) <= 3 * float(share.stderr)
        assert 0 < share.stderr < 0.5 / N


def test_density_of_a_zero_operator_is_finite_and_at_zero():
    found = spectral_density(operator("zero", np.float32), **BUDGET)
    grid = np.linspace(-1, 1, 201)
    density = found.density(grid)
    assert np.isfinite(density).all()
    assert density.argmax() == 100
    assert abs(np.trapezoid(density, grid) - 1) < 1e-3
    assert np.isfinite(found.density(0.0))


def test_quadrature_error_is_seen_where_steps_are_too_few(float64):
    """A functional that 6 steps do not resolve: the error over probes alone would be 5 times too small."""
    exact = np.linspace(0, 1, N)
    op = matrix_operator(symmetric(exact))
    found = spectral_density(op, steps=6, probes=2000)
    narrow = found.integrate(lambda x: jnp.exp(-(((x - 0.5) / 0.03) ** 2)))
    truth = np.exp(-(((exact - 0.5) / 0.03) ** 2)).mean()
    sampling = np.std(np.sum(found.weights * np.exp(-(((found.nodes - 0.5) / 0.03) ** 2)), axis=1)) / np.sqrt(2000)
    assert abs(float(narrow) - truth) > 5 * sampling
    assert abs(float(narrow) - truth) <= 2 * float(narrow.stderr)


def test_two_moments_agree_with_traces_within_both_errors_on_a_network():
    rng = np.random.default_rng(0)
    params = {"a": rng.standard_normal((5, 6)), "b": rng.standard_normal((6, 3)) / 2}
    op = hessian(network_loss, cast(params, np.float32), cast(tuple(rng.standard_normal((2, 20, 5))), np.float32))
    eigenvalues = np.linalg.eigvalsh(np.asarray(op.dense(), np.float64))
    size = op.shape[0]
    found = spectral_density(op, steps=20, probes=30)
    squared = LinearOperator(square, op, op.domain)
    for p, power in ((1, op), (2, squared)):
        other, exact = trace(power, matvecs=30), np.mean(eigenvalues**p)
        error = np.hypot(float(found.moment_stderr(p)), float(other.stderr) / size)
        assert abs(float(found.moment(p)) - float(other) / size) <= 3 * error
        assert abs(float(found.moment(p)) - exact) <= 3 * float(found.moment_stderr(p))


def network_loss(params, batch):
    inputs, targets = batch
    outputs = jnp.tanh(inputs @ params["a"]) @ params["b"]
    return jnp.mean((outputs - targets[:, :3]) ** 2)


def square(op):
    product = op.matvec()
    return lambda v: product(product(v))


def test_standard_errors_are_as_large_as_the_errors(float64):
    """Over 300 keys: root mean square error ÷ root mean square stderr within 0.8–1.25, 95 % t-intervals cover 85 %."""
    A = symmetric(np.linspace(-1, 2, N))
    keys = jax.random.split(jax.random.key(7), 300)

    @jax.jit
    def run(A, keys):
        def one(key):
            found = spectral_density(matrix_operator(A), steps=8, probes=8, key=key)
            return found.integrate(jnp.exp)

        return jax.lax.map(one, keys)

    found = run(A, keys)
    error, stderr = np.asarray(found.value) - np.exp(np.linspace(-1, 2, N)).mean(), np.asarray(found.stderr)
    ratio = np.sqrt(np.mean(error**2) / np.mean(stderr**2))
    assert 0.8 <= ratio <= 1.25, ratio
    assert np.mean(np.abs(error) <= 2.365 * stderr) >= 0.85


def test_params_may_be_any_pytree():
    exact = np.array([-5.0, -2, 0, 0.5, 1, 2, 3, 7])
    params = ({"w": jnp.zeros(())}, nnx.State({"layer": {"w": nnx.Param(jnp.zeros((2, 3))), "b": jnp.zeros(1)}}))
    found = spectral_density(matrix_operator(symmetric(exact).astype(np.float32), params), probes=2)
    assert np.allclose(found.nodes, exact, atol=1e-4)


def test_jit_dispatch_and_eager_agree(float64):
    A = jnp.asarray(symmetric(SPECTRA["indefinite"]))
    op = matrix_operator(A)
    eager = spectral_density(op, **BUDGET, key=jax.random.key(4))
    jitted = jax.jit(lambda op, key: spectral_density(op, **BUDGET, key=key))(op, jax.random.key(4))
    from_host = LinearOperator(op.prepare, A, op.domain, jittable=False)
    dispatched = spectral_density(from_host, **BUDGET, key=jax.random.key(4))
    for found in (jitted, dispatched):
        assert np.allclose(found.nodes, eager.nodes, atol=1e-12)
        assert np.allclose(found.weights, eager.weights, atol=1e-12)
        assert found.matvecs == eager.matvecs == 16 * 24
        assert found.size == N


@pytest.mark.parametrize("exponent", [-90, 90])
def test_multiples_of_an_operator_have_the_multiples_of_its_rules(exponent):
    """By powers of two bit by bit, though squares of the products leave the range of float32."""
    one, other = (
        spectral_density(factor * operator("indefinite", np.float32), **BUDGET) for factor in (1, 2.0**exponent)
    )
    assert np.array_equal(other.nodes, one.nodes * 2.0**exponent) and np.array_equal(other.weights, one.weights)
    assert np.array_equal(other.coarser.nodes, one.coarser.nodes * 2.0**exponent) and other.matvecs == one.matvecs


def test_another_key_means_other_probes():
    op = operator("indefinite", np.float32)
    first, second = (spectral_density(op, **BUDGET, key=jax.random.key(i)) for i in (1, 2))
    assert not np.allclose(first.nodes, second.nodes, atol=1e-3)


def test_bad_arguments_and_products_are_named():
    op = operator("indefinite", np.float32)
    with pytest.raises(ValueError, match=r"steps .*1"):
        spectral_density(op, steps=1)
    with pytest.raises(ValueError, match=r"probes .*1"):
        spectral_density(op, probes=1)
    with pytest.raises(ValueError, match=r"op .*function"):
        spectral_density(lambda v: v)
    with pytest.raises(ValueError, match="not finite"):
        spectral_density(matrix_operator(np.full((N, N), np.nan, np.float32)), **BUDGET)
    from_host = LinearOperator(op.prepare, op.args, op.domain, jittable=False)
    with pytest.raises(ValueError, match=r"op .*jit"):
        jax.jit(lambda: spectral_density(from_host).nodes)()


def test_new_arrays_do_not_recompile():
    traces = []

    def prepare(d):
        traces.append(1)
        return lambda v: d * v

    def top(d):
        return float(spectral_density(LinearOperator(prepare, d, jnp.zeros(4))).nodes.max())

    assert abs(top(jnp.array([1.0, 2.0, 3.0, 9.0])) - 9) < 1e-4
    compiled = len(traces)
    assert abs(top(jnp.array([8.0, 2.0, 3.0, 1.0])) - 8) < 1e-4
    # Looking for convolutions traces the product once per call; the solver itself is not traced again.
    assert len(traces) <= compiled + 1


@pytest.mark.parametrize(
    "exact, inset",
    [(np.r_[np.linspace(-0.1, 0.1, 400), 3, 10], True), (np.linspace(-3, 1, N), False), (np.zeros(N), False)],
    ids=["outliers", "even", "zero"],
)
def test_picture_shows_all_eigenvalues_and_zooms_into_a_narrow_bulk(exact, inset):
    figure, ax = plt.subplots()
    draw_density(ax, spectral_density(matrix_operator(symmetric(exact).astype(np.float32)), **BUDGET), exact)
    low, high = ax.get_xlim()
    assert low < exact.min() <= exact.max() < high
    assert ax.get_yscale() == "log"
    grid, drawn = ax.lines[0].get_data()
    assert abs(np.trapezoid(drawn, grid) - 1) < 0.05
    for eigenvalue in (exact.min(), exact.max()):
        assert drawn[np.abs(grid - eigenvalue).argmin()] > ax.get_ylim()[0]
    assert len(ax.child_axes) == inset
    if inset:
        left, right = ax.child_axes[0].get_xlim()
        assert left < -0.1 < 0.1 < right < 1
    plt.close(figure)
