"""Curvature along a direction, and the shares of a direction in layers and subspaces."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.tree import PyTree
from sharplab.curvature.factor import LinearMap
from sharplab.curvature.functions import as_partial, objective
from sharplab.curvature.jacobian import linearized_gradient
from sharplab.curvature.linear_operator import LinearOperator, an_operator, match_structure

FEWEST = 16  # batches from which a standard error is believed


@dataclass(frozen=True)
class BatchSharpness:
    """The mean over batches of the sharpness along each batch's gradient.

    Attributes:
        value: the mean.
        stderr: its standard error; NaN for a single batch.
        batches: the number of batches.
        converged: whether the standard error came within the tolerance; True where none was asked for.
    """

    value: float
    stderr: float
    batches: int
    converged: bool = True


@checked(op=an_operator)
def directional_sharpness(op: LinearOperator, g: PyTree) -> jax.Array:
    """The Rayleigh quotient gᵀAg/‖g‖², a scalar: the curvature that a step along g meets; NaN for g = 0.

    >>> op = LinearOperator(lambda d: lambda v: d * v, jnp.array([1.0, 3.0]), jnp.zeros(2))
    >>> float(directional_sharpness(op, jnp.array([1.0, 1.0])))
    2.0
    """
    curved, square = forms_along(g, g, op)
    return curved / square


def forms_along(g: PyTree, step: PyTree, product: LinearMap) -> tuple[jax.Array, jax.Array]:
    """The forms sᵀAs and gᵀs of a step s, in one unit of both, given v → A v.

    The unit is a power of two, so that no square leaves the range of floats: gradients may be as small as 1e-25.
    """
    g, size = tree.in_own_unit(g)
    step, unit = tree.in_own_unit(step)
    return unit / size * _dot(step, product(step)), tree.dot(g, step)


@checked()
def batch_sharpness(
    loss: Callable[..., jax.Array],
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    model: Callable[..., Any] | None = None,
    tol: float | None = None,
) -> BatchSharpness:
    """The mean over batches of gᵀHg/‖g‖², g and H the gradient and the Hessian of the loss on that batch.

    SGD holds it near 2/η (Andreyev & Beneventano, arXiv 2412.20553).

    Args:
        loss, params, model: those of `hessian`.
        batches: of which each counts alike. With `tol` they may be endless, and must come in random order.
        tol: the standard error, as a share of the value, at which no further batch is drawn; all are without. Of the
            first 16 none is left out: an error told from few may be small by chance.

    Raises:
        ValueError: if there are no batches.

    >>> def loss(w, x):
    ...     return 0.5 * jnp.mean((x @ w) ** 2)
    >>> found = batch_sharpness(loss, jnp.ones(1), [jnp.array([[1.0]]), jnp.array([[2.0]])])  # 1 and 4
    >>> found.value, round(found.stderr, 6)
    (2.5, 1.5)
    """
    params = tree.floats(params, "params")
    functions = (as_partial(loss, params), None if model is None else as_partial(model, params))
    return _mean_until((_sharpness_of_batch(functions, params, batch) for batch in batches), tol)


def _mean_until(values: Iterable[jax.Array], tol: float | None) -> BatchSharpness:
    drawn: list[jax.Array] = []
    for value in values:
        drawn.append(value)
        if tol is not None and len(drawn) >= FEWEST and _mean(drawn, tol).converged:
            break
    if not drawn:
        raise ValueError("batches is empty: give at least one batch.")
    return _mean(drawn, tol)


def _mean(drawn: list[jax.Array], tol: float | None) -> BatchSharpness:
    values = np.array(drawn, np.float64)
    stderr = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    mean = float(values.mean())
    return BatchSharpness(mean, stderr, len(values), tol is None or stderr <= tol * abs(mean))


def leaf_shares(vector: PyTree) -> dict[str, jax.Array]:
    """The share of each leaf in ‖v‖², by path.

    >>> {path: float(share) for path, share in leaf_shares({"a": jnp.ones(3), "b": jnp.ones(1)}).items()}
    {'a': 0.75, 'b': 0.25}
    """
    squares = {path: tree.dot(leaf, leaf) for path, leaf in tree.named_leaves(tree.in_own_unit(vector)[0]).items()}
    total = sum(squares.values())
    return {path: square / total for path, square in squares.items()}


def subspace_overlap(g: PyTree, vectors: PyTree) -> jax.Array:
    """The share ‖Vᵀg‖²/‖g‖² of g in the span of k orthonormal vectors, a scalar in [0, 1].

    `vectors` has the paths of g, with a leading axis k, as `Eigenpairs.vectors`.

    Raises:
        ValueError: if the paths differ.

    >>> round(float(subspace_overlap(jnp.array([3.0, 4.0]), jnp.array([[1.0, 0.0]]))), 6)
    0.36
    """
    g, _ = tree.in_own_unit(g)
    coefficients = jax.vmap(_dot, (0, None))(match_structure(g, vectors, "vectors"), g)
    return jnp.sum(coefficients**2) / _dot(g, g)


@jax.jit
def _sharpness_of_batch(functions: PyTree, params: PyTree, batch: PyTree) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        g, hvp = linearized_gradient(lambda w: objective(functions, w, batch), params)
        curved, square = forms_along(g, g, lambda v: hvp(tree.cast(v, params)))
        return curved / square


def _dot(x: PyTree, y: PyTree) -> jax.Array:
    """The inner product ⟨x, y⟩ of pytrees with the same paths."""
    return tree.dot(x, match_structure(x, y, "v"))
