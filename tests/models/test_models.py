"""The lab's models against straightforward implementations, and what their parameters say of themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import assert_equals_plain
from flax import nnx
from problems import CLASSES, make_batch, make_recipe

from sharplab.models import find_model
from sharplab.scaling import DepthRule, Rule, parameterization

MODELS = ("residual_mlp", "figure1_convnet")
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def plain_residual_mlp(params, x, model):
    h = model.stem.multiplier * x @ params["stem"]["kernel"]
    for i, block in enumerate(model.blocks):
        h = h + 2**-0.5 * block.multiplier * jnp.maximum(h, 0) @ params["blocks"][i]["kernel"]
    return model.readout.multiplier * h @ params["readout"]["kernel"]


def plain_convnet(params, x, model):
    for name, stride in (("first", 2), ("second", 4)):
        kernel = params[name]["kernel"].reshape(3, 3, x.shape[-1], -1)
        x = getattr(model, name).multiplier * jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS
        )
        x = jax.lax.reduce_window(jnp.maximum(x, 0), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return model.readout.multiplier * x.reshape(len(x), -1) @ params["readout"]["kernel"]


PLAIN = {"residual_mlp": plain_residual_mlp, "figure1_convnet": plain_convnet}


@pytest.mark.parametrize("model, scaling", [("residual_mlp", "standard"), ("figure1_convnet", "mup")])
def test_output_and_gradient_equal_a_plain_implementation(float64, model, scaling):
    recipe = make_recipe(model, 8, scaling)
    network = recipe.network.source.draw(jax.random.key(0))
    images, classes = make_batch(model, examples=6)
    plain = partial(PLAIN[model], model=network)
    assert_equals_plain(plain, recipe, nnx.split(network)[1], (images.astype(np.float64), classes), tolerance=1e-12)
    assert jax.eval_shape(network, images).shape == (6, CLASSES)


@pytest.mark.parametrize("model", MODELS)
def test_call_is_forward_of_prepare(model):
    network = make_recipe(model, 4).network.source.draw(jax.random.key(0))
    images, _ = make_batch(model, examples=2)
    assert np.array_equal(network(images), network.forward(network.prepare(images)))


@pytest.mark.parametrize(
    "model, roles",
    [
        ("residual_mlp", {"stem": "input", "blocks": "hidden", "readout": "output"}),
        ("figure1_convnet", {"first": "input", "second": "hidden", "readout": "output"}),
    ],
)
def test_every_parameter_names_its_role(model, roles):
    state = nnx.split(make_recipe(model, 4).network.source.draw(jax.random.key(0)))[1]
    found = {path[0]: variable.get_metadata()["role"] for path, variable in nnx.to_flat_state(state)}
    assert found == roles


def build_mlp(depth, alpha, width=6):
    rule = Rule(parameterization("mup"), width, depth=DepthRule(depth, alpha=alpha))
    return find_model("residual_mlp")(
        input_shape=(2, 2, 1), classes=3, width=width, depth=depth, rule=rule, rngs=nnx.Rngs(0)
    )


def test_each_branch_is_scaled_by_depth_to_the_minus_alpha(float64):
    network = build_mlp(4, 0.5)
    assert len(network.blocks) == 4
    assert network.branch == 4**-0.5
    assert build_mlp(4, 0.0).branch == 1
    for block in network.blocks[1:]:
        block.kernel[...] *= 0
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 2, 2, 1)))
    scaled = network(x)
    network.branch = 0.0
    stem = network(x)
    network.branch = 1.0
    assert np.abs(network(x) - stem).max() > 0.1
    assert np.allclose(scaled - stem, (network(x) - stem) / 2, atol=1e-14)


def test_block_variance_is_kept_by_the_gain_in_front_of_relu():
    widths = 400
    network = build_mlp(1, 0.0, width=widths)
    h = jnp.asarray(np.random.default_rng(0).standard_normal((50, widths)), jnp.float32)
    assert abs(float(jnp.std(network.blocks[0](jax.nn.relu(h)))) - 1) < 0.1


def test_convnet_refuses_other_images_and_depths():
    rule = Rule(parameterization("mup"), 4)
    fits = {"input_shape": (32, 32, 3), "classes": 10, "width": 4, "rule": rule, "rngs": nnx.Rngs(0)}
    with pytest.raises(ValueError, match=r"32×32 pixels, not \(28, 28, 1\): pad or resize"):
        find_model("figure1_convnet")(**fits | {"input_shape": (28, 28, 1)})
    with pytest.raises(ValueError, match=r"has two layers: depths must be \(2,\), not 3"):
        find_model("figure1_convnet")(**fits, depth=3)


def test_models_are_found_by_name_and_by_module():
    assert find_model("convolving_model:ConvolvingModel@2").__name__ == "ConvolvingModel"
    with pytest.raises(ValueError, match="unknown model 'residual_mpl': did you mean 'residual_mlp'"):
        find_model("residual_mpl")
    with pytest.raises(ValueError, match="cannot be imported"):
        find_model("convolving_model:NoSuchNet")
    with pytest.raises(ValueError, match="cannot be imported"):
        find_model("no_such_module:Net")
