"""The sharpness in the norm of an optimizer's normalised steps, from record to record."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import precondition
from sharplab.spectrum.ascent import best_ascent
from sharplab.spectrum.products import widened
from sharplab.spectrum.unit_balls import UnitBall, named_ball
from sharplab.tracking.context import Context
from sharplab.tracking.quantities import raw_hessian

ASCENTS = 3  # of a record: from the direction of the one before, from the gradient, and from a random vector

# (params, opt_state) → the ball, and the factors of steps −η · factors · d to its surface.
Geometry = Callable[[PyTree, PyTree], tuple[UnitBall, PyTree]]


def geometry_of(
    norm: str,
    matrices: Mapping[str, tuple[Sequence[int], Sequence[int]]] | None,
    factors: Callable[[PyTree, PyTree], PyTree] | None,
) -> Geometry:
    """The geometry of steps of norm 1, "spectral" or "linf", times factors(params, opt_state); one object for equals.

    `matrices` are as of `sharplab.norm_sharpness`.
    """
    axes = tuple((path, (tuple(rows), tuple(columns))) for path, (rows, columns) in sorted((matrices or {}).items()))
    return _geometry_of(norm, axes, factors)


@lru_cache(maxsize=256)  # one function for equal ones, so that their programs are compiled once
def _geometry_of(norm: str, axes: tuple, factors: Callable[[PyTree, PyTree], PyTree] | None) -> Geometry:
    def geometry(params: PyTree, opt_state: PyTree) -> tuple[UnitBall, PyTree]:
        ones = jax.tree.map(lambda w: 1.0, params)
        return named_ball(norm, params, dict(axes)), ones if factors is None else factors(params, opt_state)

    return geometry


@lru_cache(maxsize=256)
def step_of(geometry: Geometry) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
    """The step without momentum at learning rate 1, −factors · argmax of ⟨g, factors · d⟩; of g, params, opt_state."""

    def step(gradient: PyTree, params: PyTree, opt_state: PyTree) -> PyTree:
        ball, factors = geometry(params, opt_state)
        d = ball.farthest(tree.multiply(factors, tree.wide(gradient)), 0.0)
        return jax.tree.map(jnp.negative, tree.multiply(factors, d))

    return step


def begin_in_norm(params: PyTree) -> PyTree:
    """The direction before the first record: none."""
    return jax.tree.map(jnp.zeros_like, tree.wide(params))


def track_in_norm(
    context: Context, ball: UnitBall, factors: PyTree, direction: PyTree, *, tol: float
) -> tuple[PyTree, dict[str, jax.Array]]:
    """The direction of the largest curvature that was found, and S/‖g‖* by suffix of column.

    Steps are −η · factors · d, d in the ball: S is that of F H F, F = diag(factors), and ‖g‖* of F g. Of S it is what
    the highest of three ascents reached; the error is by how much the lowest ended below, and the gap to first order.

    Args:
        factors: like the params, whose leaves may be plain floats; what has 0 is held.
        direction: that of the record before.
    """
    op = widened(precondition(raw_hessian(context), factors))
    gradient = tree.multiply(factors, tree.wide(context.gradient))
    starts = jax.tree.map(lambda d, g: jnp.stack([d, g]), direction, gradient)
    found = best_ascent(op, ball, starts, context.key, ASCENTS, tol, context.loop)
    size = ball.dual_norm(gradient)
    below = jnp.maximum(found.gap, 0) + found.value - found.lowest
    return found.d, {"": found.value / size, "_error": below / size, "_matvecs": found.matvecs}
