"""Error estimates of Ritz values, against matrices whose subspaces are known."""

import jax.numpy as jnp
import numpy as np
from problems import symmetric

from sharplab.spectrum.bounds import CLOSEST, kato_temple, remaining_change


def rayleigh_ritz(A, V):
    """Ritz values and residual norms of the subspace spanned by the columns of V."""
    Q = np.linalg.qr(V)[0]
    values, Y = np.linalg.eigh(Q.T @ A @ Q)
    Y = Q @ Y
    return values, np.linalg.norm(A @ Y - Y * values, axis=0)


def test_estimates_hold_where_the_subspace_is_near_an_invariant_one(float64):
    exact = np.r_[np.linspace(-1, 1, 40), 9.98, 10.0]
    A = symmetric(exact)
    top = np.linalg.eigh(A)[1][:, -6:]
    for seed in range(50):
        noise = np.random.default_rng(seed).standard_normal(top.shape)
        values, residuals = rayleigh_ritz(A, top + 1e-4 * noise)
        estimates = kato_temple(jnp.asarray(values), jnp.asarray(residuals), jnp.ones(6, bool))
        errors = np.abs(values - np.sort(exact)[-6:])
        assert np.all(errors[-2:] <= estimates[-2:])
        assert np.all(estimates <= residuals)


def test_a_close_pair_bounds_as_a_cluster_what_neither_bounds_alone(float64):
    values, used = jnp.array([10.0, 9.9999, 1.0]), jnp.ones(3, bool)
    residuals = jnp.array([1e-2, 1e-2, 1e-3])
    alone = kato_temple(values[:2], residuals[:2], used[:2])
    cluster = kato_temple(values, residuals, used)
    assert np.allclose(alone, residuals[:2])  # the pair overlaps: no gap
    assert np.allclose(cluster[:2], 2e-4 / (values[:2] / CLOSEST))


def test_unmeasured_and_unused_slots_do_not_sharpen(float64):
    values, residuals = jnp.array([2.0, 1.0]), jnp.array([1e-3, jnp.inf])
    assert kato_temple(values, residuals, jnp.array([True, False]))[0] == 1e-3
    assert kato_temple(values, residuals, jnp.array([True, True]))[0] < 1e-3


def test_remaining_change_of_a_geometric_sequence_is_twice_its_tail():
    ratio = 0.3
    changes = ratio ** np.arange(10)
    tail = changes[2:].sum() + ratio**10 / (1 - ratio)
    assert np.isclose(remaining_change(jnp.asarray(changes[1]), jnp.asarray(changes[0])), 2 * tail, rtol=1e-5)
    assert remaining_change(jnp.asarray(0.0), jnp.asarray(1.0)) == 0
    assert remaining_change(jnp.asarray(jnp.inf), jnp.asarray(jnp.inf)) == jnp.inf
