"""Logistic regression on separable data, which becomes the perceptron as its learning rate grows.

Examples a_i with labels y_i = ±1 are z_i = y_i a_i here, and θ separates them where every margin z_i·θ is above 0. All
methods start at θ = 0 and step by

    θ ← θ + γ Σ_i w_i z_i,

with γ the learning rate and weights w of the margins m = Zθ:

| method | weights |
|---|---|
| "logistic" | σ(−m_i)/n, gradient descent on the mean of log(1 + e^−m) |
| "normalised_logistic" | σ(−m_i)/Σ_j σ(−m_j), the gradient over the mean error probability |
| "perceptron" | 1/n where m_i < 0, ½/n where m_i = 0 |
| "normalised_perceptron" | the same over their sum: the mean over what is on the wrong side |

As γ grows, θ/γ of the first two becomes θ of the last two at γ = 1, up to where these separate and stop, as long as no
margin of theirs is 0 after the start. With R the largest ‖z_i‖ and μ the margin, the normalised method separates within
R²/μ² + 2 log(2n − 1)/(γμ²) steps, plain descent within 2n times as many, the batch perceptron within n R²/μ².

Source: Tyurin, arXiv 2412.08424.
"""

import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from sharplab.core.arguments import checked, count, positive

Method = Literal["logistic", "normalised_logistic", "perceptron", "normalised_perceptron"]
METHODS: tuple[Method, ...] = get_args(Method)


class Separation(NamedTuple):
    """What a method came to: `steps` is the first number of steps after which it separates, or `max_steps`."""

    steps: int
    separated: bool
    parameters: jax.Array  # (D,)


class Margin(NamedTuple):
    """The largest margin of unit vectors, enclosed; both ends coincide but for the solver's error."""

    lower: float  # min_i z_i·u of `direction` u, so that no better is claimed than is reached
    upper: float  # the length of a convex combination of the z_i: no unit vector's margin is above
    direction: np.ndarray  # (D,), of unit length


