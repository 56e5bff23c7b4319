"""Fan-in and fan-out of Flax's layers, against what the layers compute."""

from math import prod

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sharplab.scaling.axes import layer_axes

RNGS = nnx.Rngs(0)
# Each with an input of ones that has one output position, or all alike.
WEIGHTED = {
    "linear": (nnx.Linear(3, 5, rngs=RNGS), (2, 3)),
    "to heads": (nnx.LinearGeneral(6, (2, 5), rngs=RNGS), (2, 6)),
    "from heads": (nnx.LinearGeneral((2, 5), 6, axis=(-2, -1), rngs=RNGS), (2, 2, 5)),
    "in parallel": (nnx.LinearGeneral(3, 4, axis=-1, batch_axis={0: 2}, rngs=RNGS), (2, 3)),
    "convolution": (nnx.Conv(4, 6, (3, 2), padding="VALID", rngs=RNGS), (1, 3, 2, 4)),
    "in groups": (nnx.Conv(4, 6, (3,), padding="VALID", feature_group_count=2, rngs=RNGS), (1, 3, 4)),
    "of one channel each": (nnx.Conv(4, 4, (3,), padding="VALID", feature_group_count=4, rngs=RNGS), (1, 3, 4)),
    "transposed": (nnx.ConvTranspose(4, 6, (3,), rngs=RNGS), (1, 9, 4)),
    "transposed kernel": (nnx.ConvTranspose(4, 6, (3,), transpose_kernel=True, rngs=RNGS), (1, 9, 4)),
    "einsum": (nnx.Einsum("bthd,hdm->btm", (2, 3, 4), rngs=RNGS), (1, 1, 2, 3)),
    "einsum in parallel": (nnx.Einsum("...hd,hde->...he", (2, 3, 4), (2, 4), rngs=RNGS), (1, 2, 3)),
}
VECTORS = {
    "batch norm": nnx.BatchNorm(4, rngs=RNGS),
    "layer norm": nnx.LayerNorm(4, rngs=RNGS),
    "rms norm": nnx.RMSNorm(4, rngs=RNGS),
    "group norm": nnx.GroupNorm(4, 2, rngs=RNGS),
    "instance norm": nnx.InstanceNorm(4, rngs=RNGS),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_an_output_sums_over_the_fan_in(name):
    layer, shape = WEIGHTED[name]
    axes = layer_axes(layer, "kernel")
    assert axes.shape == layer.kernel.shape
    layer.kernel[...] = jnp.ones(axes.shape)
    assert float(jnp.max(layer(jnp.ones(shape)))) == prod(axes.shape[i] for i in axes.fan_in)


@pytest.mark.parametrize("name", WEIGHTED)
def test_the_other_axes_number_the_outputs_of_a_position(name):
    layer, shape = WEIGHTED[name]
    axes = layer_axes(layer, "kernel")
    positions = 9 if name.startswith("transposed") else 2 if name in ("linear", "to heads", "from heads") else 1
    made = prod(n for i, n in enumerate(axes.shape) if i not in axes.fan_in)
    assert layer(jnp.ones(shape)).size == positions * made
    parallel = {"in parallel": (0,), "einsum in parallel": (0,)}.get(name, ())
    assert sorted((*axes.fan_in, *axes.fan_out, *parallel)) == list(range(len(axes.shape)))
    assert axes.groups == {"in groups": 2, "of one channel each": 4}.get(name, 1)


@pytest.mark.parametrize("name", WEIGHTED)
def test_biases_have_no_fan_in(name):
    layer, _ = WEIGHTED[name]
    if layer.bias is None:
        assert layer_axes(layer, "bias") is None
    else:
        assert layer_axes(layer, "bias").shape == layer.bias.shape
        assert layer_axes(layer, "bias").fan_in == ()


@pytest.mark.parametrize("name", VECTORS)
def test_norms_have_vectors(name):
    layer = VECTORS[name]
    assert layer_axes(layer, "scale").shape == layer.scale.shape == (4,)
    assert layer_axes(layer, "scale").fan_in == ()
    if name != "rms norm":
        assert layer_axes(layer, "bias") == layer_axes(layer, "scale")


def test_an_embedding_sums_over_a_one_hot_index():
    layer = nnx.Embed(7, 3, rngs=RNGS)
    axes = layer_axes(layer, "embedding")
    assert np.allclose(jnp.eye(7) @ layer.embedding[...], layer(jnp.arange(7)))
    assert (axes.shape, axes.fan_in, axes.fan_out) == ((7, 3), (0,), (1,))


def test_what_is_not_flaxs_own_is_unknown():
    class Mine(nnx.Module):
        def __init__(self):
            self.kernel = nnx.Param(jnp.ones((2, 2)))

    assert layer_axes(Mine(), "kernel") is None
    assert layer_axes(None, "kernel") is None
    assert layer_axes(WEIGHTED["linear"][0], "gain") is None
