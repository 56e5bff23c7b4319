"""What holds for each model of the table: one function at the base, sizes flat in width, roles and counts."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import BASE_WIDTH, CLASSES, as_inputs, small_batch, small_recipe
from flax import nnx

from sharplab.core import tree
from sharplab.core.loops import choose_loop
from sharplab.models import MODELS
from sharplab.scaling import PARAMETERIZATIONS, ROLES


@pytest.mark.parametrize("model", ["mlp", "linear_network", "residual_convnet_batchnorm", "vit", "gpt", "gpt_tied"])
def test_all_parameterizations_are_one_function_at_the_base_width(float64, model):
    inputs, _ = small_batch(model)
    expected = small_recipe(model, scaling="standard").network.source.draw(jax.random.key(1))(inputs)
    assert expected.shape == (*(inputs.shape if model.startswith("gpt") else inputs.shape[:1]), CLASSES)
    assert 0.1 < jnp.std(expected) < 10
    for name in PARAMETERIZATIONS:
        network = small_recipe(model, scaling=name).network.source.draw(jax.random.key(1))
        assert np.allclose(network(inputs), expected, rtol=1e-10)


def features(model, width):
    """The size of what reaches the readout, or the norm before it, over examples, units and three seeds."""
    inputs, source = as_inputs(model, small_batch(model)[0]), small_recipe(model, width).network.source

    @jax.jit
    def square(seed):
        network = source.draw(jax.random.key(seed))
        network.readout = jnp.asarray
        if hasattr(network, "norm"):
            network.norm = jnp.asarray
        return jnp.mean(network(inputs) ** 2)

    return float(np.sqrt(np.mean([square(seed) for seed in range(3)])))


@pytest.mark.parametrize("model", ["residual_convnet_batchnorm", "gpt"])
def test_features_have_one_size_at_every_width_under_mup(model):
    narrow, wide = features(model, 32), features(model, 128)
    assert 0.3 < narrow < 3
    assert abs(wide / narrow - 1) < 0.2


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_names_its_role_and_whether_it_lies_in_a_branch(model):
    recipe = small_recipe(model)
    state = nnx.to_flat_state(recipe.network.abstract.params)
    for path, variable in state:
        metadata, name = variable.get_metadata(), "/".join(map(str, path))
        assert metadata["role"] in ROLES
        in_branch = path[0] in ("blocks", "stages")
        assert metadata["in_branch"] is in_branch, name
        if path[-1] == "kernel":
            assert len(variable.shape) == 2
            fan_in, fan_out = (next(iter(size)) for size in zip(variable.shape, strict=True))
            grows = (fan_in % BASE_WIDTH == 0 and path[0] not in ("stem", "first", "embedding"), fan_out != CLASSES)
            assert metadata["role"] == {(0, 1): "input", (1, 1): "hidden", (1, 0): "output"}[grows], name
        elif path[-1] == "rows":
            assert metadata["role"] == "input"
        else:
            assert metadata["role"] == ("scalar" if path[0] == "readout" else "vector")


NORM = 2 * BASE_WIDTH
N, K = BASE_WIDTH, CLASSES
BLOCK = 2 * NORM + 4 * N * N + 8 * N * N + 5 * N  # two norms, four projections, an MLP with biases
COUNTS = {
    "mlp": 5 * N + 2 * N * N + N * K,
    "residual_mlp": 5 * N + 3 * N * N + N * K,
    "linear_network": 5 * N + N * K,
    "figure1_convnet": 9 * N + 9 * N * N + N * K,
    "residual_convnet": 18 * N + (2 + 3) * 9 * N * N + N * K,  # 16×16 pixels end at 1×1
    "residual_convnet_k2": 18 * N + (2 + 6) * 9 * N * N + N * K,
    "residual_convnet_k3": 18 * N + (2 + 9) * 9 * N * N + N * K,
    "residual_convnet_layernorm": 18 * N + (2 + 3) * 9 * N * N + 3 * NORM + N * K,
    "residual_convnet_batchnorm": 18 * N + (2 + 3) * 9 * N * N + 3 * NORM + N * K,
    "vit": (32 * N + N) + 6 * N + N + BLOCK + NORM + (N * K + K),
    "gpt": K * N + 6 * N + BLOCK + NORM + N * K,
    "gpt_tied": K * N + 6 * N + BLOCK + NORM,
}


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_as_many_as_the_architecture_has(model):
    assert tree.size(small_recipe(model).network.abstract.params) == COUNTS[model]


@pytest.mark.parametrize("model", ["residual_convnet", "gpt"])
def test_convolutions_alone_are_dispatched_from_the_host(model):
    recipe = small_recipe(model)
    inputs, targets = small_batch(model)
    batch = (jax.eval_shape(recipe.prepare, as_inputs(model, inputs)), targets)
    assert choose_loop(jax.grad(recipe.objective), recipe.network.abstract.params, batch) == (
        "python" if model == "residual_convnet" else "compiled"
    )


@pytest.mark.parametrize("model", ["gpt", "vit"])
def test_random_features_train_the_readout_alone(model):
    factors = tree.named_leaves(replace(small_recipe(model), trainable="readout").factors())
    assert {name for name, factor in factors.items() if factor} == {
        name for name in factors if name.startswith("readout/")
    }
