"""The residual ConvNet against a plain implementation, and what its norms and pools do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import CLASSES, assert_equals_plain, small_batch, small_recipe
from flax import nnx
from problems import promoting

from sharplab.models import find_model
from sharplab.models.norms import BatchNorm, LayerNorm
from sharplab.models.residual_convnet import max_pool
from sharplab.scaling import PARAMETERIZATIONS, DepthRule, Rule, parameterization

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(x, kernel, stride):
    kernel = kernel.reshape(3, 3, x.shape[-1], -1)
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS)


def window_max(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def normalise(x, gain, bias, axes):
    return gain * (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5) + bias


@promoting
def plain(params, x, multipliers, norm_axes):
    """As one would write it, of weights by path; under muP at twice the base width gains carry √2."""
    x = multipliers["stem"] * convolve(x, params["stem"]["kernel"], 2)
    for stage in range(3):
        if stage > 0:
            x = multipliers["hidden"] * convolve(x, params["transitions"][stage - 1]["kernel"], 1)
        for block in params["stages"][stage].values():
            h = x
            for i, layer in block["convolutions"].items():
                h = multipliers["block"] * convolve(jnp.maximum(h, 0), layer["kernel"], 1)
                if norm_axes is not None:
                    gain, bias = (2**0.5 * block["norms"][i][name]["weights"] for name in ("gain", "bias"))
                    h = normalise(h, gain, bias, norm_axes)
            x = x + 6**-0.5 * h
        x = window_max(x)
    return multipliers["readout"] * x.reshape(len(x), -1) @ params["readout"]["kernel"]


@pytest.mark.parametrize(
    "model, norm_axes",
    [
        ("residual_convnet_k2", None),
        pytest.param("residual_convnet_layernorm", -1, marks=pytest.mark.long),
        pytest.param("residual_convnet_batchnorm", (0, 1, 2), marks=pytest.mark.long),
    ],
)
def test_outputs_and_gradient_equal_a_plain_implementation(float64, model, norm_axes):
    recipe = small_recipe(model, 16, depth=6)
    images, classes = small_batch(model)
    network = recipe.network.source.draw(jax.random.key(0))
    params = nnx.split(network)[1]
    params = jax.tree.map(lambda w: w + 0.1 * jnp.cos(jnp.arange(w.size)).reshape(w.shape), params)  # gains unlike 1
    # muP, base 8: multipliers √2 of input weights, 1 of hidden ones, 1/√2 of the readout, of sizes at the base.
    multipliers = {"stem": 2**0.5 / 18**0.5, "hidden": 72**-0.5, "block": (2 / 72) ** 0.5, "readout": 0.5**0.5 / 8**0.5}

    theirs = partial(plain, multipliers=multipliers, norm_axes=norm_axes)
    assert_equals_plain(theirs, recipe, params, (images, classes))
    assert jax.eval_shape(network, images).shape == (4, CLASSES)


def test_max_pool_and_its_gradient_are_the_windows(float64):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 8, 3)))
    assert max_pool(x).shape == (2, 2, 4, 3)
    assert np.array_equal(max_pool(x), window_max(x))
    ours, theirs = (jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x) for f in (max_pool, window_max))
    assert np.array_equal(ours, theirs)


def build(**settings):
    rule = Rule(parameterization("mup"), 8, 8, depth=DepthRule(12, 3, 0.5))
    fits = {"input_shape": (32, 32, 3), "classes": 10, "width": 8, "depth": 12, "rule": rule, "rngs": nnx.Rngs(0)}
    return find_model("residual_convnet")(**fits | settings)


def test_blocks_stand_in_three_stages_with_branches_times_beta_over_root_depth():
    network = nnx.eval_shape(partial(build, beta=2.0, layers_per_block=3))
    assert [len(stage) for stage in network.stages] == [4, 4, 4]
    assert len(network.stages[0][0].convolutions) == 3
    assert network.branch == 2 * 4**-0.5
    assert network.readout.kernel.shape == (4 * 8, 10)  # 32×32 pixels end at 2×2: the paper's width


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"depth": 4}, r"multiples of 3, not 4"),
        ({"norm": "lyer"}, r"unknown norm 'lyer': did you mean 'layer'"),
        ({"input_shape": (15, 32, 3)}, r"15×32 pixels are too few, give 16×16 or more"),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("norm, axes", [(LayerNorm, -1), (BatchNorm, (0, 1, 2))])
def test_norms_start_with_mean_0_variance_1_at_any_width(name, norm, axes):
    layer = norm(48, rule=Rule(parameterization(name), 48, 3))
    x = np.random.default_rng(0).normal(3.0, 2.0, (5, 4, 4, 48)).astype(np.float32)
    y = np.asarray(layer(x))
    assert np.abs(y.mean(axes)).max() < 1e-5
    assert np.abs(y.var(axes) - 1).max() < 1e-3
    assert np.allclose(layer.gain(), 1, rtol=1e-6)
    assert np.array_equal(layer.bias(), np.zeros(48))


def test_batch_norm_alone_makes_examples_depend_on_each_other():
    rule = Rule(parameterization("mup"), 6)
    x = np.random.default_rng(0).standard_normal((4, 2, 2, 6)).astype(np.float32)
    assert np.allclose(LayerNorm(6, rule=rule)(x)[:2], LayerNorm(6, rule=rule)(x[:2]), atol=1e-6)
    assert np.abs(BatchNorm(6, rule=rule)(x)[:2] - BatchNorm(6, rule=rule)(x[:2])).max() > 0.1
