"""The search step by step: what its subspace knows of the matrix stays true through restarts and trials."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import symmetric

from sharplab.spectrum import search as searching
from sharplab.spectrum.search import Aim
from sharplab.spectrum.subspace import with_direction

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


def steps(matrix, aim, looking=True):
    """The search after each product, and whether it was restarted before it."""
    key = jax.random.key(0)
    take = jax.jit(partial(searching.take, aim=aim))
    found = searching.begin(jax.random.normal(key, (len(matrix),)), key, jnp.asarray(looking), aim)
    while searching.unfinished(found, TOL, jnp.asarray(LIMIT), len(matrix), aim):
        crowded = searching.crowded(found, TOL, aim)
        if crowded:
            found = searching.restart(found, aim)
            assert not searching.crowded(found, TOL, aim)
        found = take(found, matrix @ found.space.direction, TOL, key)
        yield found, bool(crowded)


@pytest.mark.parametrize("name", SPECTRA)
def test_rows_stay_orthonormal_and_hold_all_that_the_products_reach(name, float64):
    A, aim = symmetric(SPECTRA[name]), Aim("LA", 3, trials=True)
    restarts = 0
    for found, restarted in steps(A, aim):
        restarts += restarted
        filled, taken = int(found.space.filled), int(found.space.taken)
        assert taken <= len(found.space.projected)
        Q = found.space.basis[:taken]
        assert np.allclose(Q @ Q.T, np.eye(taken), atol=1e-12)
        assert np.allclose(found.space.projected[:filled, :taken] @ Q, Q[:filled] @ A, atol=1e-12)
    assert found.trial.over
    assert np.allclose(found.ritz.values[:3], np.sort(SPECTRA[name])[::-1][:3], atol=1e-7)
    assert restarts > 0 or name in ("the identity", "zero")


def test_a_domain_that_fits_the_basis_is_filled_without_a_restart(float64):
    values = np.linspace(1, 2, 8)
    aim = Aim("LA", 8, trials=True)
    *_, (found, _) = steps(symmetric(values), aim)
    assert found.space.filled == 8
    assert not any(restarted for _, restarted in steps(symmetric(values), aim))
    assert np.allclose(found.ritz.values[:8], values[::-1])


def test_no_trial_begins_without_room_for_it(float64):
    """Each leaves a pending row behind, and what a restart keeps must have room beside them."""
    aim = Aim("LA", 2, trials=True)
    space = searching.begin(jnp.ones(N), jax.random.key(0), jnp.asarray(True), aim).space
    over = []
    for i in range(1, len(space.projected) - aim.kept - 1):
        over.append(bool(searching._no_trial(space, aim, jnp.asarray(True)).over))
        space = with_direction(space, jnp.eye(N)[i], jnp.asarray(True))
    assert over == sorted(over)
    assert not over[0]
    assert over[-1]