def worst_case(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples (n, 2) and labels (n,) of margin ½ for which the batch perceptron takes some 0.3 n steps.

    >>> worst_case(3)
    (array([[ 0.5, -1. ], [-0.5, -1. ], [-0.5, -1. ]]), array([ 1., -1., -1.]))
    """
    one = np.arange(n) == 0
    return np.stack([np.where(one, 0.5, -0.5), np.full(n, -1.0)], axis=1), np.where(one, 1.0, -1.0)


@checked(learning_rate=positive, max_steps=count)
def separate(
    inputs: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    method: Method = "logistic",
    learning_rate: float = 1.0,
    max_steps: int = 100_000,
) -> Separation:
    """The number of steps that a method takes to separate the examples, and its θ then.

    One compiled loop, which data and learning rates share; in float64 where that is enabled. What rounding makes of a
    margin of 0 may differ from exact arithmetic.

    Args:
        inputs: shape (n, D); a bias is a column of ones.
        labels: ±1, shape (n,).
        learning_rate: γ.

    Raises:
        ValueError: for shapes, labels or a method that are none of these.

    >>> [separate(*worst_case(1000), method=name, learning_rate=100.0).steps for name in METHODS]
    [308, 2, 301, 2]
    """
    signed = jnp.asarray(_signed(inputs, labels), float)
    steps, separated, theta = _separate(signed, float(learning_rate), max_steps, _known(method))
    return Separation(int(steps), bool(separated), theta)


@checked(learning_rate=positive, steps=count)
def separating_iterates(
    inputs: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    method: Method = "logistic",
    learning_rate: float = 1.0,
    steps: int,
) -> jax.Array:
    """The iterates θ of a method, shape (steps + 1, D), the start included; descent goes on where it separates.

    Arguments and errors are those of `separate`.
    """
    return _iterates(jnp.asarray(_signed(inputs, labels), float), float(learning_rate), steps, _known(method))


def largest_margin(inputs: jax.typing.ArrayLike, labels: jax.typing.ArrayLike) -> Margin:
    """The margin μ = max over unit vectors u of min_i z_i·u, by non-negative least squares, with its certificate.

    μ is the distance from 0 to the convex hull of the z_i, and the α ≥ 0 that make ‖Zᵀα‖² + (1ᵀα − 1)² least are a
    multiple of the weights of its nearest point: at α = sβ with 1ᵀβ = 1 the best s leaves p/(1 + p), p = ‖Zᵀβ‖².
    In float64, in which margins below 1e-8 of the largest ‖z_i‖ may not be found.

    Raises:
        ValueError: for examples that no direction through 0 is found to separate.

    >>> lower, upper, direction = largest_margin(*worst_case(10))
    >>> round(lower, 12), round(upper, 12), direction.round(12) + 0.0
    (0.5, 0.5, array([1., 0.]))
    """
    signed = _signed(inputs, labels)
    n, features = signed.shape
    # In units of the largest example, so that both terms of the sum of squares are alike in size.
    scale = float(np.linalg.norm(signed, axis=1).max())
    if scale > 0:
        system = np.vstack([signed.T / scale, np.ones(n)])
        weights, _ = nnls(system, np.append(np.zeros(features), 1.0), maxiter=30 * max(n, features))
        nearest = signed.T @ (weights / weights.sum())
        upper = float(np.linalg.norm(nearest))
        if upper > 0:
            direction = nearest / upper
            lower = float((signed @ direction).min())
            if lower > features * np.finfo(float).eps * scale:  # the error of a margin of that direction
                return Margin(lower, upper, direction)
    raise ValueError(
        "inputs and labels are not separable through 0, or by a margin below 1e-8 of the largest input: give features, "
        "or a bias column, that separate."
    )


@checked(learning_rate=positive, margin=positive, radius=positive, examples=count)
def separation_bound(
    method: Method, *, margin: float, radius: float, examples: int, learning_rate: float = 1.0
) -> float:
    """The number of steps after which a method surely separates examples of margin μ and largest norm R.

    With P = R²/μ² and E = 2 log(2n − 1)/(γμ²) it is P + E for "normalised_logistic", 2n (P + E) for "logistic" (its
    steps are those of the normalised method, scaled by a mean error probability of at least 1/2n), n P for
    "perceptron", and P for "normalised_perceptron".

    >>> separation_bound("normalised_perceptron", margin=0.5, radius=1.0, examples=10)
    4.0
    """
    perceptron = (radius / margin) ** 2
    extra = 2 * math.log(2 * examples - 1) / (learning_rate * margin**2)
    return {
        "logistic": 2 * examples * (perceptron + extra),
        "normalised_logistic": perceptron + extra,
        "perceptron": examples * perceptron,
        "normalised_perceptron": perceptron,
    }[_known(method)]


def _known(method: Method) -> Method:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}.")
    return method


def _signed(inputs: jax.typing.ArrayLike, labels: jax.typing.ArrayLike) -> np.ndarray:
    """The z_i = y_i a_i, shape (n, D), in float64."""
    examples, signs = np.asarray(inputs, float), np.asarray(labels)
    if examples.ndim != 2 or not len(examples) or not np.isfinite(examples).all():
        raise ValueError(f"inputs must be finite numbers of shape (n, D), not of shape {examples.shape}.")
    if signs.shape != examples.shape[:1] or not np.isin(signs, (-1, 1)).all():
        raise ValueError(f"labels must be +1 or -1, one for each of the {len(examples)} inputs.")
    return signs[:, None] * examples


def _weights(margins: jax.Array, method: Method) -> jax.Array:
    """The weights w of the examples in a step, shape (n,)."""
    if method == "logistic":
        return jax.nn.sigmoid(-margins) / len(margins)
    if method == "normalised_logistic":
        return jax.nn.softmax(jax.nn.log_sigmoid(-margins))  # where all errors underflow too
    errors = jnp.heaviside(-margins, 0.5)
    return errors / (len(margins) if method == "perceptron" else jnp.maximum(jnp.sum(errors), 0.5))


@partial(jax.jit, static_argnames="method")
def _separate(
    signed: jax.Array, learning_rate: jax.Array, max_steps: jax.Array, method: Method
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        step, _, margins = state
        return (step < max_steps) & ~jnp.all(margins > 0)

    def advance(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        step, theta, margins = state
        theta = theta + learning_rate * (_weights(margins, method) @ signed)
        return step + 1, theta, signed @ theta

    n, features = signed.shape
    start = (jnp.int32(0), jnp.zeros(features, signed.dtype), jnp.zeros(n, signed.dtype))
    steps, theta, margins = jax.lax.while_loop(unfinished, advance, start)
    return steps, jnp.all(margins > 0), theta


@partial(jax.jit, static_argnames=("steps", "method"))
def _iterates(signed: jax.Array, learning_rate: jax.Array, steps: int, method: Method) -> jax.Array:
    def advance(theta: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        theta = theta + learning_rate * (_weights(signed @ theta, method) @ signed)
        return theta, theta

    start = jnp.zeros(signed.shape[1], signed.dtype)
    _, later = jax.lax.scan(advance, start, length=steps)
    return jnp.concatenate([start[None], later])
