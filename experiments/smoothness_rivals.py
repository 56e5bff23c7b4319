"""The methods that the figure `smoothness` holds against the regularised ones, on the same problems."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from smoothness_problems import Problem

import sharplab as sl

OCTAVES = range(-8, 5)  # constant learning rates, around 1/λ at the start
SEARCH = 30  # most values of a line search


def rivals(problem: Problem, steps: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """By method, f − lowest along at most so many steps, with products and gradients so far."""
    yield "constant", best_constant(problem, steps)
    search = optax.scale_by_backtracking_linesearch(
        SEARCH, decrease_factor=0.5, increase_factor=2.0, max_learning_rate=math.inf, store_grad=True
    )
    yield "backtracking", descend(optax.chain(optax.sgd(1.0), search), problem, steps)
    yield "lbfgs", descend(optax.lbfgs(), problem, steps)
    yield "newton", newton(problem, steps)


def table(problem: Problem, values: Any, gradients: Any, products: Any = 0) -> pd.DataFrame:
    """A row per step, up to the one that gets there; f that is no number is left out."""
    gap = np.asarray(values, float) - problem.lowest
    rows = pd.DataFrame({"step": np.arange(len(gap)), "gap": gap, "products": products, "gradients": gradients})
    there = np.flatnonzero(gap <= problem.accuracy)
    return rows[: there[0] + 1 if len(there) else None].dropna()


def best_constant(problem: Problem, steps: int) -> pd.DataFrame:
    """Gradient descent at the constant learning rate that gets there first, or else lowest."""
    start = sl.hessian(problem.loss, problem.params, problem.batch, model=problem.model)
    rates = 2.0 ** np.array(OCTAVES) / float(sl.eigsh(start, tol=1e-2).values[0])
    curves = np.asarray(_constant(problem.loss, problem.model, problem.params, problem.batch, rates, steps))
    gaps = np.where(np.isfinite(curves), curves, np.inf) - problem.lowest
    there = gaps <= problem.accuracy
    first = np.where(there.any(1), there.argmax(1), steps)
    best = np.lexsort((gaps[:, -1], first))[0]
    return table(problem, curves[best], np.arange(steps) + 1)


@partial(jax.jit, static_argnums=(0, 1, 5))
def _constant(loss: Any, model: Any, params: Any, batch: Any, rates: jax.Array, steps: int) -> jax.Array:
    def curve(rate: jax.Array) -> jax.Array:
        def step(w: Any, _: None) -> tuple[Any, jax.Array]:
            value, gradient = jax.value_and_grad(partial(_value, loss, model))(w, batch)
            return jax.tree.map(lambda a, b: a - rate * b, w, gradient), value

        return jax.lax.scan(step, jax.tree.map(jnp.asarray, params), length=steps)[1]

    return jax.vmap(curve)(rates)


def descend(optimizer: optax.GradientTransformationExtraArgs, problem: Problem, steps: int) -> pd.DataFrame:
    """An optimizer with a line search, each value of which counts as a gradient."""
    found = _descend(optimizer, problem.loss, problem.model, problem.params, problem.batch, problem.target, steps)
    values, searched = (np.asarray(of)[: int(found[0])] for of in found[1:])
    return table(problem, values, 1 + np.cumsum(searched) - searched)


@partial(jax.jit, static_argnums=(0, 1, 2, 6))
def _descend(
    optimizer: Any, loss: Any, model: Any, params: Any, batch: Any, target: float, steps: int
) -> tuple[jax.Array, ...]:
    f = partial(_value, loss, model)

    def unfinished(carry: Any) -> jax.Array:
        *_, step, values, _ = carry
        return (step < steps) & ~(values[step - 1] <= target)

    def advance(carry: Any) -> Any:
        w, state, step, values, searched = carry
        value, gradient = optax.value_and_grad_from_state(f)(w, batch, state=state)
        update, state = optimizer.update(
            gradient, state, w, value=value, grad=gradient, value_fn=lambda point: f(point, batch)
        )
        made = optax.tree_utils.tree_get(state, "num_linesearch_steps")
        return optax.apply_updates(w, update), state, step + 1, values.at[step].set(value), searched.at[step].set(made)

    w = jax.tree.map(jnp.asarray, params)
    nothing = jnp.full(steps, jnp.inf), jnp.zeros(steps, int)
    _, _, step, values, searched = jax.lax.while_loop(unfinished, advance, (w, optimizer.init(w), 0, *nothing))
    return step, values, searched


def newton(problem: Problem, steps: int) -> pd.DataFrame:
    """Newton's method by conjugate gradients in a trust region, SciPy's trust-ncg."""
    start, unravel = ravel_pytree(jax.tree.map(jnp.asarray, problem.params))
    rows, made = [], {"gradients": 0, "products": 0}

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        made["gradients"] += 1
        value, gradient = _gradient(problem.loss, problem.model, unravel(jnp.asarray(x)), problem.batch)
        return float(value), np.asarray(ravel_pytree(gradient)[0])

    def product(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        made["products"] += 1
        op = sl.hessian(problem.loss, unravel(jnp.asarray(x)), problem.batch, model=problem.model)
        return np.asarray(op @ v)

    def note(x: np.ndarray) -> None:
        value = float(_gradient(problem.loss, problem.model, unravel(jnp.asarray(x)), problem.batch)[0])
        rows.append((value, made["gradients"], made["products"]))
        if value <= problem.target:
            raise StopIteration

    rows.append((value_and_gradient(np.asarray(start))[0], 1, 0))
    options = {"maxiter": steps, "gtol": 1e-12, "max_trust_radius": 1e6}
    minimize(value_and_gradient, start, method="trust-ncg", jac=True, hessp=product, callback=note, options=options)
    return table(problem, *zip(*rows, strict=True))


@partial(jax.jit, static_argnums=(0, 1))
def _gradient(loss: Any, model: Any, params: Any, batch: Any) -> tuple[jax.Array, Any]:
    return jax.value_and_grad(partial(_value, loss, model))(params, batch)


def _value(loss: Any, model: Any, params: Any, batch: Any) -> jax.Array:
    return loss(model(params, batch[0]), batch[1])
