"""Methods that find their learning rate: which these are, and the one that each has found.

They are those of `optax.contrib`. Most estimate one number for all parameters. Under a parameterization whose learning
rate differs from parameter to parameter, base rate times a factor f, a method runs in other units, those in which the
optimizer it is made of has one learning rate for all: of parameters w/s, s = √f for steps that go with the gradient and
s = f for those of Adam. What it finds is then a base learning rate, and its distances and gradients are such as the
effective sharpness is measured in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from sharplab.core.arguments import checked, function
from sharplab.core.tree import PyTree

B1, B2, EPS = 0.9, 0.999, 1e-8  # of each Adam here, which are optax's defaults
AVERAGED = (1 + B1) / (1 - B1)  # threshold over 2/η, of steps along an average of gradients
AVERAGED_AHEAD = (1 + B1) / ((1 + 2 * B1) * (1 - B1))  # and of Nesterov's form of these

Rate = Callable[[Any, Any, PyTree], jax.Array]


@dataclass(frozen=True, eq=False)
class Method:
    """An optimizer that needs no learning rate, and how to read the one that it uses.

    Attributes:
        transformation: optax's; all of them take `value=`, the loss of the batch.
        kind: "sgd" or "adam", of the steps that it scales (`sharplab.scaling.KINDS`).
        rate: (state before an update, state after it, parameters before it) → the learning rate of that update, the
            schedule's factor included: what multiplies the direction of the optimizer that the method is made of. NaN
            where there is no such number.
        inverse: state → P^-1, the diagonal that turns gradients into directions up to momentum, like the parameters or
            1; None where no threshold is known.
        ratio: the effective sharpness λmax(P^-½ H P^-½) above which steps of the rate η turn unstable is ratio · 2/η.
        evaluated: (state, parameters) → the parameters whose loss counts, where these are others.
    """

    transformation: optax.GradientTransformationExtraArgs
    kind: str
    rate: Rate
    inverse: Callable[[Any], PyTree] | None = None
    ratio: float = float("nan")
    evaluated: Callable[[Any, PyTree], PyTree] | None = None


def _constant(step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    return 1.0


@lru_cache(maxsize=16)
@checked(schedule=function)
def lr_free_methods(schedule: optax.Schedule = _constant) -> Mapping[str, Method]:
    """The methods by name, each at the defaults of `optax.contrib`, with its learning rates multiplied by a schedule.

    Where the learning rate stands:

    | name | learning rate | of |
    | --- | --- | --- |
    | prodigy | its estimate d of ‖w₀ − w*‖∞ (2306.06101) | Adam |
    | dadapt | its estimate d (2301.07733) | Adam |
    | mechanic | Σ s over its six bettors (2306.00144); with s all that was stepped is scaled anew | NAdam |
    | dog | max ‖w − w₀‖ / √Σ‖g‖² (2302.12022) | SGD |
    | dowg | r² / √Σ r²‖g‖², r² the largest ‖w − w₀‖² (2305.16284) | SGD |
    | momo | the least of 1 and Polyak's, (averaged loss at w)/‖averaged g‖² (2305.07583) | averaged SGD |
    | momo-adam | the same in Adam's metric, at most 0.01/(1 − β₁^t) | Adam without correction of its mean |
    | schedule-free | given, 0.0025 (2405.15682) | Adam without momentum, whose steps are averaged |
    | cocob | none, as each coordinate bets by itself (1705.07795) | |

    The schedule does not enter schedule-free, which needs none, nor cocob, which has no place for it. That of MoMo
    multiplies the bound. A schedule is taken for the same if it is the same object.

    >>> dog = lr_free_methods()["dog"]
    >>> w = g = jnp.array([3.0, 4.0])
    >>> before = dog.transformation.init(w)
    >>> updates, after = dog.transformation.update(g, before, w, value=12.5)
    >>> bool(jnp.allclose(updates, -dog.rate(before, after, w) * g))
    True
    """
    of_adam = partial(Method, kind="adam", ratio=AVERAGED)
    nadam = optax.scale_by_adam(nesterov=True)
    mechanic = contrib.mechanize(optax.chain(nadam, optax.scale_by_learning_rate(schedule)))
    found = {
        "prodigy": of_adam(
            contrib.prodigy(schedule),
            rate=lambda before, after, params: before.estim_lr * schedule(before.count),
            # its second moments are of d · g
            inverse=lambda state: _inverse(
                jax.tree.map(lambda v: v / state.estim_lr**2, state.exp_avg_sq), state.count
            ),
        ),
        "dadapt": of_adam(
            contrib.dadapt_adamw(schedule),
            rate=lambda before, after, params: before.estim_lr * schedule(before.count),
            inverse=lambda state: _inverse(state.exp_avg_sq, state.count),
        ),
        "mechanic": Method(
            mechanic,
            kind="adam",
            rate=lambda before, after, params: after.s.sum() * schedule(before.count),
            inverse=lambda state: _inverse(state.base_optimizer_state[0].nu, state.count),
            ratio=AVERAGED_AHEAD,
        ),
        "dog": _plain(
            contrib.dog(schedule), lambda state: state.max_dist / jnp.sqrt(state.sum_sq_norm_grads + 1e-8), schedule
        ),
        "dowg": _plain(
            contrib.dowg(schedule),
            lambda state: state.estim_sq_dist / (jnp.sqrt(state.weighted_sq_norm_grads) + 1e-4),
            schedule,
        ),
        "momo": Method(
            contrib.momo(schedule),
            kind="sgd",
            rate=lambda before, after, params: _polyak(after, params, after.exp_avg, schedule(before.count), 1.0),
            inverse=lambda state: 1.0,
            ratio=AVERAGED,
        ),
        "momo-adam": of_adam(
            contrib.momo_adam(lambda step: 0.01 * schedule(step)),
            rate=lambda before, after, params: _polyak(
                after,
                params,
                jax.tree.map(jnp.multiply, _inverse(after.exp_avg_sq, after.count), after.exp_avg),
                0.01 * schedule(before.count),
                1 - B1**after.count,
            ),
            inverse=lambda state: _inverse(state.exp_avg_sq, state.count),
        ),
        "schedule-free": Method(
            contrib.schedule_free_adamw(0.0025),
            kind="adam",
            rate=lambda before, after, params: after.max_lr,
            evaluated=contrib.schedule_free_eval_params,
        ),
        "cocob": Method(
            optax.with_extra_args_support(contrib.cocob()),
            kind="adam",
            rate=lambda before, after, params: jnp.array(jnp.nan),
        ),
    }
    return MappingProxyType(found)


@lru_cache(maxsize=16)
@checked(schedule=function)
def nadamw(schedule: optax.Schedule = _constant) -> Method:
    """NadamW at optax's defaults, of the learning rate 1 times a schedule: what these are set against."""
    return Method(
        optax.with_extra_args_support(optax.nadamw(schedule)),
        kind="adam",
        rate=lambda before, after, params: schedule(before[0].count),
        inverse=lambda state: _inverse(state[0].nu, state[0].count),
        ratio=AVERAGED_AHEAD,
    )


