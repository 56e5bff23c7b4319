"""Linear layers under a ReLU and a max-pool: what is kept for gradients is who won, not all that was compared."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from sharplab.models.layers import linear


def pooled_linear(x: jax.Array, W: jax.Array) -> jax.Array:
    """The largest of x W over the P positions of a pooling window, or 0 where none is above it, shape (…, N).

    For x of shape (…, P, K) and W of shape (K, N) the same as `jax.nn.relu((x @ W).max(axis=-2))`. Its derivatives, of
    any order and either mode, are those of the winner, the first of equals; where none is above 0 they are 0. From
    values to derivatives one byte per output is kept, the winner's position: of the size of P outputs nothing is kept
    or made again, which is what takes the time on CPUs.

    >>> pooled_linear(jnp.array([[3.0], [5.0], [4.0], [5.0]]), jnp.array([[2.0, -1.0]])).tolist()
    [10.0, 0.0]
    """
    *leading, positions, size = x.shape
    # Positions first: each one's outputs lie together, and one product makes them all.
    values, _ = _pooled(jnp.moveaxis(x.reshape(-1, positions, size), 1, 0), W)
    return values.reshape(*leading, W.shape[1])


@jax.custom_jvp
def _pooled(x_PxRxK: jax.Array, W_KxN: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The values, and the position of each one's winner; P where none is above 0."""
    h_PxRxN = linear(x_PxRxK, W_KxN)
    positions = len(h_PxRxN)
    largest = jnp.zeros_like(h_PxRxN[0])
    winner = jnp.full(largest.shape, positions, np.min_scalar_type(positions))
    for p, h in enumerate(h_PxRxN):
        winner = jnp.where(h > largest, jnp.asarray(p, winner.dtype), winner)
        largest = jnp.maximum(h, largest)
    return largest, winner


@partial(_pooled.defjvp, symbolic_zeros=True)
def _pooled_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    (x, W), (dx, dW) = primals, tangents
    largest, winner = _pooled(x, W)  # itself, so that higher derivatives go through the winners too
    wins_PxRxN = winner[None] == jnp.arange(len(x), dtype=winner.dtype)[:, None, None]
    # Patches of images have no tangent, and a product with zeros would be made.
    parts = [linear(*pair) for pair in ((x, dW), (dx, W)) if not any(isinstance(z, SymbolicZero) for z in pair)]
    tangent = jnp.where(wins_PxRxN, sum(parts), 0).sum(axis=0)
    return (largest, winner), (tangent, np.zeros(winner.shape, jax.dtypes.float0))
