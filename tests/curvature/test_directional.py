"""Curvature along directions, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from networks import curvature, in_precision
from problems import cast, matrix_operator, symmetric

from sharplab.curvature import batch_sharpness, directional_sharpness, leaf_shares, subspace_overlap
from sharplab.curvature.directional import _mean_until

DOMAIN = {"b": jnp.zeros(2), "w": jnp.zeros((2, 3))}


def test_directional_sharpness_is_a_rayleigh_quotient_of_any_pytree(float64):
    A, g = symmetric(np.linspace(-1, 3, 8)), np.random.default_rng(1).standard_normal(8)
    exact = g @ A @ g / (g @ g)
    state = nnx.State({"b": nnx.Param(jnp.zeros(2)), "w": nnx.Param(jnp.zeros((2, 3)))})
    for domain in (cast(DOMAIN, np.float64), cast(state, np.float64)):
        op = matrix_operator(A, domain)
        like = ravel_pytree(cast(DOMAIN, np.float64))[1](jnp.asarray(g))
        for vector in (g, like, jax.tree.map(lambda x: 5 * x, like)):
            assert np.isclose(directional_sharpness(op, vector), exact, rtol=1e-13)
    eigenvector = np.linalg.eigh(A)[1][:, -1]
    assert np.isclose(directional_sharpness(op, eigenvector), 3, rtol=1e-13)


def test_sharpness_along_nothing_is_nan():
    assert np.isnan(directional_sharpness(matrix_operator(np.eye(8, dtype=np.float32), DOMAIN), np.zeros(8)))


@pytest.mark.parametrize("c", [2.0**-90, 2.0**90])
def test_a_multiple_of_the_direction_changes_nothing_bit_by_bit(c):
    """Though its squares leave the range of float32."""
    rng = np.random.default_rng(0)
    op, g = matrix_operator(symmetric(np.linspace(-1, 3, 8)).astype(np.float32)), rng.standard_normal(8)
    g, V = jnp.asarray(g, jnp.float32), jnp.eye(8)[:3]
    assert directional_sharpness(op, c * g) == directional_sharpness(op, g)
    assert directional_sharpness(c * op, g) == c * directional_sharpness(op, g)
    assert subspace_overlap(c * g, V) == subspace_overlap(g, V)
    parts, small = ({"a": x[:3], "b": x[3:]} for x in (g, c * g))
    assert leaf_shares(small) == leaf_shares(parts)


def test_batch_sharpness_of_a_multiple_of_the_loss_is_the_multiple():
    def loss(w, batch):
        factor, x = batch
        return factor * jnp.mean((x @ w) ** 2)

    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), jnp.float32)
    one, small = (batch_sharpness(loss, jnp.ones(3), [(c, x)]).value for c in (jnp.ones(()), jnp.full((), 2.0**-80)))
    assert np.isclose(small, 2.0**-80 * one, rtol=1e-6)


def test_batch_sharpness_is_the_mean_over_batches(float64):
    *_, params, (x, y) = made = in_precision("dict")
    parts = [np.s_[:3], np.s_[3:6], np.s_[4:]]

    @jax.jit
    def quotient(x, y):
        flat, unravel = ravel_pytree(params)

        def loss(w):
            return made.loss(made.model(unravel(w), x), y)

        g, H = jax.grad(loss)(flat), jax.hessian(loss)(flat)
        return g @ H @ g / (g @ g)

    exact = [quotient(x[part], y[part]) for part in parts]
    found = batch_sharpness(made.loss, params, ((x[part], y[part]) for part in parts), model=made.model)
    assert found.batches == 3
    assert np.isclose(found.value, np.mean(exact), rtol=1e-12)
    assert np.isclose(found.stderr, np.std(exact, ddof=1) / 3**0.5, rtol=1e-12)


def test_batches_are_drawn_until_the_standard_error_is_within_the_tolerance():
    """Of ½ mean (xw)² with one x per batch the sharpness is x², here of log-normal mean 1."""
    rng = np.random.default_rng(0)

    def squares(count):
        return iter(np.exp(0.6 * rng.standard_normal(count) - 0.18))

    def loss(w, x):
        return 0.5 * jnp.mean((x @ w) ** 2)

    batches = (jnp.array([[x**0.5]]) for x in squares(10_000))
    found = batch_sharpness(loss, jnp.ones(1), batches, tol=0.1)
    assert found.converged and 16 <= found.batches < 100 and found.stderr <= 0.1 * found.value
    assert next(batches) is not None  # no more are drawn than counted
    short = batch_sharpness(loss, jnp.ones(1), [jnp.array([[1.0]]), jnp.array([[2.0]])], tol=0.1)
    assert not short.converged and short.batches == 2
    several = [_mean_until(squares(2000), 0.1) for _ in range(200)]
    covered = np.mean([abs(one.value - 1) <= 1.96 * one.stderr for one in several])
    assert covered > 0.86 and all(one.converged for one in several)
    assert np.std([one.value for one in several]) < 0.13  # about the tolerance, for all that errors chance to be small


def test_batch_sharpness_of_all_examples_is_the_directional_one(float64):
    *_, params, batch = made = in_precision("tuple")
    found = batch_sharpness(made.loss, params, [batch], model=made.model)
    g = ravel_pytree(jax.grad(lambda w: made.loss(made.model(w, batch[0]), batch[1]))(params))[0]
    H = curvature("tuple").hessian
    assert np.isclose(found.value, g @ H @ g / (g @ g), rtol=1e-11)
    assert np.isnan(found.stderr)


def test_batch_sharpness_of_no_batch_is_refused():
    with pytest.raises(ValueError, match="batches"):
        batch_sharpness(lambda w, x: jnp.sum(w), jnp.ones(2), [])


def test_leaf_shares_add_up_to_one():
    shares = leaf_shares({"layer": {"w": jnp.full((2, 2), 2.0), "b": jnp.full(4, 1.0)}})
    assert shares.keys() == {"layer/b", "layer/w"}
    assert np.allclose([shares["layer/b"], shares["layer/w"]], [0.2, 0.8])


def test_overlap_with_a_subspace_is_a_squared_cosine(float64):
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 3)))[0]
    g = np.random.default_rng(1).standard_normal(8)
    unravel = ravel_pytree(cast(DOMAIN, np.float64))[1]
    vectors = jax.vmap(unravel)(jnp.asarray(Q.T))
    assert np.isclose(subspace_overlap(unravel(jnp.asarray(g)), vectors), np.sum((Q.T @ g) ** 2) / (g @ g), rtol=1e-13)
    assert np.isclose(subspace_overlap(unravel(jnp.asarray(Q @ np.ones(3))), vectors), 1, rtol=1e-13)
