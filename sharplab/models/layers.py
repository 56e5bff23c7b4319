"""The one layer that all models are made of: a matrix with a multiplier, drawn as its role prescribes."""

import jax
from flax import nnx

from sharplab.scaling import Rule


class ScaledLinear(nnx.Module):
    """x ↦ multiplier · x W, with W of shape (fan_in, fan_out), no bias.

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
    ) -> None:
        std = rule.init_std(role, fan_in, gain)
        weights = std * jax.random.normal(rngs.params(), (fan_in, fan_out))
        self.kernel = nnx.Param(weights, role=role, in_branch=in_branch, unit=rule.unit(role, fan_in, gain))
        self.multiplier = rule.multiplier(role, fan_in, gain)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.multiplier * (x @ self.kernel[...])
