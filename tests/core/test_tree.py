"""Linear algebra on pytrees agrees with numpy on the flattened vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


def test_products_and_sums_of_16_bits_are_made_in_32():
    ones = {"half": jnp.ones(1000, jnp.float16), "single": jnp.full(3, 2.0)}
    assert tree.dot(ones, ones) == 1012 and tree.dot(ones, ones).dtype == jnp.float32
    assert tree.norm({"big": jnp.full(4, 300.0, jnp.float16)}) == 600  # its square is beyond float16
    assert tree.multiply({"half": 1 / 3, "single": 2.0}, ones)["half"].dtype == jnp.float16
    assert tree.cast(tree.wide(ones), ones)["half"].dtype == jnp.float16
    assert tree.dtype({"half": ones["half"]}) == jnp.float32


def test_a_vector_has_the_widest_type_of_its_leaves(float64):
    mixed = {"half": jnp.ones(2, jnp.bfloat16), "double": jnp.ones(2)}
    assert {leaf.dtype for leaf in tree.wide(mixed).values()} == {tree.ravel(mixed).dtype} == {np.dtype("float64")}


def test_floats_takes_numbers_and_names_what_is_none():
    found = tree.floats({"a": 1.5, "b": np.float64(2), "c": np.ones(2), "d": None, "e": jnp.zeros(0)}, "params")
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    with pytest.raises(ValueError, match=r"start .*layers/1"):
        tree.floats({"layers": [jnp.ones(1), jnp.ones(1, int)]}, "start")


def test_normal_differs_between_leaves_of_one_shape():
    noise = tree.normal(jax.random.key(0), [jnp.zeros(1000), jnp.zeros(1000)])
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.15
    assert abs(np.std(flat(noise)) - 1) < 0.1


def test_where_chooses_whole_trees():
    assert np.all(flat(tree.where(jnp.array(True), X, Y)) == flat(X))
    assert np.all(flat(tree.where(jnp.array(False), X, Y)) == flat(Y))
