"""A parameterization at one width: the numbers that a layer and an optimizer need."""

from dataclasses import dataclass
from math import sqrt

from sharplab.scaling.abc import Parameterization


@dataclass(frozen=True)
class WidthRule:
    """What `parameterization` prescribes at `width`, with learning rates quoted at `base_width`.

    `gamma` is the richness γ₀: outputs are divided by it and learning rates multiplied by its square, so that
    training grows lazier as it falls (arXiv 2410.04642).
    """

    parameterization: Parameterization
    width: int
    base_width: int = 1
    gamma: float = 1.0

    @property
    def ratio(self) -> float:
        """The width in units of the base width."""
        return self.width / self.base_width

    def _size_at_base(self, role: str, fan_in: int, gain: float) -> float:
        # Whatever of the fan-in grows with width is in the exponents already.
        fixed = fan_in / self.ratio if role in ("hidden", "output") else fan_in
        return gain / sqrt(fixed)

    def multiplier(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The factor in front of a weight of this role and fan-in; the readout's holds 1/γ₀ too."""
        carried = self._size_at_base(role, fan_in, gain) if self.parameterization.unit_variance else 1.0
        richness = self.gamma if role in ("output", "scalar") else 1.0
        return carried * self.ratio ** -self.parameterization.roles[role].a / richness

    def init_std(self, role: str, fan_in: int, gain: float = 1.0) -> float:
        """The standard deviation that a weight of this role and fan-in is drawn with."""
        carried = 1.0 if self.parameterization.unit_variance else self._size_at_base(role, fan_in, gain)
        return carried * self.ratio ** -self.parameterization.roles[role].b

    def lr_factor(self, role: str, kind: str = "sgd") -> float:
        """What the base learning rate is multiplied by for a weight of this role."""
        return self.ratio ** -self.parameterization.roles[role].c[kind] * self.gamma**2
