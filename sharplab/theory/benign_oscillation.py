"""Two signals, a strong and a weak one, that gradient descent learns: the weak one only while it oscillates.

One neuron w with a quadratic activation sees two orthogonal signals, of squared norms V > U, as f = a² + b² with
a = w·v and b = w·u, and learns the target 1 under (1 − f)²/2:

    a ← a + 2ηV(1 − f) a,   b ← b + 2ηU(1 − f) b.

With a small step the strong signal takes all, a² → 1, and the weak one keeps about its start. There the sharpness is
4V. For η > 1/(2V) that is above 2/η: a oscillates, 1 − f is positive on the average, and b grows until the sharpness
4(a²V + b²U) is 2/η, which leaves b² = (V − 1/(2η))/(V − U). Up to η = 1/V descent is bounded; there a moves
chaotically at first, and from some starts the weak signal is lost.

Source: Lu, Wu, Yang, Zou, arXiv 2310.17074, for networks; the two signals alone are the least that shows it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core.arguments import checked, count, positive


class TwoSignals(NamedTuple):
    """A run of gradient descent, each of shape (steps + 1,), the start included."""

    strong: jax.Array  # a, the output of the strong signal
    weak: jax.Array  # b
    loss: jax.Array
    sharpness: jax.Array  # λmax of the Hessian in w


@checked(learning_rate=positive, strong=positive, weak=positive, steps=count)
def two_signals(
    learning_rate: float,
    *,
    steps: int,
    strong: float = 1.0,
    weak: float = 0.04,
    start: tuple[float, float] = (0.1, 0.1),
) -> TwoSignals:
    """The trajectory of gradient descent on two signals.

    Args:
        learning_rate: η, at most 1/V.
        strong: V, the squared norm of the strong signal.
        weak: U, below V.
        start: a and b.

    Raises:
        ValueError: for a learning rate above 1/V, where descent may diverge, and a weak signal that is not the weaker.

    >>> run = two_signals(0.7, steps=3000)
    >>> round(float(run.weak[-1]) ** 2, 4), round(weak_signal_limit(0.7), 4)
    (0.3005, 0.2976)
    """
    _check(learning_rate, strong, weak)
    a, b = jnp.asarray(start, float)
    return _descend(a, b, learning_rate, strong, weak, steps)


@checked(learning_rate=positive, strong=positive, weak=positive)
def weak_signal_limit(learning_rate: float, *, strong: float = 1.0, weak: float = 0.04) -> float:
    """The b² at which oscillation ends, (V − 1/(2η))/(V − U), or 0 for η up to 1/(2V), where there is none.

    Descent comes to rest a little above it, just below the edge of stability. For U above 1/(2η) too, there is no rest:
    even at b² = 1 the sharpness is above 2/η. Arguments and errors as of `two_signals`, and such U is refused.

    >>> [round(weak_signal_limit(rate), 4) for rate in (0.3, 0.55, 1.0)]
    [0.0, 0.0947, 0.5208]
    """
    _check(learning_rate, strong, weak)
    edge = 1 / (2 * learning_rate)
    if weak > edge:
        raise ValueError(f"weak must be at most 1/(2 learning_rate), {edge}, not {weak}: oscillation does not end.")
    return max((strong - edge) / (strong - weak), 0.0)


def _check(learning_rate: float, strong: float, weak: float) -> None:
    if not weak < strong:
        raise ValueError(f"weak must be below strong, {strong}, not {weak}.")
    if learning_rate * strong > 1:
        raise ValueError(
            f"learning_rate must be at most 1/strong, {1 / strong}, not {learning_rate}: descent diverges."
        )


@partial(jax.jit, static_argnames="steps")
def _descend(
    a: jax.Array, b: jax.Array, learning_rate: jax.Array, strong: jax.Array, weak: jax.Array, steps: int
) -> TwoSignals:
    def advance(state: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], TwoSignals]:
        a, b = state
        left = 1 - a**2 - b**2
        # H = ∇f∇fᵀ − (1 − f)∇²f in the directions of v and u.
        first, second = 4 * a**2 * strong - 2 * left * strong, 4 * b**2 * weak - 2 * left * weak
        mixed = 4 * a * b * jnp.sqrt(strong * weak)
        sharpness = (first + second) / 2 + jnp.hypot((first - second) / 2, mixed)
        after = a * (1 + 2 * learning_rate * strong * left), b * (1 + 2 * learning_rate * weak * left)
        return after, TwoSignals(a, b, left**2 / 2, sharpness)

    return jax.lax.scan(advance, (a, b), length=steps + 1)[1]
