"""The arrays that functions hold: in closures, defaults, partials, objects, pytrees, and functions they call."""

import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.tree_util import Partial

from sharplab.core import captured as module_of_captured
from sharplab.core.captured import captured_arrays, fingerprint

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


def test_fingerprints_are_of_content_unless_an_array_is_a_file_or_large(tmp_path, monkeypatch):
    array = np.arange(6.0)
    assert fingerprint(array) == fingerprint(array.copy()) != fingerprint(array.reshape(2, 3))
    assert fingerprint(array[::2]) == fingerprint(np.array([0.0, 2.0, 4.0]))
    assert fingerprint(A) == fingerprint(A) != fingerprint(A + 0)
    assert fingerprint(1) != fingerprint(True) and fingerprint(float("nan")) == fingerprint(float("nan"))
    array.tofile(tmp_path / "file")
    file = np.memmap(tmp_path / "file", dtype=float, mode="r")
    assert fingerprint(file) == fingerprint(file) != fingerprint(np.memmap(tmp_path / "file", dtype=float, mode="r"))
    monkeypatch.setattr(module_of_captured, "MOST_READ", 8)
    assert fingerprint(array) == fingerprint(array) != fingerprint(array.copy())
