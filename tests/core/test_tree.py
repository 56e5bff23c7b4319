"""Linear algebra on pytrees agrees with numpy on the flattened vectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
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


def test_points_move_in_their_own_types():
    x, v = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(1)}, {"a": jnp.full(2, 0.3), "b": jnp.ones(1, jnp.bfloat16)}
    with jax.numpy_dtype_promotion("strict"):
        found = tree.moved(x, -0.5, v)
    assert (found["a"].dtype, found["b"].dtype) == (jnp.bfloat16, jnp.float32)
    assert np.array_equal(found["a"], jnp.full(2, 0.85, jnp.bfloat16)) and found["b"] == 0.5


def test_a_vector_has_the_widest_type_of_its_leaves(float64):
    mixed = {"half": jnp.ones(2, jnp.bfloat16), "double": jnp.ones(2)}
    assert {leaf.dtype for leaf in tree.wide(mixed).values()} == {tree.ravel(mixed).dtype} == {np.dtype("float64")}


def test_floats_takes_numbers_and_names_what_is_none():
    found = tree.floats({"a": 1.5, "b": np.float64(2), "c": np.ones(2), "d": None, "e": jnp.zeros(0)}, "params")
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    with pytest.raises(ValueError, match=r"start .*layers/1"):
        tree.floats({"layers": [jnp.ones(1), jnp.ones(1, int)]}, "start")


def test_what_flax_keeps_beside_its_params_is_no_parameter():
    """Curvature along batch statistics is none of the loss: a sharpness of 43 had become 680."""
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"params has layers/1/mean \(BatchStat\).*nnx\.split"):
        tree.floats(nnx.state(model), "params")
    assert len(jax.tree.leaves(tree.floats(nnx.state(model, nnx.Param), "params"))) == 4
    variables = {"params": {"w": jnp.ones(2)}, "batch_stats": {"mean": jnp.zeros(2)}}
    with pytest.raises(ValueError, match=r"params has the collection 'batch_stats'.*variables\['params'\]"):
        tree.floats(variables, "params")
    assert tree.floats({"params": jnp.ones(2), "scale": jnp.ones(())}, "params")


def test_normal_differs_between_leaves_of_one_shape():
    noise = tree.normal(jax.random.key(0), [jnp.zeros(1000), jnp.zeros(1000)])
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.15
    assert abs(np.std(flat(noise)) - 1) < 0.1


def test_where_chooses_whole_trees():
    assert np.all(flat(tree.where(jnp.array(True), X, Y)) == flat(X))
    assert np.all(flat(tree.where(jnp.array(False), X, Y)) == flat(Y))


NAMES = st.sampled_from(["value", "kernel", "a"])
DICTS = st.recursive(st.just(0.0), lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=8)


def joined(nested, above=()):
    if not isinstance(nested, dict):
        return {"/".join(above): nested}
    return {path: leaf for name, inner in nested.items() for path, leaf in joined(inner, (*above, name)).items()}


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, DICTS, min_size=1, max_size=3))
def test_paths_are_those_of_the_nested_names_whatever_they_are_and_whatever_holds_the_leaves(nested):
    expected = set(joined(nested))
    assert set(tree.named_leaves(nested)) == expected
    params = jax.tree.map(nnx.Param, nested)
    assert set(tree.named_leaves(params)) == set(tree.named_leaves(nnx.State(params))) == expected
    # Variables that hold dicts, as those of a module may.
    whole = {name: nnx.Param(jax.tree.map(jnp.asarray, inner)) for name, inner in nested.items()}
    assert set(tree.named_leaves(nnx.State(whole))) == expected


def test_paths_of_modules_of_flax_keep_what_is_called_value():
    class Head(nnx.Module):
        def __init__(self, rngs):
            self.value = nnx.Linear(2, 3, rngs=rngs)
            self.head = nnx.data({"value": nnx.Param(jnp.zeros(2))})

    class Gain(nn.Module):
        @nn.compact
        def __call__(self, x):
            drawn = nn.with_partitioning(nn.initializers.ones, ("in", "out"))
            dense = nn.Dense(3, use_bias=False, kernel_init=drawn, name="value")
            return dense(x) * self.param("value_", nn.initializers.ones, (1, 3))

    names = {"value/kernel", "value/bias", "head/value"}
    module = Head(nnx.Rngs(0))
    assert set(tree.named_leaves(nnx.state(module, nnx.Param))) == set(tree.named_leaves(module)) == names
    variables = Gain().init(jax.random.key(0), jnp.ones((1, 2)))
    assert set(tree.named_leaves(variables)) == {"params/value/kernel", "params/value_"}


def test_leaves_that_share_a_path_are_refused():
    with pytest.raises(ValueError, match="a/b"):
        tree.named_leaves({"a/b": 1.0, "a": {"b": 2.0}})
