"""`eigsh` on networks' Hessians, against `numpy.linalg.eigh` of the dense matrix at the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import cast, moments, moments_recipe

from sharplab.curvature import hessian
from sharplab.spectrum import eigsh

pytestmark = pytest.mark.long

MODELS = ("residual_mlp", "figure1_convnet")
TOLERANCES = (1e-2, 1e-3, 1e-5)
COLD_KEYS = 4


@jax.jit
def solve(op, start, tol, key):
    """A start of zeros is no start: one program for cold and warm solves."""
    return eigsh(op, tol=tol, start=start, key=key)


@pytest.mark.parametrize("model", MODELS)
def test_largest_eigenvalue_by_modulus_is_negative_at_several_moments(model):
    negative = [-m.eigenvalues[0] > m.eigenvalues[-1] for m in moments(model)]
    assert sum(negative) >= 2, negative
    assert not all(negative)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", MODELS)
def test_residuals_always_hold_and_converged_means_within_tol(model, dtype, record_property):
    cases = outside_residual = unconverged = misses = beyond_error = 0
    with jax.enable_x64(dtype == np.float64):
        for case, tol, exact, pairs in solves(model, dtype):
            value = float(pairs.values[0])
            cases += 1
            outside_residual += np.min(np.abs(exact - value)) > float(pairs.residuals[0])
            true_error = abs(exact[-1] - value)
            unconverged += not bool(pairs.converged[0])
            misses += bool(pairs.converged[0]) and true_error > max(tol * abs(value), float(pairs.floor))
            beyond_error += true_error > float(pairs.errors[0])
            assert pairs.matvecs <= 240, case
    counts = f"{cases} cases: {unconverged} unconverged, {misses} misses, {beyond_error} beyond their error estimate"
    record_property("counts", counts)
    assert cases == 10 * 3 * (COLD_KEYS + 1)
    assert outside_residual == 0, counts
    assert unconverged == 0, counts
    assert misses <= 0.01 * cases, counts
    assert beyond_error <= 0.02 * cases, counts


def solves(model, dtype):
    """Cold starts from several keys, then a warm start along the run, at every moment and tolerance."""
    recipe = moments_recipe(model)
    for tol in TOLERANCES:
        warm = None
        for i, moment in enumerate(moments(model)):
            params, batch = cast((moment.params, moment.batch), dtype)
            op = hessian(recipe.loss, params, batch, model=recipe.forward)
            zeros = jax.tree.map(lambda w: jnp.zeros((1, *w.shape), w.dtype), params)
            for key in range(COLD_KEYS):
                yield (i, tol, key), tol, moment.eigenvalues, solve(op, zeros, tol, jax.random.key(100 * i + key))
            pairs = solve(op, zeros if warm is None else warm, tol, jax.random.key(100 * i + 50))
            warm = pairs.vectors
            yield (i, tol, "warm"), tol, moment.eigenvalues, pairs


def test_vectors_are_eigenvectors_of_unit_norm_shaped_like_params():
    recipe, moment = moments_recipe("residual_mlp"), moments("residual_mlp")[2]
    op = hessian(recipe.loss, moment.params, moment.batch, model=recipe.forward)
    zeros = jax.tree.map(lambda w: jnp.zeros((1, *w.shape), w.dtype), moment.params)
    pairs = solve(op, zeros, 1e-5, jax.random.key(0))
    v = jax.tree.map(lambda x: x[0], pairs.vectors)
    assert jax.tree.structure(v) == jax.tree.structure(moment.params)
    flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(v)])
    product = jnp.concatenate([x.ravel() for x in jax.tree.leaves(op(v))])
    assert abs(jnp.linalg.norm(flat) - 1) < 1e-5
    true_residual = jnp.linalg.norm(product - pairs.values[0] * flat)
    assert true_residual <= 1.1 * pairs.residuals[0]


def test_warm_start_from_the_last_moment_saves_products():
    recipe, (before, now) = moments_recipe("residual_mlp"), moments("residual_mlp")[:2]
    zeros = jax.tree.map(lambda w: jnp.zeros((1, *w.shape), w.dtype), now.params)

    def products(moment, start, key):
        op = hessian(recipe.loss, moment.params, moment.batch, model=recipe.forward)
        return solve(op, start, 1e-2, jax.random.key(key))

    cold = [int(products(now, zeros, key).matvecs) for key in range(8)]
    last = products(before, zeros, 0).vectors
    warm = [int(products(now, last, key).matvecs) for key in range(8)]
    assert np.mean(warm) < np.mean(cold), (warm, cold)
