"""The best learning rate of one step of gradient descent on a deep linear network, exactly.

The network is f(x) = vᵀ W_L ⋯ W₁ W₀ x at width n under muP: entries of W₀ (n, D) have variance 1/D, of the hidden
W_l (n, n) 1/n, of v 1/n². After one step of full-batch descent on the hidden layers, from ½ mean (f − y)², at a
learning rate η that does not depend on n, f is a polynomial in η whose coefficients are known once weights are drawn,
and so is the loss. Its minimum lies near that of the infinite width, where f is linear in η. With K = XXᵀ/D of m
examples,

    η∞ = m yᵀKy / (L yᵀK²y),

and departs from it as n^−½: the output at initialisation and the coefficients of η², … are of that size.

Source: Hayou, arXiv 2511.01734, who proves it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.arguments import checked, count


@checked(width=count, depth=count)
def one_step_optimum(inputs: np.ndarray, targets: np.ndarray, *, width: int, depth: int, key: jax.Array) -> float:
    """The learning rate η > 0 that makes the loss after one step least, for weights drawn by `key`; 0 if none does.

    Args:
        inputs: X, shape (m, D).
        targets: y, shape (m,).
        depth: L, the hidden layers, which are trained; W₀ and v stay as drawn.

    Raises:
        ValueError: for shapes that do not belong together.

    >>> X, y = np.eye(2), np.array([1.0, 1.0])
    >>> round(one_step_limit(X, y, depth=2), 3)
    2.0
    >>> abs(one_step_optimum(X, y, width=4000, depth=2, key=jax.random.key(0)) / 2 - 1) < 0.1
    True
    """
    X, y = _given(inputs, targets)
    coefficients = np.asarray(_outputs_after(jnp.asarray(X), jnp.asarray(y), width, depth, key), float)
    loss = sum((np.polynomial.Polynomial(c) - target) ** 2 for c, target in zip(coefficients.T, y, strict=True))
    roots = loss.deriv().roots()
    rates = np.append(roots[np.abs(roots.imag) < 1e-6 * np.abs(roots)].real, 0.0)
    rates = rates[rates >= 0]
    return float(rates[np.argmin(loss(rates))])


@checked(depth=count)
def one_step_limit(inputs: np.ndarray, targets: np.ndarray, *, depth: int) -> float:
    """The limit η∞ of `one_step_optimum` as the width grows; arguments and errors are its."""
    X, y = _given(inputs, targets)
    outputs = X @ (X.T @ y) / X.shape[1]
    return float(len(y) * (y @ outputs) / (depth * (outputs @ outputs)))


def _given(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    X, y = np.asarray(inputs, float), np.asarray(targets, float)
    if X.ndim != 2 or y.shape != X.shape[:1]:
        raise ValueError(f"inputs must be of shape (m, D) and targets of shape (m,), not {X.shape} and {y.shape}.")
    if not (X.T @ y).any():
        raise ValueError("targets must correlate with the inputs: a step would learn nothing.")
    return X, y


@partial(jax.jit, static_argnames=("width", "depth"))
def _outputs_after(X: jax.Array, y: jax.Array, width: int, depth: int, key: jax.Array) -> jax.Array:
    """The coefficients of η⁰ … η^L in the outputs after a step, shape (L + 1, m)."""
    m, features = X.shape
    of_first, of_last, *of_hidden = jax.random.split(key, depth + 2)
    first = jax.random.normal(of_first, (width, features)) / features**0.5
    readout = jax.random.normal(of_last, (width,)) / width
    hidden = jax.vmap(lambda one: jax.random.normal(one, (width, width)) / width**0.5)(jnp.stack(of_hidden))
    # What enters each hidden layer, h_l (n, m), and what an output changes by with what leaves it, (n,).
    last, forward = jax.lax.scan(lambda h, weights: (weights @ h, h), first @ X.T, hidden)
    _, backward = jax.lax.scan(lambda b, weights: (weights.T @ b, b), readout, hidden, reverse=True)
    slopes = (y - readout @ last) / m  # −∂L/∂f

    def layer(powers: jax.Array, of: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        # The step W ← W + η b (Σ_i slope_i h_i)ᵀ, of rank one.
        weights, before, after = of
        moved = jnp.einsum("n,km->knm", after, jnp.einsum("n,knm->km", before @ slopes, powers))
        return weights @ powers + jnp.roll(moved, 1, axis=0), None  # the last of them is 0 yet

    start = jnp.zeros((depth + 1, width, m)).at[0].set(forward[0])  # the coefficients of η⁰ … η^L in h
    powers, _ = jax.lax.scan(layer, start, (hidden, forward, backward))
    return jnp.einsum("n,knm->km", readout, powers)
