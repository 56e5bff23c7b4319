"""Sums and multiples, factors and duals, and the interfaces by which other code takes an operator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from flax import nnx
from jax.flatten_util import ravel_pytree
from networks import network
from problems import cast, matrix_operator, symmetric

from sharplab.curvature import Factor, LinearOperator, Structure, block, gauss_newton, precondition

DOMAIN = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(2)}
ROOT = np.random.default_rng(5).standard_normal((3, 8))


def apply_root(R):
    return lambda v: R @ ravel_pytree(v)[0], lambda u: ravel_pytree(cast(DOMAIN, R.dtype))[1](R.T @ u)


def gram_product(R):
    forward, backward = apply_root(R)
    return lambda v: backward(forward(v))


def factored():
    """RᵀR on `DOMAIN`, R of shape (3, 8)."""
    R = jnp.asarray(ROOT)
    factor = Factor(apply_root, R, Structure.of(jnp.zeros(3, R.dtype)))
    return LinearOperator(gram_product, R, cast(DOMAIN, R.dtype), factor)


def streamed(A):
    """A matrix whose products cannot be compiled."""

    def prepare(A):
        def product(v):
            flat, unravel = ravel_pytree(v)
            return unravel(jnp.asarray(np.asarray(A) @ np.asarray(flat)))

        return product

    return LinearOperator(prepare, A, cast(DOMAIN, np.float64), jittable=False)


def test_sums_and_multiples_are_those_of_the_matrices(float64):
    A, B = symmetric(np.arange(8.0)), symmetric(np.linspace(-1, 1, 8), seed=1)
    a, b = (matrix_operator(M, cast(DOMAIN, np.float64)) for M in (A, B))
    for found, exact in (
        (a + b, A + B),
        (a - b, A - B),
        (-a, -A),
        (3 * a, 3 * A),
        (a * 3, 3 * A),
        (a / 4, A / 4),
        (np.float64(0.5) * a, A / 2),
        (np.asarray(0.5) * a, A / 2),
        (jnp.asarray(0.5) * a, A / 2),
        (2 * (a - b) + b / 2, 2 * A - 1.5 * B),
    ):
        assert np.allclose(found.dense(), exact, atol=1e-13)


def test_sum_takes_another_container_of_the_same_paths(float64):
    A, B = symmetric(np.arange(8.0)), symmetric(np.ones(8))
    state = nnx.State({"w": nnx.Param(jnp.zeros((2, 3))), "b": nnx.Param(jnp.zeros(2))})
    found = matrix_operator(A, cast(DOMAIN, np.float64)) + matrix_operator(B, cast(state, np.float64))
    assert np.allclose(found.dense(), A + B, atol=1e-13)
    assert isinstance(found @ DOMAIN, dict)


def test_sum_over_different_spaces_is_refused():
    a = matrix_operator(np.eye(8, dtype=np.float32), DOMAIN)
    with pytest.raises(ValueError, match="different spaces"):
        a + block(a, lambda path: path == "w")


@pytest.mark.parametrize("other", [1.0, "a", np.ones(8), np.eye(8)])
def test_what_is_no_operator_cannot_be_added(other):
    with pytest.raises(TypeError):
        matrix_operator(np.eye(8, dtype=np.float32), DOMAIN) + other


@pytest.mark.parametrize("other", ["a", np.ones(8), jnp.ones(8), None])
def test_what_is_no_number_cannot_multiply(other):
    op = matrix_operator(np.eye(8, dtype=np.float32), DOMAIN)
    with pytest.raises(TypeError):
        op * other
    with pytest.raises(TypeError):
        other * op


def test_factor_follows_multiples_blocks_and_metrics(float64):
    A = ROOT.T @ ROOT
    scale = cast({"w": jnp.full((2, 3), 2.0), "b": jnp.array([1.0, 3.0])}, np.float64)
    s = np.asarray(ravel_pytree(scale)[0])
    for op, exact in (
        (factored(), A),
        (2.5 * factored(), 2.5 * A),
        (0 * factored(), 0 * A),
        (precondition(factored(), scale), s[:, None] * A * s),
        (block(factored(), lambda path: path == "w"), A[2:, 2:]),
        (block(precondition(3 * factored(), scale), lambda path: path == "b"), (3 * s[:, None] * A * s)[:2, :2]),
    ):
        assert np.allclose(op.dense(), exact, atol=1e-12)
        forward, backward = op.factor.maps()
        R = np.stack([forward(ravel_pytree(op.domain)[1](e)) for e in np.eye(len(exact))], axis=1)
        assert np.allclose(R.T @ R, exact, atol=1e-12)
        assert np.allclose([ravel_pytree(backward(e))[0] for e in np.eye(3)], R, atol=1e-12)
        assert np.allclose(op.dual().dense(), R @ R.T, atol=1e-12)


def test_negative_multiples_sums_and_traced_numbers_have_no_factor():
    for op in (-factored(), factored() + factored()):
        assert op.factor is None
    traced = jax.jit(lambda c: (c * factored()) @ jnp.ones(8))(2.0)
    assert np.allclose(traced, 2 * (factored() @ jnp.ones(8)))
    with pytest.raises(ValueError, match="factor"):
        (-factored()).dual()


def test_operators_that_cannot_be_compiled_give_the_same_products(float64):
    A = symmetric(np.arange(8.0))
    op, v = streamed(A), np.linspace(0, 1, 8)
    assert np.allclose(op @ v, A @ v, atol=1e-13)
    assert np.allclose(op.dense(), A, atol=1e-13)
    like = ravel_pytree(op.domain)[1](jnp.asarray(v))
    assert np.allclose(ravel_pytree(op @ like)[0], A @ v, atol=1e-13)
    compiled = matrix_operator(A, cast(DOMAIN, np.float64))
    scale = {"w": 2.0, "b": 2.0}
    for composed, exact in (
        (op + compiled, 2 * A),
        (compiled - op, 0 * A),
        (2 * op, 2 * A),
        (precondition(op, scale), 4 * A),
        (block(op, lambda path: path == "b"), A[:2, :2]),
    ):
        assert not composed.jittable
        assert np.allclose(composed.dense(), exact, atol=1e-12)


def test_dense_of_many_columns_is_made_in_blocks(float64):
    A = symmetric(np.linspace(-1, 1, 150))
    widths = []

    def prepare(A):
        def product(v):
            widths.append(v.shape)
            return A @ v

        return product

    op = LinearOperator(prepare, jnp.asarray(A), jnp.zeros(150))
    assert np.allclose(op.dense(), A, atol=1e-13)
    assert len(widths) == 1, "one program serves all blocks"


def test_scipy_finds_the_eigenvalues_of_the_operator(float64):
    A = symmetric(np.arange(8.0))
    op = matrix_operator(A, cast(DOMAIN, np.float64)).to_scipy()
    assert op.dtype == np.float64
    v, V = np.linspace(0, 1, 8), np.random.default_rng(0).standard_normal((8, 3))
    for product, exact in (
        (op.matvec(v), A @ v),
        (op.matvec(v[:, None]), (A @ v)[:, None]),
        (op.rmatvec(v), A @ v),
        (op.matmat(V), A @ V),
        (op.rmatmat(V), A @ V),
    ):
        assert isinstance(product, np.ndarray)
        assert product.shape == exact.shape
        assert np.allclose(product, exact, atol=1e-13)
    assert np.allclose(scipy.sparse.linalg.eigsh(op, k=2, return_eigenvectors=False), [6, 7], atol=1e-10)


def test_scipy_gets_float32_from_half_precision():
    op = matrix_operator(np.eye(4, dtype=jnp.bfloat16), jnp.zeros(4, jnp.bfloat16)).to_scipy()
    assert op.dtype == np.float32
    assert np.array_equal(op.matvec(np.arange(4.0)), np.arange(4.0))


@pytest.mark.parametrize("chunk", [None, 3])
def test_matrix_products_run_at_the_highest_precision_and_leave_the_setting_alone(chunk):
    made = network("dict")
    op = gauss_newton(made.model, made.loss, made.params, made.batch, chunk=chunk)
    for program in (jax.jit(lambda op, v: op @ v), jax.jit(lambda op, v: op.dual() @ v[:21])):
        products = [line for line in program.lower(op, jnp.ones(40)).as_text().splitlines() if "dot_general" in line]
        assert len(products) >= 6
        assert all(line.count("HIGHEST") == 2 for line in products)
    assert "HIGHEST" not in jax.jit(jnp.matmul).lower(jnp.eye(8), jnp.ones(8)).as_text()
