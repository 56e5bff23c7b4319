"""A parameterization at one width and depth: the numbers that a layer and an optimizer need."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import sqrt
from typing import NamedTuple

import jax

from sharplab.scaling.abc import GROWTH, KINDS, RICHNESS_POWER, Parameterization
from sharplab.scaling.depth import ONE_BLOCK, DepthRule

Number = float | jax.Array  # a scalar: an array within programs that take it as an argument


class RoleNumbers(NamedTuple):
    """What depends on width, depth and richness for weights of one role; pairs are outside and inside of branches."""

    size: Number  # √ratio where the fan-in grows: what 1/√fan-in is multiplied by, to be that at the base
    multiplier: Number
    init_std: Number
    lr_factors: Mapping[str, tuple[Number, Number]]  # by kind of optimizer
    gradient_scales: tuple[Number, Number]


@partial(jax.tree_util.register_dataclass, data_fields=["multiplier"], meta_fields=["depth"])
@dataclass(frozen=True)
class BranchNumbers:
    """The number of residual blocks, and the factor in front of each branch."""

    depth: int
    multiplier: Number


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["ratio", "unit_variance", "attention", "depth", "roles"],
    meta_fields=["width"],
)
@dataclass(frozen=True)
class RuleNumbers:
    """All that a model and an optimizer take of a `Rule`: a pytree, of one structure for all parameterizations.

    The methods are described at `Rule`.
    """

    width: int
    ratio: Number
    unit_variance: Number  # 1 or 0
    attention: Number
    depth: BranchNumbers
    roles: Mapping[str, RoleNumbers]

    @property
    def numbers(self) -> "RuleNumbers":
        """These, as of a `Rule`."""
        return self

    def _size_at_base(self, role: str, fan_in: int, gain: float) -> Number:
        # Whatever of the fan-in grows with width is in the exponents already.
        return gain / sqrt(fan_in) * self.roles[role].size

    def unit(self, role: str, fan_in: int, gain: float = 1.0) -> Number:
        """See `Rule.unit`."""
        return self.unit_variance * self._size_at_base(role, fan_in, gain) + (1 - self.unit_variance)

    def multiplier(self, role: str, fan_in: int, gain: float = 1.0) -> Number:
        """See `Rule.multiplier`."""
        return self.unit(role, fan_in, gain) * self.roles[role].multiplier

    def init_std(self, role: str, fan_in: int, gain: float = 1.0) -> Number:
        """See `Rule.init_std`."""
        size = self._size_at_base(role, fan_in, gain)
        return (self.unit_variance + (1 - self.unit_variance) * size) * self.roles[role].init_std

    def attention_scale(self, head_size: Number, base_head_size: Number) -> Number:
        """See `Rule.attention_scale`."""
        return base_head_size**-0.5 * (head_size / base_head_size) ** -self.attention

    def lr_factor(self, role: str, kind: str = "sgd", *, in_branch: bool = False, unit: Number = 1.0) -> Number:
        """See `Rule.lr_factor`."""
        return self.roles[role].lr_factors[kind][in_branch] / (1.0 if kind in ("sgd", "relative") else unit)

    def gradient_scale(self, role: str, *, in_branch: bool = False, unit: Number = 1.0) -> Number:
        """See `Rule.gradient_scale`."""
        return self.roles[role].gradient_scales[in_branch] * unit


@dataclass(frozen=True)
class Rule:
    """The numbers that `parameterization` prescribes at `width` and `depth`, with learning rates quoted at the bases.

    `gamma` is the richness γ₀: outputs are divided by it and SGD's learning rates multiplied by its square (Adam's by
    itself), so that training grows lazier as it falls (arXiv 2410.04642).
    """

    parameterization: Parameterization
    width: int
    base_width: int = 1
    gamma: float = 1.0
    depth: DepthRule = ONE_BLOCK

    @property
    def ratio(self) -> float:
        """The width in units of the base width."""
        return self.width / self.base_width

    @cached_property
    def numbers(self) -> RuleNumbers:
        """The numbers alone, which programs can take as arguments."""
        return RuleNumbers(
            self.width,
            self.ratio,
            float(self.parameterization.unit_variance),
            self.parameterization.attention,
            BranchNumbers(self.depth.depth, self.depth.multiplier),
            {role: self._of_role(role) for role in GROWTH},
        )

    def _of_role(self, role: str) -> RoleNumbers:
        exponents = self.parameterization.roles[role]
        grows = role in ("hidden", "output")
        of_gradient = self.ratio**exponents.gradient

        def factor(kind: str, of_depth: float) -> float:
            return self.ratio ** -exponents.c[kind] * of_depth * self.gamma ** RICHNESS_POWER[kind]

        return RoleNumbers(
            size=sqrt(self.ratio) if grows else 1.0,
            multiplier=self.ratio**-exponents.a / (self.gamma if role in ("output", "scalar") else 1.0),
            init_std=self.ratio**-exponents.b,
            lr_factors={kind: (factor(kind, 1.0), factor(kind, self.depth.lr_factor(kind))) for kind in KINDS},
            gradient_scales=(of_gradient / self.gamma, of_gradient * self.depth.multiplier / self.gamma),
        )

    def unit(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The part of a weight's size at the base that is in its multiplier: gain/√fan-in under unit variance."""
        return float(self.numbers.unit(role, fan_in, gain))

    def multiplier(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The factor in front of a weight of this role and fan-in; the readout's holds 1/γ₀ too."""
        return float(self.numbers.multiplier(role, fan_in, gain))

    def init_std(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The standard deviation that a weight of this role and fan-in is drawn with."""
        return float(self.numbers.init_std(role, fan_in, gain))

    def attention_scale(self, head_size: float, base_head_size: float) -> float:
        """The factor of attention logits qᵀk: 1/√d at the base, from where it falls as d^-attention."""
        return float(self.numbers.attention_scale(head_size, base_head_size))

    def lr_factor(self, role: str, kind: str = "sgd", *, in_branch: bool = False, unit: float = 1.0) -> float:
        """The factor of the base learning rate for a weight of this role, under an optimizer of this kind.

        Optimizers other than SGD step in proportion to `unit`, as relative steps do by themselves, so that at the base
        all parameterizations are one training run. Under SGD they are not: there the literature quotes learning rates
        of the weights as they are.
        """
        return float(self.numbers.lr_factor(role, kind, in_branch=in_branch, unit=unit))

    def gradient_scale(self, role: str, *, in_branch: bool = False, unit: float = 1.0) -> float:
        """The size of such a weight's gradients in units of that at the bases; Adam's ε goes with it."""
        return float(self.numbers.gradient_scale(role, in_branch=in_branch, unit=unit))
