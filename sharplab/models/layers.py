"""What all models are made of: arrays with a multiplier, drawn as their role prescribes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sharplab.core.tree import PyTree
from sharplab.scaling import Rule
from sharplab.scaling.rule import Number

CACHED = 2**19  # numbers that a core's cache holds, about


class Multiplier(nnx.Variable):
    """A number that the rule prescribes, no parameter, which programs take as an argument."""


def multiplier(number: Number) -> Any:
    """What a module keeps of a rule's number to multiply with: the number, or a `Multiplier` where it is traced.

    So networks that differ by such numbers alone share a graph, and their compiled programs.
    """
    return Multiplier(number) if isinstance(number, jax.Array) else number


class ScaledLinear(nnx.Module):
    """x ↦ multiplier · x W, with W of shape (fan_in, fan_out); with `bias`, plus a vector that begins at 0.

    `gain` is the factor by which the weights' size differs from 1/√fan_in (√2 in front of a ReLU); `in_branch` says
    that the layer lies within a residual branch.
    """

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        *,
        role: str,
        rule: Rule,
        rngs: nnx.Rngs,
        gain: float = 1.0,
        in_branch: bool = False,
        bias: bool = False,
    ) -> None:
        std = rule.init_std(role, fan_in, gain)
        weights = std * jax.random.normal(rngs.params(), (fan_in, fan_out))
        self.kernel = nnx.Param(weights, role=role, in_branch=in_branch, fan_in=fan_in, gain=gain)
        self.multiplier = multiplier(rule.multiplier(role, fan_in, gain))
        bias_role = "scalar" if role == "output" else "vector"
        self.bias = ScaledVector(fan_out, 0.0, role=bias_role, rule=rule, in_branch=in_branch) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.multiplier * linear(x, self.kernel[...])
        return y if self.bias is None else y + jax.lax.broadcast_to_rank(self.bias(), y.ndim)


class ScaledVector(nnx.Module):
    """A bias or gain of `size` entries that begin at `start` under every parameterization."""

    def __init__(self, size: int, start: float, *, role: str = "vector", rule: Rule, in_branch: bool = False) -> None:
        # Multiplier × size drawn is 1 but for the richness, which divides a readout's bias as it does its weights.
        self.weights = nnx.Param(jnp.full(size, start * rule.init_std(role, 1)), role=role, in_branch=in_branch)
        self.multiplier = multiplier(rule.multiplier(role, 1))

    def __call__(self) -> jax.Array:
        return self.multiplier * self.weights[...]


class ScaledTable(nnx.Module):
    """indices ↦ multiplier · rows[indices]: input weights of one-hot vectors, entries of size `gain` at any width."""

    def __init__(self, rows: int, width: int, *, rule: Rule, rngs: nnx.Rngs, gain: float = 1.0) -> None:
        weights = rule.init_std("input", 1, gain) * jax.random.normal(rngs.params(), (rows, width))
        self.rows = nnx.Param(weights, role="input", in_branch=False, fan_in=1, gain=gain)
        self.multiplier = multiplier(rule.multiplier("input", 1, gain))

    def __call__(self, indices: jax.Array) -> jax.Array:
        return self.multiplier * self.rows[...][indices]


def linear(x: jax.Array, W: jax.Array) -> jax.Array:
    """The product x W for x of shape (…, K), made as one of two matrices.

    With more axes than two, the gradient of W on CPUs begins with a transposed copy of that of the outputs.
    """
    return (x.reshape(-1, x.shape[-1]) @ W).reshape(*x.shape[:-1], W.shape[-1])


def few_at_once(layer: Callable[[PyTree], jax.Array], inputs: PyTree, numbers: int) -> jax.Array:
    """`layer` of examples, of each of which it makes `numbers`; on CPUs of few at a time, and anew for the gradient.

    For a layer whose output, or what it makes on the way, is far larger than its input: there, to write it to memory
    and read it is what takes time, and not the arithmetic.
    """
    examples, at_once = len(jax.tree.leaves(inputs)[0]), max(CACHED // numbers, 1)
    if examples <= at_once or jax.default_backend() != "cpu":
        return layer(inputs)
    # Blocks that `layer` takes as they are: vectorised, it would make its matrix products along one axis more.
    blocks, rest = divmod(examples, at_once)
    some, whole = jax.checkpoint(layer), examples - rest
    parts = jax.lax.map(some, jax.tree.map(lambda x: x[:whole].reshape(blocks, at_once, *x.shape[1:]), inputs))
    outputs = parts.reshape(whole, *parts.shape[2:])
    return jnp.concatenate([outputs, some(jax.tree.map(lambda x: x[whole:], inputs))]) if rest else outputs
