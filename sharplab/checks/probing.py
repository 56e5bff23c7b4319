"""The response of an optimizer to given gradients and weights, parameter by parameter."""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sharplab.core import tree
from sharplab.core.tree import PyTree

UPDATES = 4  # with one and the same gradient: enough for a schedule that begins at 0 to have begun
_LARGE = 2.0**10  # times the gradient's size in the model: next to it, Adam's ε is nothing


class Response(NamedTuple):
    """The response for one parameter.

    Attributes:
        learning_rate: the size of the step per size of the gradient for a gradient-like optimizer, per size of the
            weights for a relative one, else of the step: in root mean square, or in spectral norm where the step is an
            orthogonal matrix.
        kind: one of `sharplab.scaling.KINDS`; "frozen" if it does not move at all.
        epsilon: the part of the step that is lost to an ε beside the gradient; 0 for gradient-like optimizers.
        decay: learning rate × decay: the least-squares c of −c w as the step without gradient; 0 for relative steps,
            whose decay is within the trust ratio.
        coupled: whether the step without gradient is anything but −c w: weight decay as a part of the gradient.
    """

    learning_rate: float
    kind: str
    epsilon: float
    decay: float
    coupled: bool


def probe(
    transformation: optax.GradientTransformation, params: PyTree, gradient: PyTree, key: jax.Array
) -> dict[str, Response]:
    """The response of each parameter, by path: to noise of its gradient's size, to noise as its weights, and to both.

    Each is the sum of four updates with the same gradient and weights. A gradient that is 0 but for rounding (as that
    of the keys' biases in attention) is taken to be as large as the largest of another parameter.

    >>> params = {"w": jnp.ones((2, 3))}
    >>> found = probe(optax.adamw(0.1, weight_decay=0.5), params, params, jax.random.key(0))["w"]
    >>> found.kind, round(found.learning_rate / 4, 3), round(found.decay / 4, 3), found.coupled
    ('adam', 0.1, 0.05, False)
    """
    to_gradient, to_weights = jax.random.split(key)
    noise = jax.tree.map(jnp.multiply, tree.normal(to_gradient, params), _sizes(gradient))
    weights = tree.normal(to_weights, params)
    nothing = jax.tree.map(jnp.zeros_like, params)
    respond = partial(_updates, transformation)
    asked = (
        noise,
        respond(noise, nothing),
        respond(tree.scale(jnp.asarray(_LARGE), noise), nothing),
        weights,
        respond(nothing, weights),
        respond(nothing, twice := tree.scale(jnp.asarray(2.0), weights)),
        respond(noise, weights),
        respond(noise, twice),
    )
    named = [{path: np.asarray(leaf, float) for path, leaf in tree.named_leaves(given).items()} for given in asked]
    return {path: _response(*(given[path] for given in named)) for path in named[0]}


def _sizes(gradient: PyTree) -> PyTree:
    """The root mean square of each leaf; of the largest leaf where it is 0 but for rounding, and 1 if all are 0."""
    sizes = jax.tree.map(_size, gradient)
    largest = jnp.max(jnp.stack(jax.tree.leaves(sizes)))
    largest = jnp.where(largest > 0, largest, 1)

    def or_largest(size: jax.Array) -> jax.Array:
        return jnp.where(size > 100 * jnp.finfo(size.dtype).eps * largest, size, largest).astype(size.dtype)

    return jax.tree.map(or_largest, sizes)


def _size(g: jax.Array) -> jax.Array:
    """The root mean square, also where squares underflow."""
    largest = jnp.max(jnp.abs(g))
    unit = jnp.where(largest > 0, largest, 1)
    return unit * jnp.sqrt(jnp.mean((g / unit) ** 2))


@partial(jax.jit, static_argnums=0)
def _updates(transformation: optax.GradientTransformation, gradient: PyTree, params: PyTree) -> PyTree:
    state, total = transformation.init(params), jax.tree.map(jnp.zeros_like, params)
    for _ in range(UPDATES):
        updates, state = transformation.update(gradient, state, params)
        total = jax.tree.map(jnp.add, total, updates)
    return total


def _response(
    noise: np.ndarray,
    step: np.ndarray,
    large_step: np.ndarray,
    weights: np.ndarray,
    once: np.ndarray,
    twice: np.ndarray,
    from_weights: np.ndarray,
    from_twice: np.ndarray,
) -> Response:
    if not any(x.any() for x in (step, large_step, once, twice)):
        return Response(0.0, "frozen", 0.0, 0.0, False)
    growth = _rms(large_step) / max(_rms(step), np.finfo(float).tiny)
    epsilon = max(0.0, 1 - 1 / growth) if growth else 0.0
    # A gradient's part of other steps is the same from weights twice as large.
    if abs(_rms(from_twice) - 2 * _rms(from_weights)) < 1e-3 * _rms(from_weights):
        lost = 0.0 if growth > _LARGE / 2 else epsilon
        return Response(_rms(from_weights) / _rms(weights), "relative", lost, 0.0, False)
    decay = -float(np.vdot(once, weights) / np.vdot(weights, weights))
    # Rounding aside, a decoupled decay is −c w at any w.
    remainder = max(_rms(once + decay * weights), _rms(twice + 2 * decay * weights) / 2)
    coupled = remainder > 1e-3 * _rms(once)
    if growth > _LARGE / 2:
        return Response(_rms(step) / _rms(noise), "sgd", 0.0, decay, coupled)
    spectral = _spectral_norm(large_step, noise)
    kind, size = ("adam", _rms(large_step)) if spectral is None else ("spectral", spectral)
    return Response(size, kind, epsilon, decay, coupled)


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def _spectral_norm(step: np.ndarray, noise: np.ndarray) -> float | None:
    """The spectral norm of a step whose singular values are much alike, unlike the gradient's, as Muon's; else None.

    The axes of a kernel may be rows or columns, the first may be that of a stack.
    """
    sizes = np.abs(step)
    if sizes.std() < 0.05 * sizes.mean():
        return None  # signs
    for stacked in (False, True) if step.ndim > 2 else (False,):
        stepped, drawn = (x[0] if stacked else x for x in (step, noise))
        for split in range(1, stepped.ndim):
            flatness, middle = _singular_values(stepped, split)
            if flatness > max(0.65, 1.05 * _singular_values(drawn, split)[0]):
                return middle
    return None


def _singular_values(x: np.ndarray, split: int) -> tuple[float, float]:
    """The median singular value in units of the largest, and itself; axes before `split` are rows."""
    matrix = x.reshape(prod(x.shape[:split]), -1)
    if min(matrix.shape) < 2:
        return 0.0, 0.0
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(np.median(values) / values[0]), float(np.median(values))
