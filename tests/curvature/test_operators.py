"""Operators against dense matrices: products on every pytree, the Hessian, the metric, and their refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from problems import cast, dense_hessian, make_batch, make_recipe, matrix_operator, symmetric

from sharplab.curvature import LinearOperator, gauss_newton, hessian, ntk, precondition
from sharplab.losses import cross_entropy

DOMAINS = {
    "dict": {"w": jnp.zeros((2, 3)), "b": jnp.zeros(2)},
    "tuple": (jnp.zeros((2, 3)), [jnp.zeros(()), jnp.zeros(1)]),
    "state": nnx.State({"layer": {"w": nnx.Param(jnp.zeros((2, 4)))}}),
    "flat": jnp.zeros(8),
}


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
def test_products_agree_with_the_matrix_on_every_pytree(float64, domain):
    A = symmetric(np.arange(8.0))
    domain = cast(domain, np.float64)
    op = matrix_operator(A, domain)
    v, columns = np.random.default_rng(1).standard_normal(8), np.random.default_rng(2).standard_normal((8, 3))
    like = ravel_pytree(domain)[1](jnp.asarray(v))
    product = op @ like
    assert jax.tree.structure(product) == jax.tree.structure(domain)
    assert np.allclose(ravel_pytree(product)[0], A @ v, atol=1e-13)
    assert np.allclose(op @ v, A @ v, atol=1e-13)
    assert np.allclose(op(jnp.asarray(v)), A @ v, atol=1e-13)
    assert np.allclose(op @ columns, A @ columns, atol=1e-13)
    assert np.allclose(op.dense(), A, atol=1e-13)
    assert op.shape == (8, 8)
    assert op.dtype == np.float64


@pytest.mark.parametrize("v", [np.ones(7), np.ones((2, 8)), {"w": np.ones((3, 2)), "b": np.ones(2)}, {"w": np.ones(8)}])
def test_vector_that_does_not_fit_is_answered_with_the_shapes_that_do(v):
    op = matrix_operator(np.eye(8, dtype=np.float32), DOMAINS["dict"])
    with pytest.raises(ValueError, match=r"v .*\(8, k\)"):
        op @ v


def test_dense_is_refused_above_its_limit():
    op = LinearOperator(lambda d: lambda v: d * v, jnp.ones(5000), jnp.zeros(5000))
    with pytest.raises(ValueError, match=r"5000 .*dense\(\) .*4096"):
        op.dense()


def test_numpy_arrays_leave_the_product_to_the_operator():
    op = matrix_operator(np.eye(3, dtype=np.float32))
    with pytest.raises(TypeError):
        np.ones(3) * op


@pytest.mark.parametrize("model", ["residual_mlp"])
def test_hessian_equals_the_dense_second_derivative(float64, model):
    recipe = make_recipe(model, 4)
    images, classes = make_batch(model, examples=8)
    batch = (recipe.prepare(images.astype(np.float64)), classes)
    params = recipe.begin(jnp.asarray(3)).params
    exact = dense_hessian(recipe)(params, batch)
    found = hessian(recipe.loss, params, batch, model=recipe.forward).dense()
    scale = np.abs(exact).max()
    assert scale > 1e-3
    assert np.abs(found - exact).max() <= 1e-12 * scale


def logistic(w, batch):
    x, y = batch
    return cross_entropy(jax.nn.tanh(x @ w["a"]) @ w["b"], y)


def logistic_model(w, x):
    return jax.nn.tanh(x @ w["a"]) @ w["b"]


RNG = np.random.default_rng(0)
WEIGHTS = {
    "a": jnp.asarray(RNG.standard_normal((3, 4)), jnp.float32),
    "b": jnp.asarray(RNG.standard_normal((4, 3)), jnp.float32),
}
BATCH = (jnp.asarray(RNG.standard_normal((10, 3)), jnp.float32), jnp.asarray(RNG.integers(0, 3, 10)))


def test_hessian_is_the_same_with_loss_of_params_or_of_outputs():
    whole = hessian(logistic, WEIGHTS, BATCH).dense()
    split = hessian(cross_entropy, WEIGHTS, BATCH, model=logistic_model).dense()
    partials = hessian(Partial(cross_entropy), WEIGHTS, BATCH, model=Partial(logistic_model)).dense()
    assert np.abs(whole).max() > 0.01
    assert np.allclose(whole, split, atol=1e-6)
    assert np.allclose(whole, partials, atol=1e-6)
    assert np.allclose(whole, whole.T, atol=1e-6)


def test_hessian_of_a_batch_is_the_mean_over_its_halves(float64):
    params, batch = cast((WEIGHTS, BATCH), np.float64)
    halves = [jax.tree.map(lambda x, half=half: x[half], batch) for half in (slice(0, 5), slice(5, 10))]
    mean = np.mean([hessian(logistic, params, half).dense() for half in halves], axis=0)
    assert np.allclose(hessian(logistic, params, batch).dense(), mean, atol=1e-14)


def test_precondition_is_s_a_s(float64):
    A, s = symmetric(np.linspace(-2, 3, 8)), np.linspace(0.5, 2, 8)
    domain = cast(DOMAINS["dict"], np.float64)
    scale = ravel_pytree(domain)[1](jnp.asarray(s))
    op = precondition(matrix_operator(A, domain), scale)
    assert np.allclose(op.dense(), s[:, None] * A * s, atol=1e-13)
    twice = precondition(op, scale)
    assert np.allclose(twice.dense(), s[:, None] ** 2 * A * s**2, atol=1e-12)


def test_precondition_takes_plain_numbers_per_leaf(float64):
    A = symmetric(np.linspace(-2, 3, 8))
    op = precondition(matrix_operator(A, cast(DOMAINS["dict"], np.float64)), {"w": 2.0, "b": 3.0})
    s = np.asarray(ravel_pytree({"w": jnp.full((2, 3), 2.0), "b": jnp.full(2, 3.0)})[0])
    assert np.allclose(op.dense(), s[:, None] * A * s, atol=1e-13)


def test_new_params_and_batches_do_not_retrace():
    traces = []

    def loss(w, batch):
        traces.append(1)
        return logistic(w, batch)

    @jax.jit
    def product(op, v):
        return op @ v

    first = product(hessian(loss, WEIGHTS, BATCH), WEIGHTS)
    hessian(loss, WEIGHTS, BATCH) @ WEIGHTS
    traced = len(traces)
    moved = jax.tree.map(lambda w: w + 1, WEIGHTS)
    second = product(hessian(loss, moved, BATCH), WEIGHTS)
    hessian(loss, moved, (BATCH[0] + 1, BATCH[1])) @ WEIGHTS
    assert len(traces) == traced
    assert not np.allclose(first["a"], second["a"])


def test_operators_pass_through_vmap(float64):
    params, batch = cast((WEIGHTS, BATCH), np.float64)
    stacked = jax.tree.map(lambda w: jnp.stack([w, 0.5 * w]), params)
    products = jax.vmap(lambda w: hessian(logistic, w, batch) @ params)(stacked)
    alone = hessian(logistic, jax.tree.map(lambda w: 0.5 * w, params), batch) @ params
    assert np.allclose(products["a"][1], alone["a"], atol=1e-13)


def test_shared_work_is_done_once_for_many_products():
    prepared = []

    def prepare(d):
        prepared.append(1)
        return partial(jnp.multiply, d)

    matvec = LinearOperator(prepare, jnp.arange(3.0), jnp.zeros(3)).matvec()
    products = [matvec(jnp.full(3, float(i))) for i in range(4)]
    assert len(prepared) == 1
    assert np.array_equal(products[3], [0, 3, 6])


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_curvature_where_the_network_is_sure_is_right_to_its_last_digits(kind):
    """Where p rounds to 1 at every target, the loss and its curvature are what it lacks."""
    targets = np.arange(12) % 3
    x = 9 * np.eye(3)[targets] + 0.1 * np.random.default_rng(0).normal(size=(12, 3))

    def dense(dtype):
        w, batch = jnp.asarray(2 * np.eye(3), dtype), (jnp.asarray(x, dtype), targets)
        if kind == "hessian":
            return np.asarray(hessian(cross_entropy, w, batch, model=lambda w, x: x @ w).dense())
        return np.asarray(gauss_newton(lambda w, x: x @ w, cross_entropy, w, batch).dense())

    with jax.enable_x64(True):
        exact = dense(np.float64)
    assert 0 < np.abs(exact).max() < 1e-5
    assert np.allclose(dense(np.float32), exact, rtol=1e-4, atol=1e-5 * np.abs(exact).max())


def test_a_kernel_of_complex_outputs_is_refused():
    with pytest.raises(ValueError, match="real and imaginary parts"):
        ntk(lambda w, x: x @ (w + 1j * w**2), jnp.ones(3), jnp.ones((2, 3)))
