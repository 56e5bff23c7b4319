"""Thick-restart Lanczos step by step: what its subspace knows of the matrix stays true through restarts and checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import symmetric

from sharplab.spectrum.subspace import with_direction
from sharplab.spectrum.target import Target
from sharplab.spectrum.thick_restart import ThickRestart, next_direction

N, LIMIT = 60, 150
TOL = jnp.asarray(1e-9)
SPECTRA = {
    "close together": np.linspace(0, 1, N),
    "fivefold": np.r_[np.full(5, 2.0), np.linspace(0, 1, N - 5)],
    "nearly equal": np.r_[2.0005, 2.0, np.linspace(0, 1, N - 2)],
    "indefinite": np.linspace(-1, 1, N) ** 3,
    "the identity": np.ones(N),
    "zero": np.zeros(N),
}


def solver(k):
    return ThickRestart(Target("LA", k), TOL, jnp.asarray(LIMIT), jax.random.key(0), jnp.asarray(True))


def steps(matrix, k):
    """The state after each product, and whether the subspace was restarted before it."""
    lanczos = solver(k)
    state = lanczos.init(jax.random.normal(lanczos.key, (len(matrix),)))
    while not lanczos.terminate(state):
        restarted = lanczos.needs_restart(state)
        if restarted:
            state = lanczos.restart(state)
            assert not lanczos.needs_restart(state)
        assert lanczos.has_room(state)
        state = lanczos.step(state, matrix @ next_direction(state))
        yield state, bool(restarted)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long) if n in ("close together", "fivefold") else n for n in SPECTRA]
)
def test_rows_stay_orthonormal_and_hold_all_that_the_products_reach(name, float64):
    A = symmetric(SPECTRA[name])
    restarts = 0
    for found, restarted in steps(A, 3):
        restarts += restarted
        filled, in_use = int(found.space.filled), int(found.space.in_use)
        assert in_use <= len(found.space.projected)
        Q, unit = found.space.basis[:in_use], found.unit or 1  # of all but the basis
        assert np.allclose(Q @ Q.T, np.eye(in_use), atol=1e-12)
        assert np.allclose(found.space.projected[:filled, :in_use] @ Q, Q[:filled] @ A / unit, atol=1e-12)
    assert found.check.done
    assert np.allclose(unit * found.ritz.values[:3], np.sort(SPECTRA[name])[::-1][:3], atol=1e-7)
    assert restarts > 0 or name in ("the identity", "zero")


def test_a_domain_that_fits_the_basis_is_filled_without_a_restart(float64):
    values = np.linspace(1, 2, 8)
    *_, (found, _) = steps(symmetric(values), 8)
    assert found.space.filled == 8
    assert not any(restarted for _, restarted in steps(symmetric(values), 8))
    assert np.allclose(found.ritz.values[:8], values[::-1])


def test_no_check_begins_without_room_for_it(float64):
    """Each leaves a pending row behind, and what a restart keeps must have room beside them."""
    lanczos, done = solver(2), []
    space = lanczos.init(jnp.ones(N)).space
    for i in range(1, len(space.projected) - lanczos.target.kept - 1):
        done.append(bool(lanczos._no_check(space).done))
        space = with_direction(space, jnp.eye(N)[i], jnp.asarray(True))
    assert done == sorted(done)
    assert not done[0]
    assert done[-1]
