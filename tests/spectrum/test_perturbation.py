"""The gradient of eigenvalues against that of the dense matrix and finite differences, and a loss that uses it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import sharplab as sl
from sharplab.curvature import LinearOperator

RNG = np.random.default_rng(0)
PARAMS = {
    "hidden": jnp.asarray(RNG.standard_normal((3, 4)), jnp.float32),
    "readout": jnp.asarray(RNG.standard_normal((4, 2)), jnp.float32),
}
BATCH = tuple(jnp.asarray(RNG.standard_normal((6, n)), jnp.float32) for n in (3, 2))
FLAT, UNRAVEL = ravel_pytree(PARAMS)
SCALE = jax.tree.map(lambda w: 1 + w**2, PARAMS)


def model(params, inputs):
    return jnp.tanh(inputs @ params["hidden"]) @ params["readout"]


def loss(params, batch):
    return sl.losses.squared_error(model(params, batch[0]), batch[1])


def hessian(w):
    return sl.hessian(loss, w, BATCH)


def gauss_newton(w):
    return sl.gauss_newton(model, sl.losses.squared_error, w, BATCH)


OPERATORS = {
    "hessian": hessian,
    "chunks": lambda w: sl.hessian(loss, w, BATCH, chunk=4),
    "gauss_newton by its dual": gauss_newton,
    "kernel": lambda w: sl.ntk(model, w, BATCH[0]),
    "in a metric of the params": lambda w: sl.precondition(hessian(w), jax.tree.map(lambda x: 1 + x**2, w)),
    "sum": lambda w: hessian(w) + 0.5 * gauss_newton(w),
    "block": lambda w: sl.block(hessian(w), lambda path: path == "hidden"),
}


def dense(name, flat):
    """The same matrices without operators."""
    H = jax.jit(jax.hessian(lambda w: loss(UNRAVEL(w), BATCH)))(flat)
    J = jax.jacobian(lambda w: model(UNRAVEL(w), BATCH[0]).ravel())(flat)
    metric = 1 + flat**2
    return {
        "gauss_newton by its dual": J.T @ J / 6,
        "kernel": J @ J.T,
        "in a metric of the params": metric[:, None] * H * metric[None],
        "sum": H + J.T @ J / 12,
        "block": H[:12, :12],
    }.get(name, H)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.long
def test_gradients_are_those_of_the_dense_matrix(name):
    weights = jnp.array([1.0, -0.5])

    def found(w):
        return weights @ sl.eigsh(OPERATORS[name](w), 2, tol=1e-6).values

    exact = jax.grad(lambda w: weights @ jnp.linalg.eigvalsh(dense(name, w))[:-3:-1])(FLAT)
    gradient = jax.grad(found) if name in ("hessian", "kernel") else jax.jit(jax.grad(found))
    assert np.allclose(ravel_pytree(gradient(PARAMS))[0], exact, atol=3e-3 * np.abs(exact).max())


@pytest.mark.parametrize(
    "which", [pytest.param("SA", marks=pytest.mark.long), pytest.param("LM", marks=pytest.mark.long), "BE"]
)
def test_gradients_are_those_of_finite_differences_at_every_end(which, float64):
    exact = {"SA": [0, 1], "LM": [-1, -2], "BE": [-1, 0]}[which]
    flat, direction = FLAT.astype(jnp.float64), jnp.asarray(RNG.standard_normal(FLAT.size))
    unravel = ravel_pytree(jax.tree.map(lambda w: w.astype(jnp.float64), PARAMS))[1]
    batch = tuple(x.astype(jnp.float64) for x in BATCH)

    def values(t):
        return sl.eigsh(sl.hessian(loss, unravel(flat + t * direction), batch), 2, which=which, tol=1e-10).values

    @jax.jit
    def differences(t):
        return jnp.linalg.eigvalsh(jax.jit(jax.hessian(lambda w: loss(unravel(w), batch)))(flat + t * direction))

    h = 1e-5
    assert np.allclose(values(0.0), differences(0.0)[jnp.array(exact)])
    slopes = (differences(h) - differences(-h))[jnp.array(exact)] / (2 * h)
    assert np.allclose(jax.jit(jax.jacfwd(values))(0.0), slopes, rtol=1e-4)
    assert np.allclose(jax.jit(jax.jacrev(values))(0.0), slopes, rtol=1e-4)


def test_a_function_is_differentiated_in_what_it_holds():
    def product(d, v):
        return d * v

    def top(d):
        return sl.eigsh(jax.tree_util.Partial(product, d), start=jnp.ones(3)).values[0]

    def closed(d):
        return sl.eigsh(lambda v: d * v, start=jnp.ones(3)).values[0]

    for function in (top, closed, jax.jit(closed)):
        assert np.allclose(jax.grad(function)(jnp.array([1.0, 5.0, 2.0])), [0, 1, 0], atol=1e-2)


def test_what_has_no_gradient_here_gives_nan_and_not_zero():
    def operator(d):
        return LinearOperator(lambda d: lambda v: d * v, d, jnp.zeros(3))

    d = jnp.array([1.0, 5.0, 2.0])
    for of in ("vectors", "residuals", "errors", "floor"):
        assert np.isnan(jax.grad(lambda d, of=of: getattr(sl.eigsh(operator(d)), of).sum())(d)).all(), of
    assert np.isnan(jax.jit(jax.hessian(lambda d: sl.eigsh(operator(d)).values[0]))(d)).all()
    value, pairs = jax.value_and_grad(lambda d: (lambda p: (p.values[0], p))(sl.eigsh(operator(d))), has_aux=True)(d)[0]
    assert np.isfinite(pairs.vectors).all() and value == pairs.values[0]


@pytest.mark.long
def test_a_penalty_on_sharpness_trains_to_a_flatter_minimum():
    optimizer = optax.sgd(0.02)

    def train(penalty):
        def penalised(w):
            return loss(w, BATCH) + penalty * sl.eigsh(sl.hessian(loss, w, BATCH)).values[0]

        @jax.jit
        def step(carry, _):
            w, opt_state = carry
            updates, opt_state = optimizer.update(jax.grad(penalised)(w), opt_state)
            return (optax.apply_updates(w, updates), opt_state), None

        (w, _), _ = jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), length=60)
        return np.linalg.eigvalsh(dense("hessian", ravel_pytree(w)[0]))[-1]

    assert train(0.1) < 0.8 * train(0.0)
