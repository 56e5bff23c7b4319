"""The arrays that functions hold: in closures, defaults, partials, objects, pytrees, and functions they call."""

import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.tree_util import Partial

from sharplab.core.captured import captured_arrays

A, B = jnp.ones(2), np.zeros(3)
GLOBAL = {"weights": jnp.ones(1)}


def product(x):
    return x * GLOBAL["weights"]


def calls(x):
    return product(x)


class Holder:
    def __init__(self):
        self.array = A

    def method(self, x):
        return x


def test_each_place_is_found_and_named():
    def closure(x, default=B):
        return x + A + held["layers"][0] + default

    held = {"layers": [jnp.ones(4)]}
    assert set(captured_arrays(loss=closure)) == {"loss/0", "loss/A", "loss/held/layers/0"}
    assert captured_arrays(loss=functools.partial(closure, x=B))["loss/2/x"] is B
    assert captured_arrays(loss=Partial(product, A))["loss/1/0"] is A
    assert captured_arrays(loss=calls) == {"loss/product/GLOBAL/weights": GLOBAL["weights"]}
    assert captured_arrays(loss=None, model=np.mean) == {}


def test_modules_and_what_refers_to_itself():
    module = nnx.BatchNorm(2, rngs=nnx.Rngs(0))

    def evaluate(x):
        return module(x) if x else evaluate(x)

    found = captured_arrays(model=evaluate)
    assert found["model/module/mean"] is module.mean[...]
    assert {1: A, "a": B} and captured_arrays(model=lambda x, d={1: A, "a": B}: x) == {}  # keys without an order
