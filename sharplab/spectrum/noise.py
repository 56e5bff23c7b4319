"""Vectors of random directions for solvers.

A solver draws at several places, inside of its loops. There a generator that is a loop of its own, as JAX's are on
CPUs, would take a third of all compilation; a hash is one elementwise expression, and good enough for a direction that
has only to be orthogonal to nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.tree import PyTree

SPACING = np.uint32(0x9E3779B9)  # 2³² over the golden ratio


def noise(key: jax.Array, number: jax.typing.ArrayLike, like: PyTree) -> PyTree:
    """A pytree of entries spread evenly over (−1, 1) without 0, like the wide vector `like`; another for each `number`.

    Each is the finalizer of MurmurHash3 of the entry's index, the key and the number.
    """
    seed = jnp.asarray(number).astype(jnp.uint32)
    for word in jax.random.key_data(key):
        seed = _mixed((seed + SPACING) ^ word)
    leaves, treedef = jax.tree.flatten(like)
    found = []
    for leaf in leaves:
        seed = _mixed(seed + SPACING)
        bits = _mixed((jax.lax.iota(jnp.uint32, leaf.size) * SPACING) ^ seed) | 1
        found.append((bits.astype(jnp.int32).astype(leaf.dtype) * 2.0**-31).reshape(leaf.shape))
    return jax.tree.unflatten(treedef, found)


def _mixed(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