def _plain(
    transformation: optax.GradientTransformation, formula: Callable[[Any], jax.Array], schedule: optax.Schedule
) -> Method:
    """A method whose steps are its learning rate times the gradient, in the form of DoG's chain."""
    return Method(
        optax.with_extra_args_support(transformation),
        kind="sgd",
        rate=lambda before, after, params: formula(after[1]) * schedule(before[2].count),
        inverse=lambda state: 1.0,
        ratio=1.0,
    )


def _inverse(second_moments: PyTree, count: jax.Array) -> PyTree:
    """P^-1 of Adam."""
    return jax.tree.map(lambda v: 1 / (jnp.sqrt(v / (1 - B2**count)) + EPS), second_moments)


def _polyak(
    state: Any, params: PyTree, direction: PyTree, bound: jax.Array, correction: float | jax.Array
) -> jax.Array:
    """MoMo's learning rate of the update that led to a state, along `direction`."""
    dot = optax.tree.vdot
    model = jnp.maximum(state.barf - correction * state.lb - state.gamma + dot(state.exp_avg, params), 0)
    slope = dot(state.exp_avg, direction)
    return jnp.minimum(bound / correction, jnp.where(slope <= jnp.finfo(float).eps, 0, model / slope))


def units_of(factors: PyTree, kind: str) -> PyTree:
    """The units s in which steps of a kind, of the learning rate η · factor, have the learning rate η alone.

    >>> units_of({"w": 0.25}, "sgd"), units_of({"w": 0.25}, "adam")
    ({'w': 0.5}, {'w': 0.25})
    """
    return jax.tree.map({"sgd": lambda f: f**0.5, "adam": lambda f: f}[kind], factors)


def counted_in(units: PyTree, params: PyTree) -> PyTree:
    """The parameters w/s, in units s; 0 where the unit is."""
    return jax.tree.map(lambda s, w: jnp.where(s == 0, 0, w / jnp.where(s == 0, 1, s)).astype(w.dtype), units, params)


def in_units(transformation: optax.GradientTransformation, units: PyTree) -> optax.GradientTransformationExtraArgs:
    """The transformation of parameters w that does what the given one does to w/s, whose gradients are s·g.

    Its state is that of the given one, so that `Method.rate` reads it, with parameters `counted_in` these units. SGD of
    the learning rate η becomes steps −η s² g, and Adam −η s · direction, with ε beside s·g. Parameters whose unit is 0
    stay.

    Args:
        units: s, like the parameters or scalars in their place.

    >>> halved = in_units(optax.sgd(1.0), {"w": 0.5})
    >>> w = g = {"w": jnp.ones(1)}
    >>> halved.update(g, halved.init(w), w)[0]["w"].tolist()
    [-0.25]
    """
    inner = optax.with_extra_args_support(transformation)

    def times(x: PyTree) -> PyTree:
        return jax.tree.map(lambda s, leaf: (s * leaf).astype(leaf.dtype), units, x)

    def init(params: PyTree) -> PyTree:
        return inner.init(counted_in(units, params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, PyTree]:
        weights = None if params is None else counted_in(units, params)
        steps, state = inner.update(times(updates), state, weights, **extra)
        return times(steps), state

    return optax.GradientTransformationExtraArgs(init, update)
