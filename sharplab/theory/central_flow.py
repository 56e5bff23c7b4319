"""The central flow of gradient descent: where its time-average goes while it oscillates at the edge of stability.

Descent at the edge is w + x, of mean 0 and covariance Σ. On the average its loss has the further term ½⟨Σ, H⟩, hence

    dw/dt = −η [∇L + ½ ∇⟨Σ, H⟩],   t in steps,

with the Σ = U X Uᵀ, X ⪰ 0, that holds the eigenvalues of the eigenvectors U at 2/η or lets them lie below. Over one
step Uᵀ H U changes by −η (⟨D, ∇L⟩ + β X), D_ij = ∇(u_iᵀ H u_j) and β X = ½ Σ_kl ⟨D_ij, D_kl⟩ X_kl. So X is the solution
of the complementarity problem X ⪰ 0, Z = 2/η − Uᵀ H U + η (⟨D, ∇L⟩ + β X) ⪰ 0, ⟨X, Z⟩ = 0, which is the minimum of a
convex function of X. For one eigenvalue S at the edge X = σ² = 2 ⟨−∇L, ∇S⟩₊ / ‖∇S‖².

Source: Cohen, Damian, Talwalkar, Kolter, Lee, arXiv 2410.24206.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.arguments import checked, count, positive
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator, hessian
from sharplab.curvature.functions import as_partial
from sharplab.spectrum.extremal import eigsh

MOST_ITERATIONS, SETTLED = 5000, 1e-9  # of the complementarity problem, and the relative change at which it ends
TOLERANCE = 1e-4  # of eigenvalues: their gradients err by its root


class FlowPoint(NamedTuple):
    """The central flow before a step."""

    step: int
    params: PyTree  # w, the time-average
    loss: float  # at w
    average_loss: float  # L + ½⟨Σ, H⟩, the time-average of the loss of descent
    sharpness: float
    covariance: np.ndarray  # X (k, k), in the k eigenvectors that are followed


@checked(learning_rate=positive, substeps=count)
def central_flow(
    loss: Callable[[PyTree, Any], jax.Array],
    params: PyTree,
    batch: Any,
    *,
    learning_rate: float,
    followed: float = 1.5,
    substeps: int = 4,
) -> Iterator[FlowPoint]:
    """The points of the central flow at t = 0, 1, 2, … steps, without end: take as many as are wanted.

    Args:
        loss: `loss(params, batch)` → the mean over examples; four times differentiable where it is oscillated over.
        params: w at t = 0, any pytree of floats.
        learning_rate: η, the same for all parameters. Of rates η·d_i write the loss in v, w_i = √d_i v_i.
        followed: all eigenvalues above followed/η are held at or below 2/η, however many there are. With infinity it is
            gradient flow, whose time-average is itself.
        substeps: the parts of a step, Euler's. Σ is held during a step.

    Raises:
        ValueError: where the sharpness is above 2·substeps/η, at which these parts diverge: take more of them; and
            where the loss is not finite.

    >>> from itertools import islice
    >>> def loss(w, batch):  # a valley along y whose curvature in x is 1 + y, and which slopes down along y
    ...     return 0.5 * (1 + w[1]) * w[0] ** 2 - jnp.mean(batch) * w[1]
    >>> flow = central_flow(loss, jnp.array([0.0, 0.9]), jnp.array([0.1]), learning_rate=1.0)
    >>> for point in islice(flow, 0, 6, 5):  # it stays at S = 2/η, where σ² = 2·0.1
    ...     print(point.step, round(point.sharpness, 3), point.covariance.round(3).tolist())
    0 1.9 [[0.0]]
    5 2.0 [[0.2]]
    """
    if not 0 < followed < 2 and followed != np.inf:
        raise ValueError(f"followed must lie between 0 and 2, or be infinity for gradient flow, not {followed!r}.")
    params = tree.floats(params, "params")
    return _points(as_partial(loss, params), params, batch, learning_rate, followed, substeps)


def _points(loss: Partial, w: PyTree, batch: Any, rate: float, followed: float, substeps: int) -> Iterator[FlowPoint]:
    vectors, k, step = None, 1, 0
    while True:
        value, gradient = _value_and_gradient(loss, w, batch)
        if not np.isfinite(value):
            raise ValueError(f"the loss is not finite at step {step}: params, loss or batch are such that it diverges.")
        values, vectors = _above(hessian(loss, w, batch), followed / rate, k, vectors)
        if values[0] * rate > 2 * substeps:
            raise ValueError(f"substeps is {substeps}, too few for a sharpness of {values[0]:.4g} at η = {rate:g}.")
        n, k = int(np.sum(values * rate > followed)), len(values)
        covariance, push = _hold(loss, w, batch, gradient, values[:n], vectors, rate)
        average = float(value) + float(np.diag(covariance) @ values[:n]) / 2
        yield FlowPoint(step, w, float(value), average, float(values[0]), covariance)
        w, step = _advance(loss, w, batch, push, rate / substeps, substeps), step + 1


def _above(operator: LinearOperator, level: float, k: int, start: PyTree | None) -> tuple[np.ndarray, PyTree]:
    """The eigenvalues above a level and the next one, where there is one, with their vectors."""
    while True:
        pairs = eigsh(operator, k, tol=TOLERANCE, start=start)
        values, start = np.asarray(pairs.values, float), pairs.vectors
        if values[-1] <= level or k == operator.shape[0]:
            break
        k += 1
    kept = min(int(np.sum(values > level)) + 1, k)
    return values[:kept], _rows(start, np.arange(kept))


def _hold(
    loss: Partial, w: PyTree, batch: Any, gradient: PyTree, values: np.ndarray, vectors: PyTree, rate: float
) -> tuple[np.ndarray, PyTree]:
    """X in the vectors of the values, and ½ ∇⟨Σ, H⟩."""
    n = len(values)
    if not n:
        return np.zeros((0, 0)), jax.tree.map(jnp.zeros_like, w)
    rows, columns = np.triu_indices(n)
    slopes = _slopes(loss, w, batch, _rows(vectors, rows), _rows(vectors, columns))
    gram, along = (np.asarray(x, float) for x in _products(slopes, gradient))
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))  # so that products of packed matrices are theirs
    gap = np.where(rows == columns, 2 / rate - values[rows], 0.0) + rate * along
    packed = _complementary(gap * weight, rate / 2 * gram * np.outer(weight, weight), n)
    return _unpacked(packed, n), _combined(jnp.asarray(packed * weight / 2, tree.dtype(w)), slopes)


def _rows(vectors: PyTree, which: np.ndarray) -> PyTree:
    return jax.tree.map(lambda v: v[which], vectors)


@jax.jit
def _value_and_gradient(loss: Partial, w: PyTree, batch: Any) -> tuple[jax.Array, PyTree]:
    return jax.value_and_grad(loss)(w, batch)


@jax.jit
def _slopes(loss: Partial, w: PyTree, batch: Any, first: PyTree, second: PyTree) -> PyTree:
    """The gradients of uᵀ H v for pairs u, v, stacked: third derivatives, which are symmetric."""

    def curved(w: PyTree, v: PyTree) -> PyTree:
        return jax.jvp(lambda w: jax.grad(loss)(w, batch), (w,), (v,))[1]

    return jax.vmap(lambda u, v: jax.jvp(lambda w: curved(w, v), (w,), (u,))[1])(first, second)


@jax.jit
def _products(slopes: PyTree, gradient: PyTree) -> tuple[jax.Array, jax.Array]:
    """The Gram matrix of the slopes, and their products with the gradient."""
    rows, flat = jax.vmap(tree.ravel)(slopes), tree.ravel(gradient)
    return jnp.matmul(rows, rows.T, precision="highest"), jnp.matmul(rows, flat, precision="highest")


@jax.jit
def _combined(weights: jax.Array, stack: PyTree) -> PyTree:
    return jax.tree.map(lambda v: jnp.tensordot(weights, v, 1, precision="highest"), stack)


@partial(jax.jit, static_argnames="substeps")
def _advance(loss: Partial, w: PyTree, batch: Any, push: PyTree, time: jax.Array, substeps: int) -> PyTree:
    def part(_: int, w: PyTree) -> PyTree:
        slope = jax.grad(loss)(w, batch)
        return jax.tree.map(lambda w, g, p: (w - time * (g + p)).astype(w.dtype), w, slope, push)

    return jax.lax.fori_loop(0, substeps, part, w)


def _complementary(gap: np.ndarray, gram: np.ndarray, n: int) -> np.ndarray:
    """The packed X ⪰ 0 with Z = gap + gram X ⪰ 0 and ⟨X, Z⟩ = 0, by projected descent with momentum and restarts.

    It is the minimum of ⟨gap, X⟩ + ½⟨X, gram X⟩ over X ⪰ 0.
    """
    size = np.linalg.eigvalsh(gram)[-1]
    here = ahead = np.zeros_like(gap)
    momentum = 1.0
    for _ in range(MOST_ITERATIONS if size > 0 else 0):
        there = _positive_part(ahead - (gap + gram @ ahead) / size, n)
        change = there - here
        if (ahead - there) @ change > 0:  # against the way that the momentum goes
            momentum = 1.0
        after = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead, here, momentum = there + (momentum - 1) / after * change, there, after
        if np.linalg.norm(change) <= SETTLED * np.linalg.norm(there):
            break
    return here


def _positive_part(packed: np.ndarray, n: int) -> np.ndarray:
    values, vectors = np.linalg.eigh(_unpacked(packed, n))
    matrix = (vectors * np.maximum(values, 0)) @ vectors.T
    rows, columns = np.triu_indices(n)
    return matrix[rows, columns] * np.where(rows == columns, 1.0, math.sqrt(2.0))


def _unpacked(packed: np.ndarray, n: int) -> np.ndarray:
    """The symmetric matrix whose upper triangle, √2 times off the diagonal, this is."""
    matrix, (rows, columns) = np.zeros((n, n)), np.triu_indices(n)
    matrix[rows, columns] = matrix[columns, rows] = packed / np.where(rows == columns, 1.0, math.sqrt(2.0))
    return matrix
