"""`eigsh` with a bounded basis: the same answers and error estimates in fewer vectors, and memory that shows it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import matrix_operator, symmetric

from sharplab.curvature import LinearOperator
from sharplab.spectrum import eigsh, extremal
from sharplab.spectrum.target import Target
from sharplab.spectrum.thick_restart import ThickRestart, next_direction

N = 80
SPECTRA = {
    "clustered top": np.r_[1 + 1e-6 * np.arange(5), np.linspace(-0.5, 0.7, N - 5)],
    "repeated top": np.r_[np.ones(5), np.linspace(-0.5, 0.7, N - 5)],
    "indefinite": np.linspace(-1, 1, N) ** 3,
    "negative": -np.r_[np.linspace(1, 2, 10), np.linspace(3, 5, N - 10)],
    "outliers": np.r_[np.linspace(0.1, 1, 10), 0.01 * np.linspace(-1, 1, N - 10)],
    "zero": np.zeros(N),
}


def wanted(exact, k, which):
    ordered = np.sort(exact)
    if which == "BE":
        return np.array([ordered[-1 - i // 2] if i % 2 == 0 else ordered[i // 2] for i in range(k)])
    return ordered[np.argsort({"LA": -ordered, "SA": ordered, "LM": -np.abs(ordered)}[which], kind="stable")][:k]


def check(pairs, A, exact, k, which, tol):
    right = wanted(exact, k, which)
    signed = np.abs if which == "LM" else np.asarray  # of ±θ either may come first
    errors = np.abs(signed(pairs.values) - signed(right))
    assert pairs.converged.all()
    assert (errors <= np.maximum(1.001 * tol * np.abs(right), pairs.floor)).all(), (errors, right)
    vectors = np.asarray(pairs.vectors)
    assert np.allclose(vectors @ vectors.T, np.eye(k), atol=1e-10)
    residuals = np.linalg.norm(vectors @ A - np.asarray(pairs.values)[:, None] * vectors, axis=1)
    assert (residuals <= 1.001 * pairs.residuals).all()


@pytest.mark.parametrize("k, which, basis", [(1, "LA", 4), (1, "LM", 7), (3, "LA", 6), (4, "BE", 9)])
def test_few_vectors_find_what_many_do(k, which, basis, float64):
    for name, exact in SPECTRA.items():
        A, tol = symmetric(exact), 1e-4
        few = eigsh(matrix_operator(A), k, which=which, tol=tol, basis=basis, max_matvecs=1200)
        assert few.matvecs <= 1200
        try:
            check(few, A, exact, k, which, tol)
        except AssertionError as error:
            raise AssertionError(name) from error


def test_one_eigenvalue_takes_hardly_more_products_in_four_vectors():
    spectra = [SPECTRA["outliers"], np.linspace(0, 1, N), np.arange(1, N + 1) ** -0.5, SPECTRA["indefinite"]]
    few, many = [], []
    for seed, exact in enumerate(spectra * 2):
        op, key = matrix_operator(symmetric(exact, seed=seed).astype(np.float32)), jax.random.key(seed)
        few.append(int(eigsh(op, tol=1e-2, basis=4, key=key).matvecs))
        many.append(int(eigsh(op, tol=1e-2, key=key).matvecs))
    assert (np.array(few) <= 1.6 * np.array(many)).all(), (few, many)


def test_rows_stay_orthonormal_and_hold_all_that_the_products_reach(float64):
    A = symmetric(SPECTRA["indefinite"])
    solver = ThickRestart(Target("LA", 1, 4), jnp.asarray(1e-9), jnp.asarray(60), jax.random.key(0))
    state, step = solver.init(jnp.ones(N)), jax.jit(lambda state: solver.step(state, A @ next_direction(state)))
    for _ in range(40):
        state = step(state)
        filled, in_use = int(state.space.filled), int(state.space.in_use)
        assert in_use <= 4
        Q, unit = state.space.basis[:in_use], state.unit
        assert np.allclose(Q @ Q.T, np.eye(in_use), atol=1e-12)
        assert np.allclose(state.space.projected[:filled, :in_use] @ Q, Q[:filled] @ A / unit, atol=1e-12)
    y = state.space.basis[0]
    assert np.isclose(y @ A @ y, unit * state.ritz.values[0])
    assert np.isclose(np.linalg.norm(A @ y - (y @ A @ y) * y), unit * state.residuals[0])


def test_memory_grows_by_the_vectors_of_the_basis_alone():
    size = 2_000_000  # many times what is combined at a time
    op = LinearOperator(lambda d: lambda v: d * v, jnp.ones(size), jnp.zeros(size))

    def vectors(k, basis):
        solver = ThickRestart(Target("LA", k, basis), jnp.asarray(1e-3), jnp.asarray(9), jax.random.key(0))
        program = extremal._run_in_place.lower(solver, op, op.domain[None], flat=True, loop="compiled").compile()
        return program.memory_analysis().temp_size_in_bytes / (4 * size)

    few, more = vectors(1, 4), vectors(1, 8)
    assert few <= 4 + 2.6, few  # rows, the product, and a copy of it
    assert abs(more - few - 4) <= 0.3, (few, more)


@pytest.mark.long
def test_under_jit_from_a_start_and_in_a_domain_of_leaves():
    A = symmetric(SPECTRA["outliers"]).astype(np.float32)
    op = matrix_operator(A, {"w": jnp.zeros((4, 10)), "b": jnp.zeros(40)})
    eager = eigsh(op, 2, basis=6)
    jitted = jax.jit(lambda op: eigsh(op, 2, basis=6))(op)
    assert np.allclose(jitted.values, eager.values, rtol=1e-5)
    again = eigsh(op, 1, basis=4, start=eager.vectors)
    assert np.isclose(again.values[0], 1, rtol=1e-3) and again.matvecs < eigsh(op, 1, basis=4).matvecs
    assert jax.tree.map(jnp.shape, again.vectors) == {"w": (1, 4, 10), "b": (1, 40)}


def test_bad_basis_is_named_and_an_ample_one_is_thick_restart():
    op = matrix_operator(symmetric(SPECTRA["outliers"]).astype(np.float32))
    for k, basis in ((1, 3), (2, 4), (1, 0), (1, 4.5), (1, True)):
        with pytest.raises(ValueError, match="basis"):
            eigsh(op, k, basis=basis)
    with pytest.raises(ValueError, match="max_matvecs"):
        eigsh(op, 3, basis=6, max_matvecs=5)
    ample, default = eigsh(op, 2, basis=18), eigsh(op, 2)
    assert np.array_equal(ample.values, default.values) and ample.matvecs == default.matvecs
    nan = jax.jit(lambda op: eigsh(op, 2, basis=5))(matrix_operator(np.full((N, N), np.nan, np.float32)))
    assert np.isnan(nan.values).all() and not nan.converged.any()
