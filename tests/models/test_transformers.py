"""GPT and ViT against plain implementations; who sees whom; what tying a table means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import CLASSES, assert_equals_plain, forward, init_params, small_batch, small_recipe
from flax import nnx
from problems import promoting

from sharplab.core import tree
from sharplab.models.attention import Attention
from sharplab.scaling import PARAMETERIZATIONS, Rule, parameterization

LENGTH = 6


def norm(h, weights):
    centred = h - h.mean(-1, keepdims=True)
    return weights["gain"]["weights"] * centred / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5) + weights["bias"]["weights"]


def plain_block(h, weights, causal):
    """At width 16 under "standard": no multipliers; eight heads of size 2; α = ½ at depth 2."""
    x, heads = norm(h, weights["attention_norm"]), []
    unseen = jnp.triu(jnp.full(2 * (x.shape[1],), jnp.inf if causal else 0.0), 1)
    q, k, v = (x @ weights["attention"][name]["kernel"] for name in ("query", "key", "value"))
    for i in range(8):
        Q, K, V = (y[..., 2 * i : 2 * i + 2] for y in (q, k, v))
        heads.append(jax.nn.softmax(Q @ K.mT / 2**0.5 - unseen) @ V)
    h = h + 2**-0.5 * jnp.concatenate(heads, -1) @ weights["attention"]["mix"]["kernel"]
    expand, contract = weights["mlp"]["expand"], weights["mlp"]["contract"]
    x = jax.nn.gelu(norm(h, weights["mlp_norm"]) @ expand["kernel"] + expand["bias"]["weights"])
    return h + 2**-0.5 * (x @ contract["kernel"] + contract["bias"]["weights"])


@promoting
def plain_gpt(weights, tokens):
    h = weights["tokens"]["rows"][tokens] + weights["positions"]["rows"]
    for block in weights["blocks"].values():
        h = plain_block(h, block, causal=True)
    return norm(h, weights["norm"]) @ weights["readout"]["kernel"]


@promoting
def plain_vit(weights, images):
    kernel = weights["embedding"]["kernel"].reshape(4, 4, 2, -1)
    patches = jax.lax.conv_general_dilated(
        images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(len(images), 6, -1)
    h = patches + weights["embedding"]["bias"]["weights"] + weights["positions"]["rows"]
    first = jnp.broadcast_to(weights["class_token"]["rows"], (len(images), 1, h.shape[-1]))
    h = jnp.concatenate([first, h], axis=1)
    for block in weights["blocks"].values():
        h = plain_block(h, block, causal=False)
    return norm(h[:, 0], weights["norm"]) @ weights["readout"]["kernel"] + weights["readout"]["bias"]["weights"]


@pytest.mark.parametrize("model, plain", [("gpt", plain_gpt), ("vit", plain_vit)])
def test_outputs_and_gradient_equal_a_plain_implementation(float64, model, plain):
    recipe = small_recipe(model, 16, "standard", depth=2)
    params = init_params(recipe, 0)
    params = jax.tree.map(lambda w: w + 0.1 * np.cos(np.arange(w.size)).reshape(w.shape), params)  # biases unlike 0
    assert_equals_plain(plain, recipe, params, small_batch(model))


def test_no_logit_depends_on_a_later_position():
    recipe = small_recipe("gpt", depth=2)
    params, (tokens, _) = init_params(recipe, 0), small_batch("gpt", examples=1)

    def logits(positions):
        network = recipe.network.module(params)
        network.positions.rows = nnx.Param(positions)
        return network(tokens)[0]

    influence = np.abs(jax.jit(jax.jacrev(logits))(tree.named_leaves(params)["positions/rows"])).max(
        (1, 3)
    )  # (T logits, T positions)
    assert np.array_equal(influence > 0, np.tri(LENGTH, dtype=bool))


def test_changing_a_token_changes_its_own_logits_and_later_ones_alone():
    recipe = small_recipe("gpt")
    params, (tokens, _) = init_params(recipe, 0), small_batch("gpt")
    changed = tokens.copy()
    changed[0, 3] = (changed[0, 3] + 1) % CLASSES
    before, after = (np.asarray(forward(recipe, params, x)) for x in (tokens, changed))
    differs = np.abs(after - before).max((0, 2)) > 0
    assert differs.tolist() == [False, False, False, True, True, True]


def test_shorter_texts_have_the_logits_of_their_beginning():
    recipe = small_recipe("gpt")
    params, (tokens, _) = init_params(recipe, 0), small_batch("gpt")
    whole, beginning = (forward(recipe, params, x) for x in (tokens, tokens[:, :4]))
    assert np.allclose(whole[:, :4], beginning, atol=1e-6)


@pytest.mark.parametrize("name, power", [("standard", 0.5), ("ntk", 0.5), ("mup", 1.0), ("mean_field", 1.0)])
def test_attention_logits_fall_with_the_head_size_as_the_parameterization_says(name, power):
    def scale(width):
        rule = Rule(parameterization(name), width, 32)
        return Attention(width, rule=rule, rngs=nnx.Rngs(0), causal=False).scale

    assert np.isclose(scale(32), 4**-0.5)  # eight heads of size 4
    assert np.isclose(scale(128), 4**-0.5 * 4**-power)


@pytest.mark.parametrize("width, heads", [(8, 8), (96, 8), (12, 4), (6, 2), (5, 1)])
def test_heads_are_eight_or_as_many_as_divide_the_width(width, heads):
    attention = Attention(width, rule=Rule(parameterization("mup"), width), rngs=nnx.Rngs(0), causal=False)
    assert attention.heads == heads
    assert attention(jnp.ones((2, 3, width))).shape == (2, 3, width)


def test_a_block_without_its_last_layers_is_the_identity():
    block = small_recipe("vit").network.source.draw(jax.random.key(0)).blocks[0]
    h = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 8)), jnp.float32)
    assert np.abs(block(h) - h).max() > 0.1
    for layer in (block.attention.mix, block.mlp.contract):
        layer.kernel[...] *= 0
    assert np.array_equal(block(h), h)


def test_patches_may_stand_in_any_order_if_their_positions_go_with_them():
    recipe = small_recipe("vit")
    network, (images, _) = recipe.network.source.draw(jax.random.key(0)), small_batch("vit")
    patches = network.prepare(images.astype(np.float32))
    assert patches.shape == (4, 6, 32)
    expected, order = network.forward(patches), np.array([3, 1, 5, 0, 2, 4])
    assert np.abs(network.forward(patches[:, order]) - expected).max() > 1e-3
    network.positions.rows[...] = network.positions.rows[...][order]
    assert np.allclose(network.forward(patches[:, order]), expected, atol=1e-5)


def test_pixels_of_one_patch_stay_together():
    network = small_recipe("vit").network.source.draw(jax.random.key(0))
    image = np.zeros((1, 8, 12, 2), np.float32)
    image[0, 4:, 8:] = 1  # the last of 2×3 patches
    assert network.prepare(image)[0].sum(-1).tolist() == [0, 0, 0, 0, 0, 32]


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_a_tied_table_reads_out_with_the_size_of_an_untied_readout(name):
    """Over widths beyond the base, and in one parameter."""
    tied, untied = (
        small_recipe(model, 64, name).network.source.draw(jax.random.key(0)) for model in ("gpt_tied", "gpt")
    )
    assert not any(name.startswith("readout") for name in tree.named_leaves(nnx.state(tied)))
    sizes = [
        tied.tied_multiplier * jnp.std(tied.tokens.rows[...]),
        untied.readout.multiplier * jnp.std(untied.readout.kernel[...]),
    ]
    assert abs(sizes[0] / sizes[1] - 1) < 0.15
    assert abs(jnp.std(tied.tokens(jnp.arange(CLASSES))) / np.sqrt(0.5) - 1) < 0.15


@pytest.mark.parametrize("name, one_rate", [("mup", True), ("mean_field", True), ("ntk", True), ("standard", False)])
def test_both_roles_of_a_tied_table_ask_for_one_learning_rate_but_under_standard(name, one_rate):
    roles = parameterization(name).roles
    as_input = roles["input"]
    as_readout = roles["output"].shift(roles["output"].b - as_input.b)  # of the same initial size
    for kind in ("sgd", "adam"):
        assert (as_input.c[kind] == as_readout.c[kind]) is one_rate
    assert as_input.gradient == as_readout.gradient  # so Adam's ε is right for their sum


def test_a_tied_table_learns_from_both_of_its_roles(float64):
    """Its gradient is the sum of those of an embedding and of a readout that start equal."""
    recipe = small_recipe("gpt_tied", 16)
    params, batch = init_params(recipe, 0), small_batch("gpt_tied")
    untied = small_recipe("gpt", 16)
    network = untied.network.source.draw(jax.random.key(0))
    nnx.update(network, params)
    tied = recipe.network.module(params)
    to_readout = tied.tied_multiplier / network.readout.multiplier
    network.readout.kernel[...] = to_readout * tied.tokens.rows[...].T
    assert np.allclose(tied(batch[0]), network(batch[0]), rtol=0, atol=1e-13)
    apart = tree.named_leaves(jax.jit(jax.grad(untied.objective))(nnx.split(network)[1], batch))
    together = tree.named_leaves(jax.jit(jax.grad(recipe.objective))(params, batch))
    both = apart["tokens/rows"] + to_readout * apart["readout/kernel"].T
    assert np.allclose(together["tokens/rows"], both, rtol=0, atol=1e-13)
    assert np.abs(apart["tokens/rows"]).max() > 1e-3 < np.abs(apart["readout/kernel"]).max()
