"""The Lanczos process: its decomposition holds, its basis is orthonormal, through restarts too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import symmetric

from sharplab.spectrum.lanczos import lanczos_step, ritz_pairs, start_lanczos, thick_restart

N, ROWS, KEPT = 40, 12, 4


step = jax.jit(lambda A, state: lanczos_step(lambda v: A @ v, state))
ritz = jax.jit(ritz_pairs)
start = jax.jit(start_lanczos, static_argnums=1)


@jax.jit
def restart(state):
    pairs = ritz_pairs(state)
    return thick_restart(state, pairs, pairs.values, KEPT)


def run(A, steps, rows=ROWS):
    """The Lanczos state after `steps` products, with a restart whenever the basis is full."""
    A = jnp.asarray(A)
    state = start(jnp.asarray(np.random.default_rng(2).standard_normal(len(A)), A.dtype), rows)
    for _ in range(steps):
        state = step(A, restart(state) if state.filled == rows else state)
    return state


@pytest.mark.parametrize("steps", [1, 7, ROWS, ROWS + 1, 3 * ROWS])
def test_decomposition_holds_and_the_basis_is_orthonormal(float64, steps):
    A = symmetric(np.linspace(-2, 5, N))
    state = run(A, steps)
    m = int(state.filled)
    Q, T = np.asarray(state.basis)[: m + 1], np.asarray(state.projected)[:m, :m]
    tolerance = 100 * np.finfo(np.float64).eps * 5
    assert np.abs(Q @ Q.T - np.eye(m + 1)).max() < tolerance
    assert np.abs(T - Q[:m] @ A @ Q[:m].T).max() < tolerance
    residual = A @ Q[:m].T - Q[:m].T @ T
    residual[:, -1] -= float(state.beta) * Q[m]
    assert np.abs(residual).max() < tolerance


def test_float32_basis_stays_orthonormal_over_restarts():
    state = run(symmetric(np.geomspace(1e-8, 1, N)).astype(np.float32), 60)
    Q = np.asarray(state.basis)[: int(state.filled) + 1]
    assert np.abs(Q @ Q.T - np.eye(len(Q))).max() < 10 * np.finfo(np.float32).eps


def test_full_space_gives_all_eigenvalues(float64):
    exact = np.linspace(-2, 5, 8)
    state = run(symmetric(exact), 8, rows=8)
    pairs = ritz(state)
    assert np.allclose(pairs.values, exact, atol=1e-12)
    assert bool(pairs.used.all())


def test_exhausted_space_ends_the_recurrence(float64):
    state = run(symmetric(np.r_[np.ones(N - 2), 2.0, 3.0]), 3)
    assert state.beta == 0
    assert np.all(np.asarray(state.basis)[3] == 0)


def test_ritz_residuals_are_those_of_the_matrix(float64):
    A = symmetric(np.linspace(-2, 5, N))
    state = run(A, ROWS + 3)
    pairs = ritz(state)
    for i in np.flatnonzero(pairs.used):
        v = np.asarray(state.basis)[:-1].T @ np.asarray(pairs.coordinates)[:, i]
        assert np.isclose(np.linalg.norm(A @ v - pairs.values[i] * v), pairs.residuals[i], atol=1e-12)


def test_asymmetry_sees_the_rounding_of_the_product():
    A = symmetric(np.linspace(-2, 5, N)).astype(np.float32)
    noise = jax.random.normal(jax.random.key(0), (N, N)) * 1e-3  # not symmetric
    exact, noisy = run(A, 10).asymmetry, run(A + noise, 10).asymmetry
    assert exact < 1e-5
    assert noisy > 1e-4
