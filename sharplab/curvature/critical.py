"""The curvature along an update, from values of the loss alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.arguments import checked, positive, share
from sharplab.core.loops import Loop, choose_loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.curvature.chunks import Examples
from sharplab.curvature.functions import as_partial, objective
from sharplab.curvature.host_batches import HostBatches
from sharplab.curvature.linear_operator import match_structure
from sharplab.curvature.streaming import Shared, Stream, examples_of_loss, mean_value

TOLERANCE = 1 / 16
FARTHEST = 96.0  # octaves from a learning rate of 1 at which the search ends
FIRST_STRIDE = 1.9  # brackets: below 2, so that halving ends within one
ROUNDING = 4  # units of ε·|L| that a loss is taken to be rounded by
NUDGES, NUDGED = 3, 32  # changes of all weights in their last digit; times what they do to L is its rounding, if more
SURE = 2.0**-12  # share by which rounding as above may move η_c, below which it is not asked for


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["value", "error", "learning_rate", "evaluations"],
    meta_fields=[],
)
@dataclass(frozen=True)
class CriticalSharpness:
    """The critical sharpness λ_c = 2/η_c with its error; scalars.

    Attributes:
        value: λ_c, the middle of its bracket.
        error: half of the bracket's width, and an estimate of how far rounding of the loss moves it.
        learning_rate: η_c = 2/value, from which to start at the next point.
        evaluations: how many times the loss was computed.
    """

    value: jax.Array
    error: jax.Array
    learning_rate: jax.Array
    evaluations: jax.Array


@checked(tol=share, start=positive)
def critical_sharpness(
    loss: Callable[..., jax.Array],
    params: PyTree,
    update: PyTree,
    batch: Any,
    *,
    model: Callable[..., Any] | None = None,
    other: tuple[Callable[..., jax.Array], Any] | None = None,
    weight: Any = None,
    chunk: int | None = None,
    tol: float = TOLERANCE,
    start: float | None = None,
) -> CriticalSharpness:
    """The critical sharpness λ_c = 2/η_c, η_c the least η > 0 at which L(w + ηΔ) exceeds L(w), Δ an optimizer's update.

    Where the loss is quadratic, λ_c = ΔᵀHΔ/(−gᵀΔ); for Δ = −Dg that is a Rayleigh quotient of D^½ H D^½, hence at most
    the effective sharpness. Only the loss itself is computed, so that any network will do which has a gradient, or an
    update from elsewhere. η_c is looked for from `start` on in strides that double, and then between the last two: of
    several places where the loss comes to exceed L(w), one is found. From the η_c of an earlier point that takes 4
    or 5 evaluations where it moved by at most an eighth, and 6 where it did by less than half.

    Losses that are not finite count as larger than L(w). The value is NaN where L(w) is not finite and where no η
    lowers the loss by more than its rounding: an update of 0, or one that does not descend. It is 0, but for less than
    1e-28, where no η raises the loss. A mean is rounded by more than its last digit where it is small next to what it
    is computed from, as the cross-entropy of large logits is: where the loss is lowered by less than 4096 of its last
    digits, in float32 1/2048 of it, three more evaluations tell how much it moves as each weight does in its last.

    Args:
        loss, params, batch, model, weight, chunk: as of `hessian`; a batch on the host is read for each evaluation.
        update: Δ like the params, the step at learning rate 1: w + η·update. What an optax transformation returns is
            such a step; η is then in units of its own learning rate.
        other: (loss, batch) of another task, for the relative critical sharpness: `params` and `update` are those of
            training on `loss`, and it is the other's loss that is followed; `weight` then belongs to its batch.
        tol: 1 − low/high of the bracket around η_c at which to stop, between 0 and 1.
        start: the learning rate that is tried first, as the last η_c; 1 by default.

    Raises:
        ValueError: as `hessian`, and for an update unlike the params.

    Source: Kalra et al., arXiv 2601.16979.

    >>> def loss(w, scale):
    ...     return 0.5 * jnp.sum(scale * w**2)
    >>> w, scale = jnp.ones(2), jnp.array([1.0, 3.0])
    >>> found = critical_sharpness(loss, w, -scale * w, scale)  # gᵀHg/gᵀg of g = (1, 3)
    >>> abs(float(found.value) - 2.8) < float(found.error) < 0.1
    True
    """
    if other is not None:
        if not (isinstance(other, tuple) and len(other) == 2 and callable(other[0])):
            raise ValueError(f"other must be a pair (loss, batch), not {other!r}.")
        loss, batch = other
    params = tree.floats(params, "params")
    shared = ((as_partial(loss, params), None if model is None else as_partial(model, params)), params)
    examples = examples_of_loss(objective, shared, batch, chunk, weight)
    return find_critical(shared, examples, _like(params, update), 1.0 if start is None else start, tol=tol)


def find_critical(
    shared: Shared,
    examples: Stream,
    update: PyTree,
    start: jax.typing.ArrayLike,
    *,
    tol: float = TOLERANCE,
    loop: Loop | None = None,
) -> CriticalSharpness:
    """The critical sharpness of a mean loss over `examples`, as `critical_sharpness` finds it.

    `shared` is ((loss, model or None), params); a `start` that is no positive, finite number counts as 1.
    """
    if isinstance(examples, HostBatches):
        loop = "python"
    elif loop is None:
        traced = tree.is_traced((shared, examples, update, start))
        loop = "compiled" if traced else choose_loop(_mean_loss, shared, examples)
    search = _search_compiled if loop == "compiled" else _search
    return search(shared, examples, update, start, tol, loop)


class _State(NamedTuple):
    """A search on the line of octaves x = log₂ η."""

    loss: jax.Array  # at the point itself
    low: jax.Array  # the largest x so far at which the loss was no larger; −inf before
    high: jax.Array  # the least x at which it was; inf before
    rounding: jax.Array  # of a loss
    x: jax.Array  # to be tried next
    stride: jax.Array  # to the one after that, while there is no bracket
    fall: jax.Array  # the most by which a loss was seen to be smaller
    asked: jax.Array  # evaluations since the bracket is found: at 1 x asks how far the loss falls, then for rounding
    finished: jax.Array
    evaluations: jax.Array


def _search(
    shared: Shared, examples: Stream, update: PyTree, start: jax.typing.ArrayLike, tol: jax.typing.ArrayLike, loop: Loop
) -> CriticalSharpness:
    streamed = isinstance(examples, HostBatches)
    mean = _mean_loss if streamed else _mean_loss_compiled

    def at(state: _State) -> jax.Array:
        return mean((shared[0], _moved(shared[1], update, state)), examples)

    width = -jnp.log2(1 - jnp.asarray(tol, tree.dtype(shared[1])))
    state = _begin(mean(shared, examples), start, width)
    last = repeat_while(lambda s: ~s.finished, lambda s: _next(s, at(s), width), state, loop)
    return _result(last)


_search_compiled = jax.jit(_search, static_argnames="loop")


def _mean_loss(shared: Shared, examples: Stream) -> jax.Array:
    return mean_value(_value, shared, examples)


def _value(shared: Shared, part: Examples) -> jax.Array:
    functions, params = shared
    with jax.default_matmul_precision("highest"):
        return jnp.asarray(objective(functions, params, part.batch))


_mean_loss_compiled = jax.jit(_mean_loss)


@jax.jit
def _moved(params: PyTree, update: PyTree, state: _State) -> PyTree:
    """The point w + 2ˣ Δ, or where the rounding is asked for w with other last digits."""

    def nudged() -> PyTree:
        noise = tree.normal(jax.random.key(state.asked), params)
        return jax.tree.map(lambda w, n: w * (1 + jnp.finfo(w.dtype).eps * n).astype(w.dtype), params, noise)

    return jax.lax.cond(state.asked > 1, nudged, lambda: tree.moved(params, jnp.exp2(state.x), update))


@jax.jit
def _begin(loss: jax.Array, start: jax.typing.ArrayLike, width: jax.Array) -> _State:
    none = jnp.zeros_like(width)
    x = jnp.log2(jnp.asarray(start, width.dtype))
    return _State(
        loss=loss,
        low=none - jnp.inf,
        high=none + jnp.inf,
        rounding=ROUNDING * jnp.finfo(loss.dtype).eps * jnp.abs(loss),
        x=jnp.where(jnp.abs(x) < FARTHEST, x, 0),
        stride=FIRST_STRIDE * width,
        fall=jnp.zeros_like(loss),
        asked=jnp.zeros((), jnp.int32),
        finished=~jnp.isfinite(loss),
        evaluations=jnp.ones((), jnp.int32),
    )


@jax.jit
def _next(state: _State, loss: jax.Array, width: jax.Array) -> _State:
    """The state after the loss where `_moved` says."""
    searching, nudged = state.asked == 0, state.asked > 1
    risen, x, change = ~(loss <= state.loss), state.x, loss - state.loss
    low = jnp.where(searching & ~risen, x, state.low)
    high = jnp.where(searching & risen, x, state.high)
    state = state._replace(
        low=low,
        high=high,
        rounding=jnp.maximum(state.rounding, jnp.where(nudged, NUDGED * jnp.abs(change), 0)),
        fall=jnp.maximum(state.fall, jnp.where(risen | nudged, 0, -change)),
        evaluations=state.evaluations + 1,
    )
    bracketed = jnp.isfinite(low) & jnp.isfinite(high)
    middle = (low + high) / 2
    settled = bracketed & ((high - low <= width) | (middle <= low) | (middle >= high))
    beyond = ~bracketed & (jnp.abs(x) >= FARTHEST)
    found = ~searching | settled | beyond
    farther = jnp.clip(x + jnp.where(risen, -1, 1) * state.stride, -FARTHEST, FARTHEST)
    noise = _noise(state)
    told = (noise < SURE) | (~searching & ~(noise < 1)) | (state.asked > NUDGES)
    # Of a parabola that crosses at η the lowest point is at η/2.
    return state._replace(
        x=jnp.where(found, low - 1, jnp.where(bracketed, middle, farther)),
        stride=2 * state.stride,
        asked=jnp.where(found, state.asked + 1, 0),
        finished=found & (told | (beyond & searching & risen)),
    )


def _noise(state: _State) -> jax.Array:
    """By what share of itself rounding of losses may move η_c, on a parabola at most as deep as was seen."""
    deep = state.fall > 0
    return jnp.where(deep, state.rounding / jnp.where(deep, 4 * state.fall, 1), jnp.inf)


@jax.jit
def _result(state: _State) -> CriticalSharpness:
    noise = _noise(state).astype(state.low.dtype)
    above, below = jnp.exp2(-state.low), jnp.exp2(-state.high)  # halves of the ends of the bracket of λ_c
    value = jnp.where(noise < 1, above + below, jnp.nan)
    return CriticalSharpness(value, above - below + noise * value, 2 / value, state.evaluations)


def _like(params: PyTree, update: PyTree) -> PyTree:
    """The update in the structure of the params."""
    update = match_structure(params, tree.floats(update, "update"), "update")
    for w, u in zip(jax.tree.leaves(params), jax.tree.leaves(update), strict=True):
        if w.shape != u.shape:
            raise ValueError(f"update has a leaf of shape {u.shape} where that of params is of shape {w.shape}.")
    return update
