"""Newton steps regularised by the gradient's norm: against dense algebra, the rule for γ by hand, and one program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import LinAlgError, cho_factor, cho_solve

import sharplab as sl
from sharplab.studies.gradient_smoothness import normalised_newton


def quadratic(x, batch):
    A, b = batch
    return x @ A @ x / 2 - b @ x


def rosenbrock(x, batch):
    return (1 - x[0]) ** 2 + batch[0] * (x[1] - x[0] ** 2) ** 2


def parabola(x, batch):
    return batch[0] + x**2 / 2


def flat(x, batch):
    return 0.0 * sl.hessian(parabola, x, jnp.zeros(1))


def affine(w, x):
    return x @ w


def logistic(outputs, signs):
    return jnp.mean(jnp.logaddexp(0.0, -signs * outputs))


def dense_path(f, x, gamma, iterations):
    """The same method with a factorisation of the whole matrix per trial: points, γ and what was accepted."""
    gradient, matrix = jax.jit(jax.grad(f)), jax.jit(jax.hessian(f))
    points, gammas, accepted = [np.asarray(x)], [], []
    for _ in range(iterations):
        x = points[-1]
        g = np.asarray(gradient(x))
        size = np.linalg.norm(g)
        gammas.append(gamma)
        try:
            new = x - cho_solve(cho_factor(np.asarray(matrix(x)) + size / gamma * np.eye(len(x))), g)
            took = f(x) - f(new) >= np.linalg.norm(gradient(new)) ** 2 * gamma / (8 * size)
        except LinAlgError:
            took = False
        accepted.append(bool(took))
        points.append(new if took else x)
        gamma *= 2 if took else 0.5
    return points, gammas, accepted


def of_quadratic():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6))
    return quadratic, np.ones(6), (factor @ factor.T, rng.normal(size=6))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("problem", "iterations"), [(of_quadratic, 8), (lambda: (rosenbrock, np.array([-2.0, 2.0]), np.array([100.0])), 25)]
)
def test_steps_are_those_of_dense_algebra(problem, iterations):
    """Also where the Hessian is indefinite: conjugate gradients see that as a factorisation does."""
    loss, start, batch = problem()
    path = normalised_newton(loss, start, batch, iterations=iterations, tol=1e-12, residual=1e-12)
    f = jax.jit(lambda x: loss(x, batch))
    points, gammas, accepted = dense_path(f, start, 1.0, iterations)
    assert path.accepted.tolist() == accepted and path.gammas.tolist() == gammas
    assert path.iterations == iterations and path.steps == sum(accepted)
    np.testing.assert_allclose(path.params, points[-1], rtol=1e-8)
    np.testing.assert_allclose(path.values, [f(x) for x in points], rtol=1e-8, atol=1e-10)
    assert (np.diff(path.values) <= 0).all()


def test_gamma_by_hand():
    """f = x²/2 from 1 without curvature: x⁺ = 1 − γ is −3, then −1, where f is as large, then the minimum."""
    path = normalised_newton(parabola, 1.0, jnp.zeros(1), curvature=flat, gamma=4.0)
    assert path.gammas.tolist() == [4, 2, 1] and path.accepted.tolist() == [False, False, True]
    assert path.values.tolist() == [0.5, 0.5, 0.5, 0] and path.gradient_norms.tolist() == [1, 1, 1, 0]
    assert path.converged and path.gamma == 2 and path.products.tolist() == [1, 1, 1]
    assert path.reach(0.1) == (1, 3, 4) and path.reach(-1.0) is None


def test_where_rounding_hides_the_fall_the_run_ends():
    path = normalised_newton(parabola, 1.0, jnp.array([1e9]), curvature=flat, gamma=0.75, iterations=60)
    assert path.iterations == 40 and path.steps == 0 and not path.converged and path.params == 1


@pytest.mark.usefixtures("float64")
def test_curvatures_of_a_logistic_regression():
    """Its Gauss-Newton matrix is its Hessian; the empirical Fisher is not, and needs more steps to the same minimum."""
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(40, 4)), np.where(rng.random(40) < 0.5, 1.0, -1.0)
    options = {"model": affine, "tol": 1e-6, "residual": 1e-8}
    paths = {
        name: normalised_newton(logistic, np.zeros(4), batch, curvature=name, **options)
        for name in ("hessian", "gauss_newton", "fisher")
    }
    exact, same, fisher = paths.values()
    assert exact.accepted.tolist() == same.accepted.tolist() and exact.products.tolist() == same.products.tolist()
    np.testing.assert_allclose(exact.values, same.values, rtol=1e-12)
    assert all(path.converged for path in paths.values()) and fisher.steps > exact.steps
    np.testing.assert_allclose(fisher.params, exact.params, atol=1e-4)

    parts = [normalised_newton(logistic, np.zeros(4), batch, curvature="gauss_newton", **options, iterations=2)]
    parts.append(
        normalised_newton(
            logistic, parts[0].params, batch, curvature="gauss_newton", **options, iterations=2, gamma=parts[0].gamma
        )
    )
    np.testing.assert_allclose(parts[1].values, same.values[2:5], rtol=1e-12)  # continued, as if it had not ended


def test_all_problems_of_one_shape_share_a_program():
    traces = []

    def loss(x, batch):
        traces.append(1)
        return jnp.sum(jnp.cosh(batch * x))

    normalised_newton(loss, jnp.ones(3), jnp.arange(1.0, 4))
    first = len(traces)
    path = normalised_newton(loss, 2 * jnp.ones(3), jnp.ones(3), gamma=0.5, tol=1e-3, residual=1e-2)
    assert path.converged and len(traces) == first


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("curvature", {"curvature": "gaus_newton"}),
        ("model", {"curvature": "gauss_newton"}),
        ("gamma", {"gamma": 0.0}),
        ("params", {"params": jnp.array(jnp.nan)}),
        ("batch", {"batch": lambda: iter([])}),
    ],
)
def test_what_is_refused(name, arguments):
    with pytest.raises(ValueError, match=name):
        normalised_newton(parabola, **({"params": 1.0, "batch": jnp.zeros(1)} | arguments))
