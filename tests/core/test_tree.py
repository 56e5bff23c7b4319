"""Linear algebra on pytrees agrees with numpy on the flattened vectors."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sharplab.core import tree

X = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.array(-2.0), jnp.array([1.0, 4.0]))}
Y = jax.tree.map(lambda x: x + 0.5, X)


def flat(t):
    return np.asarray(ravel_pytree(t)[0])


def test_dot_norm_and_size_are_those_of_the_flat_vectors():
    assert tree.size(X) == 9
    assert np.isclose(tree.dot(X, Y), flat(X) @ flat(Y))
    assert np.isclose(tree.norm(X), np.linalg.norm(flat(X)))


def test_scale_keeps_each_leaf_in_its_type():
    mixed = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2, jnp.float32)}
    scaled = tree.scale(jnp.float32(3), mixed)
    assert scaled["half"].dtype == jnp.bfloat16
    assert scaled["single"].dtype == jnp.float32
    assert tree.dtype(mixed) == jnp.float32
    assert np.all(flat(tree.scale(jnp.float32(3), X)) == 3 * flat(X))


def test_normal_differs_between_leaves_of_one_shape():
    noise = tree.normal(jax.random.key(0), [jnp.zeros(1000), jnp.zeros(1000)])
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.15
    assert abs(np.std(flat(noise)) - 1) < 0.1


def test_where_chooses_whole_trees():
    assert np.all(flat(tree.where(jnp.array(True), X, Y)) == flat(X))
    assert np.all(flat(tree.where(jnp.array(False), X, Y)) == flat(Y))
