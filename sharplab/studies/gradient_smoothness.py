"""Newton steps regularised by the norm of the gradient, with any curvature that is given by products."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.arguments import checked, count, positive
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator, fisher, gauss_newton, hessian
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import as_partial, objective
from sharplab.curvature.host_batches import source_of

HALVINGS = 40  # of γ in a row, after which rounding is what the test sees

Functions = tuple[Partial, Partial | None]  # (loss, model)


@dataclass(frozen=True)
class NewtonPath:
    """A run of `normalised_newton`: a row per trial, of which some were accepted.

    Attributes:
        params: where it ended.
        gamma: γ that the next trial would have; given back with `params`, it continues the run.
        values: f before each trial and at the end, (iterations + 1,).
        gradient_norms: ‖∇f‖ at the same points.
        gammas: γ of each trial, (iterations,).
        accepted: whether the step was taken; where not, the params stayed.
        products: products with the curvature in each trial.
        converged: whether ‖∇f‖ came to `tol`.
    """

    params: PyTree
    gamma: float
    values: np.ndarray
    gradient_norms: np.ndarray
    gammas: np.ndarray
    accepted: np.ndarray
    products: np.ndarray
    converged: bool

    @property
    def iterations(self) -> int:
        """The number of trials, each of which solves one system; values and gradients are one more."""
        return len(self.accepted)

    @property
    def steps(self) -> int:
        """The number of accepted trials, the iterations of the paper."""
        return int(self.accepted.sum())

    def reach(self, value: float) -> tuple[int, int, int] | None:
        """Accepted steps, products and gradients until f ≤ `value`; None if it was not reached."""
        there = np.flatnonzero(self.values <= value)
        if not len(there):
            return None
        first = int(there[0])
        return int(self.accepted[:first].sum()), int(self.products[:first].sum()), first + 1


@checked(gamma=positive, tol=positive, iterations=count, residual=positive, products=count)
def normalised_newton(
    loss: Callable[..., jax.Array],
    params: PyTree,
    batch: PyTree,
    *,
    model: Callable[..., Any] | None = None,
    curvature: str | Callable[[PyTree, PyTree], LinearOperator] = "hessian",
    gamma: float = 1.0,
    tol: float = 1e-4,
    iterations: int = 100,
    residual: float = 1e-4,
    products: int = 256,
) -> NewtonPath:
    """The path x⁺ = x − (H + (‖g‖/γ) I)⁻¹ g of minimising f, with a curvature H and γ adapted.

    A step is accepted if f(x) − f(x⁺) ≥ ‖g⁺‖²γ/(8‖g‖), and γ doubles; else x stays and γ halves. γ is thus an estimate
    of the gradient-normalised smoothness, about the radius in which g + H h describes the gradient. The run ends at
    ‖g‖ ≤ `tol`, and after 40 halvings in a row. Systems are solved by conjugate gradients from 0; where these meet a
    direction of negative curvature, the trial counts as rejected. All is one program, in which products are in a loop:
    of convolutions they are slow there on CPUs.

    Args:
        loss, params, batch, model: as of `sharplab.hessian`.
        curvature: "hessian", "gauss_newton", "fisher" (the empirical one), the last two with a `model`, or a function
            (params, batch) → `LinearOperator`, which should live on.
        gamma: γ at the start.
        iterations: the most trials.
        residual: ‖A h − g‖/‖g‖ at which a system is solved.
        products: the most per system; a step that is cut off is still one of descent.

    Raises:
        ValueError: for an unknown curvature, one that needs a model without it, numbers that are not positive, and f or
            a gradient that is not finite at the start.

    Source: Semenov, Jaggi, Doikov, arXiv 2506.13710.

    >>> def loss(w, batch):
    ...     x, y = batch
    ...     return jnp.mean(jnp.logaddexp(0.0, -y * (x @ w)))
    >>> x, y = jnp.array([[1.0, 0.5], [1.0, -1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0, -1.0])
    >>> path = normalised_newton(loss, jnp.zeros(2), (x, y))
    >>> path.converged, bool((np.diff(path.values) <= 0).all()), path.steps < 20
    (True, True, True)
    """
    params = tree.floats(params, "params")
    if source_of(batch) is not None:
        raise ValueError("batch must be arrays, which the program takes whole, not a source of batches on the host.")
    functions = as_partial(loss, params), None if model is None else as_partial(model, params)
    if callable(curvature):
        operator = Partial(_own, as_partial(curvature, params))
    else:
        operator = Partial(lookup("curvature", curvature, _CURVATURES))
        if model is None and curvature != "hessian":
            raise ValueError(f"curvature {curvature!r} needs model=, from which its outputs come.")
    end, (values, norms, gammas, accepted, made) = _run(
        functions, operator, params, jax.tree.map(jnp.asarray, batch), gamma, tol, residual, iterations, products
    )
    rows = int(end.row)
    first = (values[0], norms[0]) if rows else (end.value, end.norm)
    if not np.isfinite(first).all():
        raise ValueError(
            f"params give a loss of {first[0]}, a gradient of norm {first[1]}: start where both are finite."
        )
    values, norms = (np.append(kept[:rows], last) for kept, last in ((values, end.value), (norms, end.norm)))
    gammas, accepted, made = (np.asarray(kept[:rows]) for kept in (gammas, accepted, made))
    converged = bool(end.norm <= tol)
    return NewtonPath(end.params, float(end.gamma), values, norms, gammas, accepted, made, converged)


class _State(NamedTuple):
    """The run before a trial, and the rows of the trials made."""

    params: PyTree
    value: jax.Array
    gradient: PyTree
    norm: jax.Array
    gamma: jax.Array
    halvings: jax.Array  # in a row
    row: jax.Array
    rows: tuple[jax.Array, ...]  # value, norm, γ, accepted, products


@partial(jax.jit, static_argnames=("iterations", "products"))
def _run(
    functions: Functions,
    operator: Partial,
    params: PyTree,
    batch: PyTree,
    gamma: Any,
    tol: Any,
    residual: Any,
    iterations: int,
    products: int,
) -> tuple[_State, tuple[jax.Array, ...]]:
    f = jax.value_and_grad(partial(objective, functions))

    def unfinished(state: _State) -> jax.Array:
        sound = jnp.isfinite(state.value) & jnp.isfinite(state.norm)
        return sound & (state.norm > tol) & (state.row < iterations) & (state.halvings < HALVINGS)

    def trial(state: _State) -> _State:
        product = operator(functions, state.params, batch).matvec()
        shift = state.norm / state.gamma
        system = _solve(lambda v: tree.moved(product(v), shift, v), state.gradient, residual, products)
        params = tree.moved(state.params, -1, system.solution)
        value, gradient = f(params, batch)
        norm = tree.norm(gradient)
        enough = state.value - value >= norm**2 * state.gamma / (8 * state.norm)  # False for NaN
        accepted = system.definite & enough
        row = (state.value, state.norm, state.gamma, accepted, system.products)
        kept = state.params, state.value, state.gradient, state.norm
        params, value, gradient, norm = tree.where(accepted, (params, value, gradient, norm), kept)
        return _State(
            params,
            value,
            gradient,
            norm,
            gamma=state.gamma * jnp.where(accepted, 2, 0.5).astype(state.gamma.dtype),
            halvings=jnp.where(accepted, 0, state.halvings + 1),
            row=state.row + 1,
            rows=tuple(rows.at[state.row].set(x) for rows, x in zip(state.rows, row, strict=True)),
        )

    value, gradient = f(params, batch)
    norm = tree.norm(gradient)
    numbers = [jnp.zeros(iterations, of.dtype) for of in (value, norm, norm)]
    rows = (*numbers, jnp.zeros(iterations, bool), jnp.zeros(iterations, jnp.int32))
    nothing = jnp.zeros((), jnp.int32)
    start = _State(params, value, gradient, norm, jnp.asarray(gamma, norm.dtype), nothing, nothing, rows)
    end = jax.lax.while_loop(unfinished, trial, start)
    return end._replace(rows=()), end.rows


class _System(NamedTuple):
    """Conjugate gradients for A h = b at some iteration."""

    solution: PyTree
    remainder: PyTree  # b − A h
    direction: PyTree
    square: jax.Array  # of the remainder
    products: jax.Array
    definite: jax.Array  # whether no direction of negative curvature was met


def _solve(product: LinearMap, b: PyTree, residual: jax.Array, most: int) -> _System:
    """Conjugate gradients from 0, which unlike JAX's own tell their products, and that A is not definite."""

    def unfinished(state: _System) -> jax.Array:
        return state.definite & (state.square > target) & (state.products < most)

    def step(state: _System) -> _System:
        image = product(state.direction)
        curvature = tree.dot(state.direction, image)
        definite = curvature > 0  # False for NaN
        length = jnp.where(definite, state.square / curvature, 0)
        remainder = tree.moved(state.remainder, -length, image)
        square = tree.dot(remainder, remainder)
        return _System(
            tree.moved(state.solution, length, state.direction),
            remainder,
            tree.moved(remainder, square / state.square, state.direction),
            square,
            state.products + 1,
            definite,
        )

    start = tree.dot(b, b)
    target = residual**2 * start
    zero = jax.tree.map(jnp.zeros_like, b)
    return jax.lax.while_loop(unfinished, step, _System(zero, b, b, start, jnp.zeros((), jnp.int32), jnp.array(True)))


def _hessian(functions: Functions, params: PyTree, batch: PyTree) -> LinearOperator:
    return hessian(functions[0], params, batch, model=functions[1])


def _gauss_newton(functions: Functions, params: PyTree, batch: PyTree) -> LinearOperator:
    loss, model = functions
    assert model is not None, "asked for by normalised_newton"
    return gauss_newton(model, loss, params, batch)


def _fisher(functions: Functions, params: PyTree, batch: PyTree) -> LinearOperator:
    loss, model = functions
    assert model is not None, "asked for by normalised_newton"
    return fisher(model, loss, params, batch, kind="empirical")


def _own(curvature: Partial, functions: Functions, params: PyTree, batch: PyTree) -> LinearOperator:
    return curvature(params, batch)


_CURVATURES: Mapping[str, Callable[..., LinearOperator]] = {
    "hessian": _hessian,
    "gauss_newton": _gauss_newton,
    "fisher": _fisher,
}
