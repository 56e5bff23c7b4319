"""The sharpness in the norm of an optimizer's normalised steps, from record to record."""

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.curvature import precondition
from sharplab.spectrum.ascent import best_ascent
from sharplab.spectrum.products import widened
from sharplab.spectrum.unit_balls import UnitBall
from sharplab.tracking.context import Context
from sharplab.tracking.quantities import raw_hessian

ASCENTS = 3  # of a record: from the direction of the one before, from the gradient, and from a random vector


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
