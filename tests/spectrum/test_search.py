"""The search step by step: what its subspace knows of the matrix stays true through restarts and checks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import symmetric

from sharplab.spectrum import search as searching
from sharplab.spectrum.search import Target
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


def steps(matrix, target, check_missed=True):
    """The search after each product, and whether it was restarted before it."""
    key = jax.random.key(0)
    take = jax.jit(partial(searching.take, target=target))
    found = searching.begin(jax.random.normal(key, (len(matrix),)), key, jnp.asarray(check_missed), target)
    while searching.unfinished(found, TOL, jnp.asarray(LIMIT), len(matrix), target):
        needs_restart = searching.needs_restart(found, TOL, target)
        if needs_restart:
            found = searching.restart(found, target)
            assert not searching.needs_restart(found, TOL, target)
        found = take(found, matrix @ found.space.direction, TOL, key)
        yield found, bool(needs_restart)


@pytest.mark.parametrize("name", SPECTRA)
def test_rows_stay_orthonormal_and_hold_all_that_the_products_reach(name, float64):
    A, target = symmetric(SPECTRA[name]), Target("LA", 3, check_missed=True)
    restarts = 0
    for found, restarted in steps(A, target):
        restarts += restarted
        filled, in_use = int(found.space.filled), int(found.space.in_use)
        assert in_use <= len(found.space.projected)
        Q = found.space.basis[:in_use]
        assert np.allclose(Q @ Q.T, np.eye(in_use), atol=1e-12)
        assert np.allclose(found.space.projected[:filled, :in_use] @ Q, Q[:filled] @ A, atol=1e-12)
    assert found.check.over
    assert np.allclose(found.ritz.values[:3], np.sort(SPECTRA[name])[::-1][:3], atol=1e-7)
    assert restarts > 0 or name in ("the identity", "zero")


def test_a_domain_that_fits_the_basis_is_filled_without_a_restart(float64):
    values = np.linspace(1, 2, 8)
    target = Target("LA", 8, check_missed=True)
    *_, (found, _) = steps(symmetric(values), target)
    assert found.space.filled == 8
    assert not any(restarted for _, restarted in steps(symmetric(values), target))
    assert np.allclose(found.ritz.values[:8], values[::-1])


def test_no_trial_begins_without_room_for_it(float64):
    """Each leaves a pending row behind, and what a restart keeps must have room beside them."""
    target = Target("LA", 2, check_missed=True)
    space = searching.begin(jnp.ones(N), jax.random.key(0), jnp.asarray(True), target).space
    over = []
    for i in range(1, len(space.projected) - target.kept - 1):
        over.append(bool(searching._no_check(space, target, jnp.asarray(True)).over))
        space = with_direction(space, jnp.eye(N)[i], jnp.asarray(True))
    assert over == sorted(over)
    assert not over[0]
    assert over[-1]
