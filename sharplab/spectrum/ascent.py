"""The largest dᵀAd in the unit ball of a norm, as far as ascents from several points find it."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.spectrum.noise import noise
from sharplab.spectrum.products import LinearMap, product
from sharplab.spectrum.unit_balls import UnitBall

MOST_STEPS = 200  # of one ascent


class Ascent(NamedTuple):
    """A point of the ball, and how an ascent came there; scalars but for the first three.

    Attributes:
        d, Ad: the point and the operator's product with it.
        goal: the farthest point of the ball that the next step may reach.
        shift: σ by which A + σ is taken to be convex there.
        value: dᵀAd.
        gap: 2(‖Ad‖* − dᵀAd), the most by which a point of the ball is higher to first order. Where A ⪰ 0 the next step
            gains that much at least.
        gain: of the last step; inf before the first.
        steps: number of them, each of one product.
    """

    d: PyTree
    Ad: PyTree
    goal: PyTree
    shift: jax.Array
    value: jax.Array
    gap: jax.Array
    gain: jax.Array
    steps: jax.Array


class Ascents(NamedTuple):
    """The highest point that ascents found, with its certificates; scalars but for `d`.

    Attributes:
        d: the point, on the ball's surface.
        value, gap, gain: of its ascent.
        lowest: the lowest value at which one ended.
        matvecs: the number of products of all.
    """

    d: PyTree
    value: jax.Array
    gap: jax.Array
    gain: jax.Array
    lowest: jax.Array
    matvecs: jax.Array


def best_ascent(
    op: LinearOperator,
    ball: UnitBall,
    starts: PyTree,
    key: jax.Array,
    count: int,
    tol: jax.typing.ArrayLike,
    loop: Loop,
) -> Ascents:
    """The highest of `count` ascents: from the stacked vectors `starts`, and from random ones; those of 0 are random.

    After a product that is not finite none is made, and the values are NaN.
    """
    matvec = product(op, loop)

    def another(state: _State) -> _State:
        return _with(state, _ascend(ball, matvec, _start(starts, key, state.number), tol, loop))

    last = repeat_while(
        lambda state: (state.number < count) & ~jnp.isnan(state.best.value), another, _nothing(op.domain), loop
    )
    return _on_surface(ball, last)


class _State(NamedTuple):
    number: jax.Array  # of ascents so far
    best: Ascent
    lowest: jax.Array
    matvecs: jax.Array


@jax.jit
def _nothing(domain: PyTree) -> _State:
    zeros, none = jax.tree.map(jnp.zeros_like, domain), jnp.zeros((), tree.dtype(domain))
    zero = jnp.zeros((), jnp.int32)
    return _State(zero, Ascent(zeros, zeros, zeros, none, none - jnp.inf, none, none, zero), none + jnp.inf, zero)


@jax.jit
def _with(state: _State, found: Ascent) -> _State:
    higher = ~(found.value <= state.best.value)  # NaN too
    best, lowest = tree.where(higher, found, state.best), jnp.minimum(state.lowest, found.value)
    return _State(state.number + 1, best, lowest, state.matvecs + found.steps + 1)


@jax.jit
def _start(starts: PyTree, key: jax.Array, number: jax.Array) -> PyTree:
    count = len(jax.tree.leaves(starts)[0])
    given = jax.tree.map(lambda v: v[jnp.minimum(number, count - 1)], starts)
    return tree.where((number < count) & (tree.norm(given) > 0), given, noise(key, number, given))


def _ascend(ball: UnitBall, matvec: LinearMap, start: PyTree, tol: jax.typing.ArrayLike, loop: Loop) -> Ascent:
    """The ascent from a vector to where no point of the ball is higher to first order.

    With A + σ ⪰ 0, wᵀAw lies above its tangent at d less σ‖w − d‖₂², which is highest in the ball at the point nearest
    to d + Ad/σ; for σ = 0, at polar factors and signs of Ad. A step goes to the highest point of the segment that leads
    there, so that no value falls whatever σ is; it is what the curvature along the last step asks for. (Lower values of
    ‖w‖₂ may be higher points where A is indefinite: a constant shift would not see them.)
    """
    d = _scaled(ball, start)

    def step(state: Ascent) -> Ascent:
        return _moved(ball, state, matvec(state.goal))

    def unfinished(state: Ascent) -> jax.Array:
        return (state.gap > tol * state.value) & (state.steps < MOST_STEPS)

    return repeat_while(unfinished, step, _begin(ball, d, matvec(d)), loop)


@partial(jax.jit, static_argnums=0)
def _scaled(ball: UnitBall, d: PyTree) -> PyTree:
    size = ball.norm(d)
    return tree.scale(1 / jnp.where(size > 0, size, 1), d)


@partial(jax.jit, static_argnums=0)
def _begin(ball: UnitBall, d: PyTree, Ad: PyTree) -> Ascent:
    none = jnp.zeros((), tree.dtype(d))
    return _at(ball, d, Ad, none, none - jnp.inf, jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnums=0)
def _moved(ball: UnitBall, state: Ascent, of_goal: PyTree) -> Ascent:
    """The highest point between the last one and its goal, of which the product is `of_goal`."""
    step, of_step = (jax.tree.map(jnp.subtract, *pair) for pair in ((state.goal, state.d), (of_goal, state.Ad)))
    slope, curvature, square = tree.dot(state.Ad, step), tree.dot(step, of_step), tree.dot(step, step)
    concave = curvature < 0
    share = jnp.where(concave, jnp.minimum(1, -slope / jnp.where(concave, curvature, 1)), 1)
    shift = jnp.maximum(-curvature / jnp.where(square > 0, square, 1), state.shift / 2)
    d, Ad = tree.moved(state.d, share, step), tree.moved(state.Ad, share, of_step)
    return _at(ball, d, Ad, jnp.maximum(shift, 0), state.value, state.steps + 1)


def _at(ball: UnitBall, d: PyTree, Ad: PyTree, shift: jax.Array, before: jax.Array, steps: jax.Array) -> Ascent:
    value = tree.dot(d, Ad)
    goal = ball.farthest(tree.moved(Ad, shift, d), shift)
    dual = jax.lax.cond(shift > 0, ball.dual_norm, lambda Ad: tree.dot(Ad, goal), Ad)
    return Ascent(d, Ad, goal, shift, value, 2 * (dual - value), value - before, steps)


@partial(jax.jit, static_argnums=0)
def _on_surface(ball: UnitBall, last: _State) -> Ascents:
    best = last.best
    size = ball.norm(best.d)
    factor = 1 / jnp.where(size > 0, size, 1)
    value = factor**2 * best.value
    gap = factor * (best.gap + 2 * best.value) - 2 * value
    return Ascents(tree.scale(factor, best.d), value, gap, best.gain, jnp.minimum(last.lowest, value), last.matvecs)
