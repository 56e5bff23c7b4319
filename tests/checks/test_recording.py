"""What is seen of a module's inside, and that looking changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sharplab.checks.recording import LOGITS, queries_and_keys, record_outputs


def recorded(model, inputs):
    graphdef, state = nnx.split(model)
    return jax.jit(lambda state, inputs: record_outputs(nnx.merge(graphdef, state), inputs))(state, inputs)


class Listed(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        for layer in (*self.layers, self.layers[0]):
            x = layer(x)
        return x


def test_modules_in_lists_are_seen_and_repeated_calls_are_numbered():
    model = Listed(nnx.Rngs(0))
    x = jnp.ones((4, 3))
    first = model.layers[0](x)
    second = model.layers[1](first)
    found = recorded(model, x)
    assert list(found) == ["(output)", "layers/0/0", "layers/0/1", "layers/1"]
    np.testing.assert_allclose(found["layers/0/0"], first, rtol=1e-5)
    np.testing.assert_allclose(found["layers/1"], second, rtol=1e-5)
    np.testing.assert_allclose(found["layers/0/1"], model(x), rtol=1e-5)
    np.testing.assert_allclose(found["(output)"], model(x), rtol=1e-5)


class Stacked(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.vmap(lambda rngs: nnx.Linear(3, 3, rngs=rngs))(rngs.split(5))
        self.head = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)
        return jax.vmap(self.head)(x)


def test_scanned_layers_are_seen_and_bare_transforms_do_no_harm():
    found = recorded(Stacked(nnx.Rngs(0)), jnp.ones((4, 3)))
    assert {path: x.shape for path, x in found.items()} == {"(output)": (4, 2), "blocks": (5, 4, 3)}


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_logits_of_multi_head_attention_are_scaled_products_of_queries_and_keys(rate):
    model = nnx.MultiHeadAttention(2, 8, dropout_rate=rate, deterministic=True, decode=False, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (3, 5, 8))
    logits = jnp.einsum("nqhd,nkhd->nhqk", model.query(x), model.key(x)) / 2  # heads of size 4
    found = recorded(model, x)
    np.testing.assert_allclose(found[LOGITS], logits - logits.mean(-1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(found["value"], model.value(x), atol=1e-5)
    assert {"query", "key"} <= queries_and_keys(model)


class Handmade(nnx.Module):
    def __call__(self, x):
        masked = jnp.where(jnp.tril(jnp.ones((3, 3), bool)), x, -1e9)
        self.sow(nnx.Intermediate, "twice", 2 * x)
        return jax.nn.softmax(masked)


def test_logits_of_attention_made_by_hand_leave_masks_out_and_what_is_sown_counts():
    x = jnp.array([[1.0, 5.0, 5.0], [1.0, 3.0, 5.0], [1.0, 2.0, 6.0]])
    found = recorded(Handmade(), x)
    np.testing.assert_allclose(found[LOGITS], [[0, 0, 0], [-1, 1, 0], [-2, -1, 3]])
    np.testing.assert_allclose(found["twice"], 2 * x)


class Failing(nnx.Module):
    def __call__(self, x):
        raise RuntimeError("no")


def test_nothing_stays_patched():
    before = (jax.nn.softmax, nnx.softmax, jax.nn.dot_product_attention, nnx.Linear.__call__, Failing.__call__)
    model = Listed(nnx.Rngs(0))
    recorded(model, jnp.ones((1, 3)))
    with pytest.raises(RuntimeError, match="no"):
        recorded(Failing(), jnp.ones(1))
    after = (jax.nn.softmax, nnx.softmax, jax.nn.dot_product_attention, nnx.Linear.__call__, Failing.__call__)
    assert before == after
    assert type(model.layers[0]) is nnx.Linear
