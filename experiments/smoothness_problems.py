"""The problems of the figure `smoothness`, drawn at random, with the settings of the paper's code where it has them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import sharplab as sl
from sharplab.data import load_dataset
from sharplab.studies.gradient_smoothness import NewtonPath, normalised_newton

Curvature = str | Callable[[Any, Any], sl.LinearOperator]
Draw = Callable[[np.random.Generator, int], "Problem"]  # (random numbers, size) → problem

POWER = 4
ACCURACY = 1e-8  # of f, as in the paper's code
NETWORK_ACCURACY = 0.5  # nats of train loss
RESIDUAL, PRODUCTS = 1e-3, 2000  # of linear systems; where fewer products cut them off, iterations are more


@dataclass(frozen=True)
class Problem:
    """A function f = loss(model(·, inputs), targets) to minimise.

    Attributes:
        lowest: the minimum, as far as it is known; 0 of the network.
        accuracy: f − lowest that is asked for.
    """

    loss: Callable[..., jax.Array]
    model: Callable[..., Any]
    params: Any
    batch: Any
    lowest: float
    accuracy: float = ACCURACY

    @property
    def target(self) -> float:
        """f at which a method has got there."""
        return self.lowest + self.accuracy

    def paths(
        self, curvature: Curvature, *, limit: int, each: int = 64, residual: float = 1e-6
    ) -> Iterator[NewtonPath]:
        """The regularised Newton method until it gets there or `limit` trials are made, `each` after each."""
        params, gamma = self.params, 1.0
        for _ in range(ceil(limit / each)):
            path = normalised_newton(
                self.loss,
                params,
                self.batch,
                model=self.model,
                curvature=curvature,
                gamma=gamma,
                tol=1e-11,
                iterations=each,
                residual=RESIDUAL,
                products=PRODUCTS,
            )
            yield path
            params, gamma = path.params, path.gamma
            if path.reach(self.target) or path.iterations < each:
                return


def log_sum_exp(rng: np.random.Generator, size: int, *, of_data: bool) -> Problem:
    """log Σ_i exp(⟨a_i, x⟩ − b_i) of as many terms as variables, shifted to have its minimum at 0.

    `of_data`: in coordinates in which the norm of the data, xᵀ A Aᵀ x, is the Euclidean one.
    """
    A, b, start = rng.uniform(-1, 1, (size, size)), rng.uniform(-1, 1, size), np.ones(size)
    rows = (A - A @ _softmax(-b)[:, None]).T
    if of_data:
        root = np.linalg.cholesky(A @ A.T)
        rows, start = np.linalg.solve(root, rows.T).T, root.T @ start
    lowest = np.logaddexp.reduce(-b)
    return Problem(_log_sum_exp, affine, start, ((rows, b), np.zeros(size)), lowest)


def power_norm(rng: np.random.Generator, size: int, *, of_data: bool) -> Problem:
    """‖A x − b‖⁴/4 in twice as many variables as equations; `of_data` as for log_sum_exp: A x are the coordinates."""
    A, b = rng.uniform(-1, 1, (size, 2 * size)), rng.uniform(-1, 1, size)
    rows, start = (np.eye(size), A @ np.ones(2 * size)) if of_data else (A, np.ones(2 * size))
    return Problem(_power, affine, start, ((rows, b), np.zeros(size)), 0.0)


def rosenbrock(rng: np.random.Generator, size: int) -> Problem:
    """(1 − x)² + 100(y − x²)² from near (−2, 2)."""
    start = np.array([-2.0, 2.0]) + 0.2 * rng.normal(size=2)
    return Problem(_sum_of_squares, _residuals, start, (np.zeros(2), np.zeros(2)), 0.0)


def logistic_regression(rng: np.random.Generator, size: int) -> Problem:
    """The logistic loss of normal inputs in size/10 dimensions, a quarter of whose labels are wrong."""
    inputs, truth = rng.normal(size=(size, size // 10)), rng.normal(size=size // 10)
    signs = np.sign(inputs @ truth) * np.where(rng.random(size) < 0.25, -1, 1)
    problem = Problem(_logistic, linear, np.zeros(size // 10), (inputs, signs), 0.0)
    *_, path = problem.paths("hessian", limit=64)
    return replace(problem, lowest=float(path.values[-1]))


def network(rng: np.random.Generator, size: int) -> Problem:
    """The cross-entropy of an MLP of width 16 on images of Fashion-MNIST, 8 × 8 pixels each."""
    data = load_dataset("fashion-mnist-10k")
    chosen = rng.choice(data.examples, size, replace=False)
    images = data.train_inputs[chosen].reshape(size, 8, 4, 8, 4).mean((2, 4)).reshape(size, 64)
    sizes = (64, 16, 10)
    layers = [rng.normal(size=shape) / shape[0] ** 0.5 for shape in pairwise(sizes)]
    params = {"first": layers[0], "bias": np.zeros(16), "readout": layers[1]}
    batch = images.astype(np.float64), data.train_targets[chosen]
    return Problem(sl.losses.cross_entropy, mlp, params, batch, 0.0, NETWORK_ACCURACY)


def weighted_gauss_newton(x: jax.Array, batch: Any) -> sl.LinearOperator:
    """Σ π_i a_i a_iᵀ for log Σ exp: the Hessian without −g gᵀ."""
    return sl.gauss_newton(affine, _weighted_sum, x, batch)


def fisher_term(x: jax.Array, batch: Any) -> sl.LinearOperator:
    """(p − 2)/‖u‖^p g gᵀ for ‖u‖^p/p, u linear: the Hessian without ‖u‖^(p−2) AᵀA."""
    value, gradient = jax.value_and_grad(lambda y: _power(affine(y, batch[0]), None))(x)
    return sl.operator(Partial(_along, gradient, (POWER - 2) / (POWER * value)), x)


def regularisation_alone(params: Any, batch: Any) -> sl.LinearOperator:
    """The curvature 0, which makes the method gradient descent of learning rate γ/‖g‖."""
    return sl.operator(Partial(_nothing), params)


def affine(x: jax.Array, inputs: Any) -> jax.Array:
    rows, offsets = inputs
    return rows @ x - offsets


def linear(w: jax.Array, inputs: jax.Array) -> jax.Array:
    return inputs @ w


def mlp(params: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jnp.tanh(inputs @ params["first"] + params["bias"][None]) @ params["readout"]


def _softmax(u: np.ndarray) -> np.ndarray:
    return np.exp(u - np.logaddexp.reduce(u))


def _log_sum_exp(u: jax.Array, _: Any) -> jax.Array:
    return jax.nn.logsumexp(u)


def _weighted_sum(u: jax.Array, _: Any) -> jax.Array:
    """A loss whose Hessian in u is diag(softmax(u))."""
    return jnp.exp(u - jax.lax.stop_gradient(jax.nn.logsumexp(u))).sum()


def _power(u: jax.Array, _: Any) -> jax.Array:
    return (u @ u) ** (POWER / 2) / POWER


def _along(gradient: jax.Array, factor: jax.Array, v: jax.Array) -> jax.Array:
    return factor * (gradient @ v) * gradient


def _nothing(v: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, v)


def _residuals(x: jax.Array, _: Any) -> jax.Array:
    return jnp.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


def _sum_of_squares(u: jax.Array, _: Any) -> jax.Array:
    return u @ u


def _logistic(outputs: jax.Array, signs: jax.Array) -> jax.Array:
    return jnp.mean(jnp.logaddexp(0.0, -signs * outputs))


PROBLEMS: Mapping[str, tuple[Draw, Mapping[str, Curvature]]] = {  # with what stands in for the Hessian, by method
    "LogSumExp, norm of the data": (partial(log_sum_exp, of_data=True), {"gauss_newton": weighted_gauss_newton}),
    "LogSumExp, Euclidean norm": (partial(log_sum_exp, of_data=False), {"gauss_newton": weighted_gauss_newton}),
    "power norm, norm of the data": (partial(power_norm, of_data=True), {"fisher": fisher_term}),
    "power norm, Euclidean norm": (partial(power_norm, of_data=False), {"fisher": fisher_term}),
    "Rosenbrock": (rosenbrock, {"gauss_newton": "gauss_newton"}),
    "logistic regression": (logistic_regression, {"gauss_newton": "gauss_newton", "fisher": "fisher"}),
    "network": (network, {"gauss_newton": "gauss_newton", "fisher": "fisher"}),
}
