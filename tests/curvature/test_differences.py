"""Hessians by differences of gradients, of networks that have no second derivative, against exact ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hand_written_attention import attending, fused, plain
from jax.flatten_util import ravel_pytree

import sharplab as sl
from sharplab.losses import cross_entropy, squared_error

BATCH = tuple(np.random.default_rng(0).integers(0, 5, (2, 9, 5)).astype(np.int32))
FUSED, PARAMS = attending(fused)
PLAIN, _ = attending(plain)


def params(scale, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda w: jnp.asarray(scale * (w + 0.3 * rng.standard_normal(w.shape)), dtype), PARAMS)


def by_differences(w, batch=BATCH, **options):
    return sl.hessian(cross_entropy, w, batch, model=FUSED, method="difference", **options)


@jax.jit
def exact(w):
    flat, unravel = ravel_pytree(w)
    return jax.jit(jax.hessian(lambda w: cross_entropy(PLAIN(unravel(w), BATCH[0]), BATCH[1])))(flat)


def eigenvalues(w):
    with jax.enable_x64(True):
        return np.linalg.eigvalsh(exact(jax.tree.map(lambda x: jnp.asarray(np.asarray(x), np.float64), w)))


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.6])
def test_eigenvalues_lie_within_their_stated_errors(scale):
    for seed in range(3):
        w = params(scale, seed=seed)
        op, true = by_differences(w), eigenvalues(w)
        found = sl.eigsh(op, 3, which="BE")
        wanted = true[[-1, 0, -2]]
        assert found.converged.all()
        assert (np.abs(found.values - wanted) <= found.errors).all()
        nearest = np.abs(np.asarray(found.values)[:, None] - true).min(1)
        assert (nearest <= found.residuals).all()
        assert float(op.error) <= found.floor <= 2e-3 * abs(true).max()


@pytest.mark.long
def test_the_stated_error_covers_products_along_what_bends_most(float64):
    w = params(1.0, np.float64)
    op, H = by_differences(w), np.asarray(exact(w))
    Q = np.linalg.eigh(H)[1]
    for v in Q[:, [0, -2, -1]].T:
        assert np.linalg.norm(op @ v - H @ v) <= op.error < 1e-7


def test_errors_follow_the_types_rounding():
    def measured(dtype):
        op = by_differences(params(1.0, dtype))
        return float(op.step), float(op.error)

    single = measured(np.float32)
    with jax.enable_x64(True):
        double = measured(np.float64)
    assert 0 < double[0] < single[0] < 0.1
    assert 0 < double[1] < 1e-3 * single[1]
    assert sl.hessian(cross_entropy, params(1.0), BATCH, model=PLAIN).error is None


def test_params_of_16_bits_are_refused():
    with pytest.raises(ValueError, match=r"method.*32 bits"):
        by_differences(params(1.0, jnp.bfloat16))


def test_products_are_homogeneous_and_symmetric_to_their_error(float64):
    op = by_differences(params(1.0, np.float64))
    u, v = np.random.default_rng(1).standard_normal((2, op.shape[0]))
    assert np.allclose(op @ (1e6 * v), 1e6 * (op @ v), rtol=1e-9)
    assert np.isclose(u @ (op @ v), v @ (op @ u), atol=float(op.error) * np.linalg.norm(u) * np.linalg.norm(v))
    assert not np.any(op @ np.zeros(op.shape[0]))


@pytest.mark.parametrize("form", ["chunks", "host", "weighted"])
def test_they_stream(form, float64):
    w = params(1.0, np.float64)
    tokens, labels = BATCH
    parts = [(tokens[:4], labels[:4]), (tokens[4:], labels[4:])]
    batch = parts if form == "host" else BATCH
    op = by_differences(w, batch, chunk=2, weight=np.ones(9) if form == "weighted" else None)
    assert np.abs(op.dense() - exact(w)).max() < 1e-7
    found = sl.eigsh(op)
    assert abs(found.values[0] - np.linalg.eigvalsh(exact(w))[-1]) <= found.errors[0]


def test_they_are_made_and_solved_under_jit_and_new_params_compile_nothing():
    traces = []

    def loss(w, batch):
        traces.append(1)
        return cross_entropy(FUSED(w, batch[0]), batch[1])

    @jax.jit
    def top(w):
        found = sl.eigsh(sl.hessian(loss, w, BATCH, method="difference"))
        return found.values[0], found.errors[0]

    value, error = top(params(1.0))
    traced = len(traces)
    assert abs(value - eigenvalues(params(1.0))[-1]) <= error
    top(params(0.8))
    assert len(traces) == traced


def test_at_a_minimum_and_at_parameters_of_zero_there_is_a_step(float64):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 3)))

    def loss(w, x):
        return squared_error(jnp.sin(x @ w), jnp.zeros(6))

    op = sl.hessian(loss, jnp.zeros(3), x, method="difference")
    assert np.abs(op.dense() - x.T @ x / 6).max() <= op.error < 1e-6


def test_the_error_goes_with_what_is_made_of_the_operator(float64):
    op = by_differences(params(1.0, np.float64))
    assert np.isclose((-3.0 * op).error, 3 * op.error)
    assert np.isclose((op + op).error, 2 * op.error)
    plain = sl.hessian(cross_entropy, params(1.0, np.float64), BATCH, model=PLAIN)
    assert np.isclose((plain - op).error, op.error)
    scale = jax.tree.map(lambda w: 2.0, op.domain)
    assert np.isclose(sl.precondition(op, scale).error, 4 * op.error)
    readout = sl.block(op, lambda path: path == "readout")
    assert sl.eigsh(readout).floor >= op.error


def test_a_gradient_that_jumps_is_no_matrix():
    rng, w = np.random.default_rng(0), np.full(8, 0.1, np.float32)
    x = rng.standard_normal((40, 8)).astype(np.float32)
    x += np.outer(rng.uniform(2e-4, 3e-3, 40) - x @ w, w / (w @ w)).astype(np.float32)  # x @ w is small

    def loss(w, x):
        return jnp.mean(jnp.abs(x @ w) + 0.01 * (x @ w) ** 2)

    with pytest.raises(ValueError, match="jumps"):
        sl.eigsh(sl.hessian(loss, w, x, method="difference"), 4)
