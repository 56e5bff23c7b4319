"""A parameterization at one width and depth: the numbers that a layer and an optimizer need."""

from dataclasses import dataclass
from math import sqrt

from sharplab.scaling.abc import SYMMETRY_POWER, Parameterization
from sharplab.scaling.depth import ONE_BLOCK, DepthRule


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

    def _size_at_base(self, role: str, fan_in: int, gain: float) -> float:
        # Whatever of the fan-in grows with width is in the exponents already.
        fixed = fan_in / self.ratio if role in ("hidden", "output") else fan_in
        return gain / sqrt(fixed)

    def unit(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The part of a weight's size at the base that is in its multiplier: gain/√fan-in under unit variance."""
        return self._size_at_base(role, fan_in, gain) if self.parameterization.unit_variance else 1.0

    def multiplier(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The factor in front of a weight of this role and fan-in; the readout's holds 1/γ₀ too."""
        richness = self.gamma if role in ("output", "scalar") else 1.0
        of_width = self.ratio ** -self.parameterization.roles[role].a
        return self.unit(role, fan_in, gain) * of_width / richness

    def init_std(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The standard deviation that a weight of this role and fan-in is drawn with."""
        of_width = self.ratio ** -self.parameterization.roles[role].b
        return self._size_at_base(role, fan_in, gain) / self.unit(role, fan_in, gain) * of_width

    def attention_scale(self, head_size: float, base_head_size: float) -> float:
        """The factor of attention logits qᵀk: 1/√d at the base, from where it falls as d^-attention."""
        return base_head_size**-0.5 * (head_size / base_head_size) ** -self.parameterization.attention

    def lr_factor(self, role: str, kind: str = "sgd", *, in_branch: bool = False, unit: float = 1.0) -> float:
        """The factor of the base learning rate for a weight of this role, under an optimizer of this kind.

        Optimizers other than SGD step in proportion to `unit`, so that at the base all parameterizations are one
        training run. Under SGD they are not: there the literature quotes learning rates of the weights as they are.
        """
        of_width = self.ratio ** -self.parameterization.roles[role].c[kind]
        of_depth = self.depth.lr_factor(kind) if in_branch else 1.0
        return of_width * of_depth * self.gamma ** SYMMETRY_POWER[kind] / (1.0 if kind == "sgd" else unit)

    def gradient_scale(self, role: str, *, in_branch: bool = False, unit: float = 1.0) -> float:
        """The size of such a weight's gradients in units of that at the bases; Adam's ε goes with it."""
        of_width = self.ratio ** self.parameterization.roles[role].gradient
        return of_width * (self.depth.multiplier if in_branch else 1.0) * unit / self.gamma
