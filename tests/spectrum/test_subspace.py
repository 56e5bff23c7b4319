"""A growing subspace: its projection, residuals, restarts, and its being the Krylov space when grown by residuals."""

import jax.numpy as jnp
import numpy as np
import pytest
from problems import symmetric

from sharplab.spectrum.search import PREFERENCES
from sharplab.spectrum.subspace import (
    absorb,
    empty_subspace,
    orthonormal,
    residual,
    residual_norms,
    restarted,
    ritz_pairs,
    ritz_values_from,
)

N, ROWS = 30, 8
A = symmetric(np.linspace(-1, 3, N) ** 3)
LARGEST = PREFERENCES["LA"]


def grown(products, matrix=A):
    """A subspace grown from one vector by the residual of its top Ritz pair."""
    space = empty_subspace(jnp.zeros(N), ROWS)
    candidate = jnp.asarray(np.random.default_rng(0).standard_normal(N))
    for _ in range(products):
        q, _ = orthonormal(space, candidate)
        space = absorb(space, q, matrix @ q)
        candidate = residual(space, ritz_pairs(space, LARGEST), jnp.asarray(0))
    return space


def test_projection_and_products_are_those_of_the_basis(float64):
    space = grown(6)
    Q, W = space.basis[:6], space.products[:6]
    assert np.allclose(Q @ Q.T, np.eye(6), atol=1e-14)
    assert np.allclose(W, Q @ A, atol=1e-12)
    assert np.allclose(space.projected[:6, :6], Q @ A @ Q.T, atol=1e-12)
    assert space.asymmetry < 1e-12


def test_grown_by_residuals_it_is_the_krylov_space(float64):
    space = grown(5)
    v = np.random.default_rng(0).standard_normal(N)
    krylov = np.linalg.qr(np.stack([np.linalg.matrix_power(A, i) @ v for i in range(5)], axis=1))[0]
    assert np.allclose(np.linalg.norm(krylov.T @ space.basis[:5].T, axis=0), 1, atol=1e-8)


def test_residuals_are_measured(float64):
    space = grown(6)
    ritz = ritz_pairs(space, LARGEST)
    Y = ritz.coordinates[:, :3].T @ space.basis
    true = np.linalg.norm(Y @ A - ritz.values[:3, None] * Y, axis=1)
    assert np.allclose(residual_norms(space, ritz, 3), true, rtol=1e-10)
    assert ritz.used.sum() == 6
    assert np.all(np.diff(ritz.values[:6]) < 0)


def test_restart_keeps_the_first_ritz_pairs_with_their_residuals(float64):
    space = grown(ROWS)
    ritz = ritz_pairs(space, LARGEST)
    smaller = restarted(space, ritz, 3)
    again = ritz_pairs(smaller, LARGEST)
    assert smaller.filled == 3
    assert np.allclose(again.values[:3], ritz.values[:3])
    assert np.allclose(residual_norms(smaller, again, 3), residual_norms(space, ritz, 3))
    assert np.allclose(smaller.products[:3], smaller.basis[:3] @ A, atol=1e-12)
    _, rest = orthonormal(smaller, space.basis[7])  # of what a restart left behind, nothing counts
    assert np.isclose(rest, np.linalg.norm(space.basis[7] - smaller.basis[:3].T @ (smaller.basis[:3] @ space.basis[7])))


def test_ritz_values_of_the_later_rows_alone(float64):
    space = grown(6)
    values, used = ritz_values_from(space, jnp.asarray(2))
    Q = space.basis[2:6]
    assert np.allclose(values[used], np.linalg.eigvalsh(Q @ A @ Q.T))
    assert used.sum() == 4


def test_asymmetry_of_products_is_seen(float64):
    skewed = A + np.triu(np.full((N, N), 0.01))
    assert grown(4, skewed).asymmetry > 1e-3


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_orthonormal_drops_what_is_in_the_basis_at_any_scale(scale, float64):
    space = grown(4)
    inside = scale * (space.basis[0] + 2 * space.basis[3])
    q, rest = orthonormal(space, inside)
    assert not q.any()
    assert rest == 0
    outside = inside + scale * 1e-6 * jnp.asarray(np.random.default_rng(1).standard_normal(N))
    q, rest = orthonormal(space, outside)
    assert np.allclose(jnp.linalg.norm(q), 1)
    assert np.abs(space.basis[:4] @ q).max() < 1e-15 * 10
    assert 0 < rest < 1e-4 * scale
