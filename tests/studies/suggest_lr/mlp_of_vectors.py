"""A network of the 16 numbers of gaussian-clusters, in a module that needs none of the tests'."""

import jax
from flax import nnx


def build(width, rngs):
    """One hidden layer."""
    return nnx.Sequential(nnx.Linear(16, width, rngs=rngs), jax.nn.tanh, nnx.Linear(width, 8, rngs=rngs))
