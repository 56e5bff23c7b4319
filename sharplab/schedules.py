"""Learning-rate schedules, by default in units of the learning rate that a run is given; optax has those missing here.

By name, arguments follow in brackets: "wsd(decay=0.2)". Step 0 is the first, `steps - 1` the last; lengths of phases
are fractions of the run.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from sharplab.core.arguments import checked, finite, fraction, positive, share
from sharplab.core.imports import find_function
from sharplab.core.remembered import cached_by_precision


@checked(peak=positive, warmup=fraction, decay=fraction)
def wsd(steps: int, peak: float = 1.0, *, warmup: float = 0.0, decay: float = 0.1) -> optax.Schedule:
    """The schedule warm-up, stable, decay: linear up, constant, linear down, to 0 after the last step.

    See arXiv 2404.06395 and 2405.18392.

    Raises:
        ValueError: for phases that are no fractions of the run, or more than 1 together.

    >>> [float(wsd(8, warmup=0.25, decay=0.5)(step)) for step in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    _apart(warmup, decay)
    up, down = _phase(warmup, steps), _phase(decay, steps)
    return lambda step: peak * jnp.clip(jnp.minimum((step + 1) / up, (steps - step) / down), 0.0, 1.0)


@checked(peak=positive)
def rex(steps: int, peak: float = 1.0) -> optax.Schedule:
    """The reflected exponential (1 − p)/(1 − p/2), p = step/steps (arXiv 2107.04197).

    >>> float(rex(8, 3.0)(4))
    2.0
    """

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        past = jnp.clip(step / steps, 0.0, 1.0)
        return peak * (1 - past) / (1 - past / 2)

    return schedule


@checked(peak=positive, warmup=fraction)
def inverse_sqrt(steps: int, peak: float = 1.0, *, warmup: float = 0.1) -> optax.Schedule:
    """The inverse square root: linear up to the peak at step W, then peak·√(W/step), steps counted from 1.

    See arXiv 1706.03762.

    >>> [float(inverse_sqrt(16, warmup=0.25)(step)) for step in (0, 3, 15)]
    [0.25, 1.0, 0.5]
    """
    up = _phase(warmup, steps)
    return lambda step: peak * jnp.minimum((step + 1) / up, jnp.sqrt(up / (step + 1)))


@checked(peak=positive, flat=fraction, exponent=finite, warmup=fraction, decay=fraction, last=share)
def power(
    steps: int,
    peak: float = 1.0,
    *,
    flat: float = 0.1,
    exponent: float = -0.51,
    warmup: float = 0.0,
    decay: float = 0.1,
    last: float = 0.01,
) -> optax.Schedule:
    """The power schedule min(peak, c·n^exponent) of n tokens so far, with an exponential end (arXiv 2408.13359).

    Args:
        steps: of the run.
        peak: the largest value.
        flat: the fraction of the run up to which c·n^exponent is above the peak.
        exponent: below 0.
        warmup: the fraction in which it rises linearly.
        decay: the fraction in which it falls.
        last: by what it has been multiplied when the run ends.

    >>> [round(float(power(100, decay=0.5, flat=0.1, exponent=-0.5)(step)), 3) for step in (0, 10, 40, 100)]
    [1.0, 1.0, 0.5, 0.003]
    """
    if exponent > 0:
        raise ValueError(f"exponent must be at most 0, not {exponent}.")
    _apart(warmup, decay)
    until, up, down = max(flat * steps, 1.0), _phase(warmup, steps), _phase(decay, steps)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        law = jnp.maximum(step / until, 1.0) ** exponent
        falling = last ** jnp.clip(1 - (steps - step) / down, 0.0, 1.0)
        return peak * law * falling * jnp.minimum((step + 1) / up, 1.0)

    return schedule


def _apart(warmup: float, decay: float) -> None:
    """Refuse phases that overlap: the peak that learning rates are quoted at would never be reached."""
    if warmup + decay > 1 + 1e-9:
        raise ValueError(f"warmup and decay are fractions of one run, {warmup:g} and {decay:g}: at most 1 together.")


def _phase(part: float, steps: int) -> int:
    """The steps of a phase; of one that is left out, 1, which is none."""
    return max(round(part * steps), 1)


@checked(peak=positive, smoothing=fraction)
def refined_schedule(norms: Any, peak: float = 1.0, *, norm: str = "l2", smoothing: float = 0.1) -> np.ndarray:
    """The learning rates (T,) that the norms of the gradients of an earlier run suggest (arXiv 2310.07831).

    η_t = w_t Σ_{p>t} w_p, scaled to `peak`: linear decay for norms that are constant, with warm-up where they fall
    early. The weights w are ‖g‖₂^−2, as for SGD, or ‖g‖₁^−1, as for Adam.

    Args:
        norms: of the gradient of each step, (T,).
        peak: the largest learning rate.
        norm: which they are, "l2" or "l1".
        smoothing: the width of the running median of the norms, as a fraction of the run.

    >>> refined_schedule([3.0] * 5).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if norm not in ("l2", "l1"):
        raise ValueError(f"norm must be 'l2' or 'l1', not {norm!r}.")
    try:
        given = np.asarray(norms, float)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.ndim != 1 or len(given) < 2 or not ((given > 0) & (given < np.inf)).all():
        raise ValueError("norms must be positive, finite numbers, one for each of two steps or more.")
    from scipy import ndimage  # here, for it takes time to import, and training needs none of it

    smooth = ndimage.median_filter(given, 2 * int(smoothing * len(given) / 2) + 1, mode="nearest")
    weights = (smooth / smooth.min()) ** (-2 if norm == "l2" else -1)
    later = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    rates = weights * later
    return peak * rates / rates.max()


def refined(norms: Any, peak: float = 1.0, *, norm: str = "l2", smoothing: float = 0.1) -> optax.Schedule:
    """The learning rates of `refined_schedule` as a schedule, 0 after the last."""
    rates = jnp.asarray(refined_schedule(norms, peak, norm=norm, smoothing=smoothing))
    return lambda step: rates[jnp.minimum(step, len(rates) - 1)]


@checked(peak=positive)
def points(steps: int, peak: float = 1.0, *, values: Any = (1.0, 0.0)) -> optax.Schedule:
    """The straight lines through values at even distances, from the first step to the end after the last.

    By name values follow in brackets, "points(1, 0.5, 0)".

    >>> [float(points(4, values=(0, 1, 0))(step)) for step in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    given = _shape(values)
    at, factors = np.linspace(0, steps, len(given)), peak * given
    return lambda step: jnp.interp(step, at, factors)


def points_name(values: Any) -> str:
    """The name under which experiments take `points`, of values in units of the largest, to four digits.

    Of more than 65 values so many are kept, at even distances.

    >>> points_name([0.02, 0.015, 0.01, 0.0])
    'points(1, 0.75, 0.5, 0)'
    """
    given = _shape(values)
    places = np.linspace(0, len(given) - 1, min(len(given), MOST_POINTS))
    kept = np.interp(places, np.arange(len(given)), given)
    return f"points({', '.join(f'{value:.4g}' for value in kept / kept.max())})"


def _shape(values: Any) -> np.ndarray:
    try:
        given = np.asarray(values, float)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.ndim != 1 or len(given) < 2 or not ((given >= 0) & (given < np.inf)).all() or not given.any():
        raise ValueError("values must be two or more finite numbers from 0 on, not all of them 0.")
    return given


MOST_POINTS = 65  # in a name
LEAST_TABLE = 2**9  # factors of a tabulated schedule

# Name → (steps, arguments → schedule), None for a factor of 1. Stored runs are known by the name and the arguments that
# are not the default: a default that changes would make other runs of them.
SCHEDULES: Mapping[str, Callable[..., optax.Schedule] | None] = {
    "constant": None,
    "linear": lambda steps: optax.linear_schedule(1.0, 0.0, steps),
    "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
    "wsd": wsd,
    "power": power,
    "rex": rex,
    "inverse_sqrt": inverse_sqrt,
    "points": points,
}


def _defaults(name: str) -> dict[str, Any]:
    """The arguments that a schedule takes by name."""
    make = SCHEDULES[name]
    known = {} if make is None else inspect.signature(make).parameters
    return {key: each.default for key, each in known.items() if each.kind is each.KEYWORD_ONLY}


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """The name of a schedule, and its arguments.

    Raises:
        ValueError: for unknown schedules and arguments, and values that are no numbers or out of range.

    >>> parse("wsd(decay=0.2)")
    ('wsd', {'decay': 0.2})
    """
    name, bracket, inner = text.strip().partition("(")
    make = find_function("schedule", name, SCHEDULES)
    if not bracket:
        return name, {}
    taken = _defaults(name)
    if "values" in taken:
        if not inner.rstrip().endswith(")"):
            raise ValueError(f"schedule {text!r} must be like {name}(number, number).")
        arguments: dict[str, Any] = {"values": inner.rstrip(") ").split(",")}
    else:
        arguments = _named(text, name, inner, taken)
    try:
        numbers = {key: _floats(value) for key, value in arguments.items()}
        if make is not None:
            make(1, **numbers)
    except ValueError as error:
        raise ValueError(f"schedule {text!r}: {error}") from None
    return name, numbers


def _named(text: str, name: str, inner: str, taken: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the brackets of a schedule's name, by argument."""
    number = r"\s*(\w+)\s*=\s*([-+.\w]+)\s*"
    if not re.fullmatch(rf"(?:{number}(?:,{number})*)?\)", inner):
        raise ValueError(f"schedule {text!r} must be like {name}(argument=number, argument=number).")
    arguments: dict[str, str] = {}
    for key, value in re.findall(number, inner):
        if key not in taken or key in arguments:
            raise ValueError(f"schedule {text!r}: the arguments of {name} are {', '.join(taken) or 'none'}, each once.")
        arguments[key] = value
    return arguments


def _floats(text: str | Sequence[str]) -> Any:
    return float(text) if isinstance(text, str) else tuple(map(float, text))


def canonical(text: str) -> str:
    """A schedule's name and arguments as runs keep them: in the order of the alphabet, without what is the default.

    >>> canonical("wsd( warmup=.05,decay=0.1 )"), canonical("wsd()")
    ('wsd(warmup=0.05)', 'wsd')
    """
    name, arguments = parse(text)
    told = [
        f"{key}={value!r}" if isinstance(value, float) else ", ".join(f"{each:.12g}" for each in value)
        for key, value in sorted(arguments.items())
        if value != _defaults(name)[key]
    ]
    return f"{name}({', '.join(told)})" if told else name


@lru_cache(maxsize=64)
def find_schedule(name: str, steps: int) -> optax.Schedule | None:
    """The schedule step → factor in front of the learning rate, one object per name and steps; None for a constant one.

    Arguments follow a name in brackets, "wsd(decay=0.2)". One's own is "module:make@tag", a function of the number of
    steps.

    Raises:
        ValueError: for an unknown name, and for a function that makes something else than a schedule.

    >>> [float(find_schedule("linear", 4)(step)) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    own = ":" in name
    key, arguments = (name, {}) if own else parse(name)
    make = find_function("schedule", key, SCHEDULES)
    schedule = None if make is None else make(steps, **arguments)
    if schedule is not None and not callable(schedule):
        raise ValueError(f"schedule {name!r} made a {type(schedule).__name__}: let it return a function of the step.")
    return schedule


@cached_by_precision(maxsize=64)
def tabulated(schedule: optax.Schedule | None, steps: int) -> Partial | None:
    """The schedule as an array of its factors, which is an argument of compiled programs: schedules share them.

    So do lengths of runs: of the array there are few, for it is filled up to a power of two, with the last factor.
    """
    if schedule is None:
        return None
    length = max(LEAST_TABLE, 1 << steps.bit_length())
    return Partial(_factor, jax.jit(_factors, static_argnums=0)(schedule, jnp.minimum(jnp.arange(length), steps)))


def _factors(schedule: optax.Schedule, steps: jax.Array) -> jax.Array:
    # One by one, as a training step would compute it: to the bit.
    return jax.lax.map(lambda step: jnp.asarray(schedule(step), float), steps)


def _factor(factors: jax.Array, step: jax.Array) -> jax.Array:
    return factors[step]
