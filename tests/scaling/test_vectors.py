"""Vectors of zeros: biases of anyone's own layers are told from readouts by what calls do with them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from flax.nnx import bridge

from sharplab.core.tree import named_leaves
from sharplab.scaling.any_module import mup, scale_module
from sharplab.scaling.drawn_sizes import DrawnSize

BASE, WIDTH = 8, 32


def measured_once(build, *size):
    """The sizes of one draw, without the time that a fair measurement takes."""
    drawn = named_leaves(nnx.state(build(*size, nnx.Rngs(0)), nnx.Param))
    return {
        path: DrawnSize(float(jnp.sqrt(jnp.mean(w**2))), float(w.std()), 0.05, bool(w.min() == w.max()))
        for path, w in drawn.items()
    }


def table_of(build, **settings):
    settings = {"base": BASE, "width": WIDTH, "measure": measured_once} | settings
    return scale_module(build, "mup", **settings).table()


class Held(nnx.Module):
    """Only holds a vector."""

    def __init__(self, width):
        self.v = nnx.Param(jnp.zeros(width))


USES = {
    "product": lambda h, v: h @ v,
    "column": lambda h, v: h @ v[:, None],
    "sum": lambda h, v: (h * v).sum(-1),
    "einsum": lambda h, v: jnp.einsum("...n,n->...", h, v),
    "compiled": lambda h, v: jax.jit(jnp.dot)(h, 2 * v),
    "both": lambda h, v: (h + v) @ v,
    "none": lambda h, v: h,
}


class ZeroHead(nnx.Module):
    """A vector of zeros, held by itself or by a module of its own, and its use."""

    def __init__(self, width, rngs, *, use, held=False):
        self.a = nnx.Linear(5, width, rngs=rngs)
        self.held, self.v = (Held(width), None) if held else (None, nnx.Param(jnp.zeros(width)))
        self.use = use

    def __call__(self, x):
        v = self.v if self.held is None else self.held.v
        return self.use(jnp.tanh(self.a(x)), v[...])


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("use", USES)
def test_a_vector_of_zeros_that_is_not_only_added_is_refused(use, held):
    name = "held/v" if held else "v"
    with pytest.raises(ValueError, match=rf"'{name}' is zero.*\(8,\) at width 8.*roles=\{{'{name}': 'output'\}}"):
        table_of(partial(ZeroHead, use=USES[use], held=held))


@pytest.mark.parametrize("held", [False, True])
def test_one_that_is_added_is_a_bias(held):
    table = table_of(partial(ZeroHead, use=lambda h, v: jnp.tanh(h + v), held=held))
    assert table.loc["held/v" if held else "v", "role"] == "vector"


def test_declared_it_has_the_factor_of_a_readout():
    table = mup(partial(ZeroHead, use=USES["product"]), base=BASE, width=WIDTH, roles={"v": "output"}).table()
    assert (table.loc["v", "role"], table.loc["v", "lr_factor"]) == ("output", BASE / WIDTH)


class OwnDense(nnx.Module):
    """A layer of one's own, with a bias of zeros."""

    def __init__(self, features, width, role, rngs):
        self.w = nnx.Param(jax.random.normal(rngs.params(), (features, width)), role=role)
        self.b = nnx.Param(jnp.zeros(width))

    def __call__(self, x):
        return x @ self.w + self.b


class OwnNorm(nnx.Module):
    """A norm of one's own, its gain kept as 1 + zeros, with a bias of zeros."""

    def __init__(self, width):
        self.gain, self.bias = nnx.Param(jnp.zeros(width)), nnx.Param(jnp.zeros(width))

    def __call__(self, x):
        return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * (1 + self.gain) + self.bias


class OwnLayers(nnx.Module):
    """A network whose own call nobody can trace without its batches."""

    def __init__(self, width, rngs):
        self.first = OwnDense(5, width, "input", rngs)
        self.second = OwnDense(width, width, "hidden", rngs)
        self.norms = nnx.List([OwnNorm(width), OwnNorm(width)])
        self.last = OwnDense(width, 3, "output", rngs)

    def __call__(self, batch):
        return self.last(self.norms[1](self.second(self.norms[0](self.first(batch["x"])))))


def test_zeros_in_layers_of_ones_own_are_seen_in_calls_of_these():
    roles = table_of(OwnLayers)["role"].to_dict()
    assert roles == {
        "first/b": "vector", "first/w": "input", "second/b": "vector", "second/w": "hidden",
        "norms/0/bias": "vector", "norms/0/gain": "vector", "norms/1/bias": "vector", "norms/1/gain": "vector",
        "last/b": "scalar", "last/w": "output",
    }  # fmt: skip


class OfLinen(linen.Module):
    """Linen's layers, of which Flax's bridge shows the variables alone."""

    width: int

    @linen.compact
    def __call__(self, x):
        x = linen.LayerNorm(name="norm")(linen.Dense(self.width, name="stem")(x))
        return linen.Dense(3, name="readout")(x)


def test_biases_of_linen_are_seen_in_a_call_of_the_whole():
    def build(width, rngs):
        return bridge.lazy_init(bridge.ToNNX(OfLinen(width), rngs=rngs), np.zeros((1, 5), np.float32))

    roles = table_of(build, roles={"stem/kernel": "input", "readout/kernel": "output"})["role"]
    assert {path for path, role in roles.items() if role == "vector"} == {"norm/bias", "norm/scale", "stem/bias"}
