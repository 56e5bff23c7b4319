"""abc-parameterizations: three exponents of width for each role that a weight can play.

A weight enters the network as W = n^-a · w with w ~ N(0, n^-2b), and is trained with learning rate η n^-c,
where n is the width in units of the base width (Yang & Hu, arXiv 2011.14522; Yang et al., arXiv 2203.03466).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sharplab.naming import lookup

if TYPE_CHECKING:
    import pandas as pd

ROLES: Mapping[str, str] = MappingProxyType(
    {
        "input": "fan-in fixed, fan-out grows",
        "hidden": "fan-in and fan-out grow",
        "output": "fan-in grows, fan-out fixed (the readout)",
        "vector": "a bias or gain into a width that grows",
        "scalar": "neither grows (the readout's bias)",
    }
)


@dataclass(frozen=True)
class Exponents:
    """The abc of one role; `c` has one exponent per kind of optimizer."""

    a: float
    b: float
    c: Mapping[str, float]


@dataclass(frozen=True)
class Parameterization:
    """The exponents of every role.

    `unit_variance` says where the width-independent part of a weight's size, gain/√(fan-in at base), is put:
    into the multiplier (weights drawn with variance 1) or into the initialisation (multiplier 1 at the base).
    """

    name: str
    roles: Mapping[str, Exponents] = field(hash=False)  # equal names and roles compare equal; names hash
    unit_variance: bool

    def shift(self, theta: float) -> "Parameterization":
        """Move a factor n^theta from multiplier to weight in every role that grows: the abc symmetry.

        (a, b, c) → (a + θ, b − θ, c − 2θ) under SGD leaves the trained function unchanged at every step,
        for weights and learning rates at which the arithmetic is exact (arXiv 2011.14522, section 3). The
        Hessian's eigenvalues change; those in the metric of the optimizer do not.

        >>> parameterization("mup").shift(0.5).roles == parameterization("mean_field").roles
        True
        """
        shifted = {
            role: Exponents(e.a + theta, e.b - theta, {"sgd": e.c["sgd"] - 2 * theta}) if role != "scalar" else e
            for role, e in self.roles.items()
        }
        return replace(self, name=f"{self.name}.shift({theta:g})", roles=shifted)

    def table(self) -> "pd.DataFrame":
        """One row per role: what the role means, a, b, and c for each kind of optimizer."""
        import pandas as pd

        rows = {
            role: {"a": e.a, "b": e.b} | {f"c ({kind})": c for kind, c in e.c.items()} | {"meaning": ROLES[role]}
            for role, e in self.roles.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("role")

    def __str__(self) -> str:
        return f"{self.name}: W = n^-a w, w ~ N(0, n^-2b), learning rate η n^-c\n{self.table().to_string()}"


def _sgd(**abc: tuple[float, float, float]) -> dict[str, Exponents]:
    # A bias is a weight from the constant 1, so it scales as the input weights do; its start is 0.
    roles = abc | {"vector": abc["input"], "scalar": (0.0, 0.0, 0.0)}
    return {role: Exponents(a, b, {"sgd": c}) for role, (a, b, c) in roles.items()}


# muP here is the form whose learning rates carry no width under SGD (form 9 of the literature's four);
# mean_field has unit-variance weights, as in the figures of arXiv 2402.17457, and is its shift by one half.
PARAMETERIZATIONS: Mapping[str, Parameterization] = MappingProxyType(
    {
        p.name: p
        for p in (
            Parameterization(
                "standard",
                _sgd(input=(0.0, 0.0, 0.0), hidden=(0.0, 0.5, 0.0), output=(0.0, 0.5, 0.0)),
                unit_variance=False,
            ),
            Parameterization(
                "ntk",
                _sgd(input=(0.0, 0.0, 0.0), hidden=(0.5, 0.0, 0.0), output=(0.5, 0.0, 0.0)),
                unit_variance=True,
            ),
            Parameterization(
                "mup",
                _sgd(input=(-0.5, 0.5, 0.0), hidden=(0.0, 0.5, 0.0), output=(0.5, 0.5, 0.0)),
                unit_variance=True,
            ),
            Parameterization(
                "mean_field",
                _sgd(input=(0.0, 0.0, -1.0), hidden=(0.5, 0.0, -1.0), output=(1.0, 0.0, -1.0)),
                unit_variance=True,
            ),
        )
    }
)


def parameterization(name: str) -> Parameterization:
    """The parameterization called "standard", "ntk", "mup" or "mean_field".

    Raises:
        ValueError: for another name, with the nearest known ones.

    >>> print(parameterization("mup"))  # doctest: +NORMALIZE_WHITESPACE
    mup: W = n^-a w, w ~ N(0, n^-2b), learning rate η n^-c
              a    b  c (sgd)                                    meaning
    role
    input  -0.5  0.5      0.0                fan-in fixed, fan-out grows
    hidden  0.0  0.5      0.0                fan-in and fan-out grow
    output  0.5  0.5      0.0  fan-in grows, fan-out fixed (the readout)
    vector -0.5  0.5      0.0     a bias or gain into a width that grows
    scalar  0.0  0.0      0.0        neither grows (the readout's bias)
    """
    return lookup("parameterization", name, PARAMETERIZATIONS)
