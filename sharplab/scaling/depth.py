"""The scaling of residual branches and their learning rates with depth."""

from collections.abc import Mapping
from dataclasses import dataclass

DEPTH_RULES: Mapping[str, float] = {"none": 0.0, "depth_mup": 0.5, "completep": 1.0}


@dataclass(frozen=True)
class DepthRule:
    """The factor m^-α of residual branches, m the depth in units of the base depth, and the learning rates to match.

    α = ½ is Depth-muP (arXiv 2310.02244, 2309.16620), α = 1 CompleteP (arXiv 2505.01618). For those, and any α > 0,
    the learning rates of weights inside branches go as m^(2α−1) under SGD and m^(α−1) under sign-like optimizers: so L
    branches together move the output by as much at any depth. α = 0 is a plain network, no learning rate scaled.

    >>> DepthRule(depth=8, base_depth=2, alpha=0.5).lr_factor("adam")
    0.5
    """

    depth: int = 1
    base_depth: int = 1
    alpha: float = 0.0

    @property
    def ratio(self) -> float:
        """The depth in units of the base depth."""
        return self.depth / self.base_depth

    @property
    def multiplier(self) -> float:
        """The factor in front of each residual branch; gradients inside go with it."""
        return self.ratio**-self.alpha

    def lr_factor(self, kind: str) -> float:
        """The factor of the learning rate of weights inside branches, for an optimizer of this kind."""
        if self.alpha == 0:
            return 1.0
        exponent = 2 * self.alpha - 1 if kind == "sgd" else self.alpha - 1
        return self.ratio**exponent


ONE_BLOCK = DepthRule()  # the base depth, whatever it is
