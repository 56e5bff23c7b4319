"""The same network's spectrum by another library for JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from matfree import decomp, eig, stochtrace
from problems import cast, moments, moments_recipe

from sharplab.curvature import hessian
from sharplab.spectrum import eigsh, trace


@pytest.mark.long
def test_eigenvalues_and_trace_agree_with_matfree(float64):
    recipe, moment = moments_recipe("residual_mlp"), moments("residual_mlp")[4]
    params, batch = cast((moment.params, moment.batch), np.float64)
    flat, unravel = ravel_pytree(params)
    gradient = jax.grad(lambda w: recipe.objective(unravel(w), batch))

    def product(v):
        return jax.jvp(gradient, (flat,), (v,))[1]

    op = hessian(recipe.loss, params, batch, model=recipe.forward)
    solve = eig.eigh_partial(decomp.tridiag_sym(60, custom_vjp=False))
    start = jax.random.normal(jax.random.key(0), flat.shape)
    theirs = np.sort(np.asarray(solve(product, start / jnp.linalg.norm(start))[0]))[::-1]
    ours = eigsh(op, 5, tol=1e-8, max_matvecs=500)
    assert np.allclose(ours.values, theirs[:5], rtol=1e-7)

    sampler = stochtrace.sampler_signs(flat, num=200)
    estimate = stochtrace.estimator_monte_carlo_mean_and_sem(stochtrace.monte_carlo_trace(), sampler)
    mean, error = estimate(product, jax.random.key(1))
    assert abs(trace(op, method="hutchinson", matvecs=200).value - mean) < 5 * error
    assert abs(trace(op).value - trace(op, matvecs=op.shape[0]).value) < 5 * trace(op).stderr
