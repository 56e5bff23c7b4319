"""A growing subspace: what it knows of the matrix, residuals, restarts, and its being the Krylov space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import symmetric

from sharplab.spectrum import subspace
from sharplab.spectrum.subspace import (
    empty_subspace,
    residuals,
    restarted,
    ritz_pairs,
    ritz_values_from,
    rotated,
    with_direction,
)
from sharplab.spectrum.target import PREFERENCES

N, ROWS = 30, 12
A = symmetric(np.linspace(-1, 3, N) ** 3)
LARGEST = PREFERENCES["LA"]
NOTHING = np.zeros(ROWS)  # is known of the coefficients
with_product, orthonormal = jax.jit(subspace.with_product), jax.jit(subspace.orthonormal)


def with_random(space, seed):
    """A random vector as the next direction."""
    q, _, _ = orthonormal(space, jnp.asarray(np.random.default_rng(seed).standard_normal(N)), NOTHING)
    return with_direction(space, q, jnp.asarray(True))


def multiplied(space, products, matrix=A):
    for _ in range(products):
        space = with_product(space, matrix @ space.direction, 0.0)
    return space


def grown(products, matrix=A):
    """A subspace grown from one vector."""
    return multiplied(with_random(empty_subspace(jnp.zeros(N), ROWS), 0), products, matrix)


def grown_from_two():
    """Four products in, a random vector is taken in, so that two rows are pending, which are then mixed."""
    space = multiplied(with_random(grown(4), 1), 2)
    assert space.pending == 2
    return multiplied(rotated(space, jnp.arange(ROWS) - 8.0), 1)


def restarted_once():
    space = grown_from_two()
    return multiplied(restarted(space, ritz_pairs(space, LARGEST), 3), 2)


@pytest.mark.parametrize("make", [lambda: grown(6), grown_from_two, restarted_once])
def test_products_of_filled_rows_are_those_that_the_projection_says(make, float64):
    space = make()
    filled, in_use = int(space.filled), int(space.in_use)
    Q = space.basis[:in_use]
    assert np.allclose(Q @ Q.T, np.eye(in_use), atol=1e-14)
    assert np.allclose(space.projected[:filled, :in_use] @ Q, Q[:filled] @ A, atol=1e-12)
    assert np.allclose(space.projected, space.projected.T)
    assert space.asymmetry < 1e-12


def test_grown_from_one_vector_it_is_the_krylov_space(float64):
    space = grown(5)
    v = np.random.default_rng(0).standard_normal(N)
    krylov = np.linalg.qr(np.stack([np.linalg.matrix_power(A, i) @ v for i in range(5)], axis=1))[0]
    assert np.allclose(np.linalg.norm(krylov.T @ space.basis[:5].T, axis=0), 1, atol=1e-8)


@pytest.mark.parametrize("make", [lambda: grown(6), grown_from_two, restarted_once])
def test_residuals_are_those_of_the_ritz_pairs(make, float64):
    space = make()
    ritz = ritz_pairs(space, LARGEST)
    filled = int(space.filled)
    Y = ritz.coordinates[:, :filled].T @ space.basis
    true = Y @ A - ritz.values[:filled, None] * Y
    assert np.allclose(residuals(space, ritz)[:, :filled].T @ space.basis, true, atol=1e-12)
    assert ritz.used.sum() == filled
    assert np.all(np.diff(ritz.values[:filled]) < 0)


@pytest.mark.parametrize("weights", [(3.0, 4.0), (-3.0, 4.0), (0.0, 1.0), (1.0, 1e-9)])
def test_direction_turns_to_the_weights_of_the_pending_rows(weights, float64):
    space = with_random(grown(4), 1)
    after = rotated(space, jnp.r_[jnp.ones(4), jnp.array(weights), jnp.ones(ROWS - 6)])
    found, wanted = (space.basis @ after.direction)[:6], np.r_[np.zeros(4), weights] / np.linalg.norm(weights)
    assert np.allclose(found, wanted, atol=1e-8) or np.allclose(found, -wanted, atol=1e-8)


def test_nothing_turns_without_weights_of_pending_rows():
    space = with_random(grown(4), 1)
    assert np.array_equal(rotated(space, jnp.r_[jnp.ones(4), jnp.zeros(ROWS - 4)]).basis, space.basis)


def test_restart_keeps_the_first_ritz_pairs_with_their_residuals(float64):
    space = grown_from_two()
    ritz = ritz_pairs(space, LARGEST)
    smaller = restarted(space, ritz, 3)
    again = ritz_pairs(smaller, LARGEST)
    assert smaller.filled == 3
    assert smaller.pending == 2
    assert np.allclose(again.values[:3], ritz.values[:3])
    norms = [np.linalg.norm(residuals(s, r)[:, :3], axis=0) for s, r in ((smaller, again), (space, ritz))]
    assert np.allclose(*norms)
    left = space.basis[int(space.in_use) - 3]  # of what a restart left behind, nothing counts
    _, rest, _ = orthonormal(smaller, left, NOTHING)
    Q = smaller.basis[:5]
    assert np.isclose(rest, np.linalg.norm(left - Q.T @ (Q @ left)))
    assert rest > 0.1


def test_restart_hands_on_no_error_of_length(float64):
    space = grown(6)
    space = space._replace(basis=space.basis * (1 + 1e-9))
    rows = restarted(space, ritz_pairs(space, LARGEST), 3).basis[:3]
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, rtol=0, atol=1e-15)


def test_an_invariant_subspace_reaches_nothing_beyond_itself(float64):
    space = empty_subspace(jnp.zeros(N), ROWS)
    vectors = np.linalg.eigh(A)[1]
    start = jnp.asarray(vectors[:, [0, -1]].sum(axis=1) / np.sqrt(2))
    space = multiplied(with_direction(space, start, jnp.asarray(True)), 2)
    assert (space.filled, space.pending) == (2, 0)
    ritz = ritz_pairs(space, LARGEST)
    assert np.allclose(ritz.values[:2], [27, -1])
    assert not residuals(space, ritz).any()


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
    q, rest, part = orthonormal(space, inside, NOTHING)
    assert not q.any()
    assert rest == 0
    assert np.allclose(part[:4], [scale, 0, 0, 2 * scale], atol=1e-14 * scale)
    outside = inside + scale * 1e-6 * jnp.asarray(np.random.default_rng(1).standard_normal(N))
    q, rest, _ = orthonormal(space, outside, NOTHING)
    assert np.allclose(jnp.linalg.norm(q), 1)
    assert np.abs(space.basis[:4] @ q).max() < 1e-15 * 10
    assert 0 < rest < 1e-4 * scale


@pytest.mark.parametrize("known", [[], [0, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("off", [0, 1e-8, 3])
def test_what_is_known_of_coefficients_changes_nothing_but_the_work(known, off, float64):
    space = grown(4)
    inside = jnp.array([1.0, -2, 0, 0.5])
    v = inside @ space.basis[:4] + jnp.asarray(np.random.default_rng(2).standard_normal(N))
    expected = jnp.asarray(NOTHING).at[jnp.asarray(known, int)].set(off + inside[jnp.asarray(known, int)])
    for found, plain in zip(orthonormal(space, v, expected), orthonormal(space, v, NOTHING), strict=True):
        assert np.allclose(found, plain, rtol=0, atol=1e-14)
    assert np.allclose(space.basis[: int(space.in_use)] @ orthonormal(space, v, expected)[0], 0, atol=1e-15)
