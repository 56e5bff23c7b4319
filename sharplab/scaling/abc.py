"""abc-parameterizations: three exponents of width for each role that a weight can play.

A weight enters the network as W = n^-a · w with w ~ N(0, n^-2b), and is trained with learning rate η n^-c,
where n is the width in units of the base width (Yang & Hu, arXiv 2011.14522; Yang et al., arXiv 2203.03466).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sharplab.core.arguments import checked
from sharplab.core.naming import lookup

if TYPE_CHECKING:
    import pandas as pd

ROLES: Mapping[str, str] = {
    "input": "fan-in fixed, fan-out grows",
    "hidden": "fan-in and fan-out grow",
    "output": "fan-in grows, fan-out fixed (the readout)",
    "vector": "a bias or gain into a width that grows",
    "scalar": "neither grows (the readout's bias)",
}
# Exponents with which fan-in and fan-out grow. A bias is a weight from the constant 1.
GROWTH = {"input": (0, 1), "hidden": (1, 1), "output": (1, 0), "vector": (0, 1), "scalar": (0, 0)}

KINDS: Mapping[str, str] = {
    "sgd": "gradient-like: a step goes with the gradient's size (SGD, momentum, Nesterov)",
    "adam": "sign-like: a step's entries do not depend on the gradient's size (Adam, AdamW, Lion)",
    "spectral": "a step has spectral norm 1 (Muon)",
    "relative": "a step's norm is a share of the weight's own (LAMB, LARS)",
}
# What a multiplier θ in front of a weight does to the learning rate of a kind: it is divided by θ^power.
SYMMETRY_POWER: Mapping[str, int] = {"sgd": 2, "adam": 1, "spectral": 1, "relative": 0}
# What the richness γ₀ does to it: it is multiplied by γ₀^power, the power with which steps go with gradients and one.
RICHNESS_POWER: Mapping[str, int] = {"sgd": 2, "adam": 1, "spectral": 1, "relative": 1}

# The learning-rate exponents c of sign-like steps, for weights without multiplier (Everett et al., arXiv 2407.05872):
# with steps fully aligned with what they act upon, or not at all.
_ALIGNED: Mapping[str, Mapping[str, float]] = {
    "full": {"input": 0.0, "hidden": 1.0, "output": 1.0},
    "none": {"input": 0.0, "hidden": 0.5, "output": 0.5},
}


@dataclass(frozen=True)
class Exponents:
    """The exponents a, b, c of one role; `c` has one per kind of optimizer, and gradients go as n^gradient."""

    a: float
    b: float
    c: Mapping[str, float]
    gradient: float

    @checked()
    def shift(self, theta: float) -> "Exponents":
        """The exponents with a factor n^theta moved from multiplier to weight: the same run in other units."""
        c = {kind: c - SYMMETRY_POWER[kind] * theta for kind, c in self.c.items()}
        return Exponents(self.a + theta, self.b - theta, c, self.gradient - theta)


def mup_exponents(fan_in: float, fan_out: float) -> Exponents:
    """The exponents of muP without multipliers, for a weight whose fan-in and fan-out go as n^fan_in and n^fan_out.

    The spectral condition ‖W‖ ~ ‖ΔW‖ ~ √(fan-out/fan-in) (Yang, Simon, Bernstein, arXiv 2310.17813): at the roles'
    growths of 0 and 1 it is table 3 of arXiv 2203.03466. A relative step is as large as Adam's: c is Adam's less b.

    >>> mup_exponents(fan_in=1, fan_out=0).c["sgd"]  # the readout's learning rate falls as 1/fan-in
    1
    """
    b = (fan_in + max(0.0, fan_in - fan_out)) / 2
    return Exponents(
        a=0.0,
        b=b,
        c={"sgd": fan_in - fan_out, "adam": fan_in, "spectral": (fan_in - fan_out) / 2, "relative": fan_in - b},
        gradient=-fan_out,
    )


def standard_exponents(fan_in: float, fan_out: float) -> Exponents:
    """The standard parameterization, of one learning rate, of a weight whose fan-in goes as n^fan_in."""
    return Exponents(a=0.0, b=fan_in / 2, c=dict.fromkeys(KINDS, 0.0), gradient=-fan_out / 2)


def ntk_exponents(fan_in: float, fan_out: float) -> Exponents:
    """The NTK parameterization without multipliers, of a weight whose fan-in and fan-out go as n^fan_in and n^fan_out.

    What its multiplier n^-fan_in/2 does is brought into the learning rate by the abc symmetry.

    >>> ntk_exponents(fan_in=1, fan_out=1).c["sgd"]
    1.0
    """
    with_multiplier = Exponents(a=fan_in / 2, b=0.0, c=dict.fromkeys(KINDS, 0.0), gradient=-(fan_in + fan_out) / 2)
    return with_multiplier.shift(-fan_in / 2)


# The exponents that a module without multipliers has, by the name of the parameterization. That of "mean_field", which
# is muP in other units, would be the one of "mup".
WITHOUT_MULTIPLIERS: Mapping[str, Callable[[float, float], Exponents]] = {
    "mup": mup_exponents,
    "standard": standard_exponents,
    "ntk": ntk_exponents,
}


@dataclass(frozen=True)
class Parameterization:
    """The exponents of every role.

    `unit_variance` says where the width-independent part of a weight's size, gain/√(fan-in at base), is put:
    into the multiplier (weights drawn with variance 1) or into the initialisation (multiplier 1 at the base).
    Attention logits qᵀk are multiplied by d^-attention, d the size of a head: where features learn, queries and keys
    align in training, and qᵀk grows as d instead of √d (arXiv 2203.03466, section 4).
    """

    name: str
    roles: Mapping[str, Exponents] = field(hash=False)  # equal names and roles compare equal; names hash
    unit_variance: bool
    attention: float

    def shift(self, theta: float | Mapping[str, float]) -> "Parameterization":
        """The parameterization with n^theta moved from multiplier to weight, in every role that grows or those named.

        This is the abc symmetry: (a, b) → (a + θ, b − θ) with c → c − 2θ under SGD, c − θ under Adam and c under LAMB
        leaves the trained function unchanged at every step, but for rounding and with Adam's ε scaled as the gradient
        is (arXiv 2011.14522, section 3; 2203.03466, lemma J.1). The Hessian's eigenvalues change; those in the metric
        of the optimizer do not.

        Raises:
            ValueError: for a role that there is not.

        >>> mup = parameterization("mup")
        >>> mup.shift(0.5).roles == parameterization("mean_field").roles
        True
        >>> mup.shift({"input": 0.5, "vector": 0.5, "output": -0.5}).roles["output"].a  # no multipliers
        0.0
        """
        thetas = theta if isinstance(theta, Mapping) else dict.fromkeys(set(self.roles) - {"scalar"}, theta)
        for role in thetas:
            lookup("role", role, self.roles)
        shifted = {role: e.shift(thetas.get(role, 0.0)) for role, e in self.roles.items()}
        label = f"{theta:g}" if not isinstance(theta, Mapping) else ", ".join(f"{r} {t:g}" for r, t in theta.items())
        return replace(self, name=f"{self.name}.shift({label})", roles=shifted)

    def per_layer(self, alignment: str) -> "Parameterization":
        """The parameterization with a learning-rate exponent for each layer, by what is assumed of alignment.

        A step is aligned with what enters its layer ("full") or no more than a random one ("none"); the exponents are
        those at which it moves the layer's outputs by as much at every width (Everett et al., arXiv 2407.05872).
        Under "full", "mup" is as it was.

        Raises:
            ValueError: for another alignment.

        >>> ntk = parameterization("ntk").per_layer("full")
        >>> [ntk.roles[role].c["adam"] for role in ("input", "hidden", "output")]
        [0.0, 0.5, 0.5]
        """
        aligned = lookup("alignment", alignment, _ALIGNED)

        def layered(role: str, e: Exponents) -> Exponents:
            c = aligned.get("input" if role == "vector" else role, 0.0) - e.a
            orthogonal = {"spectral": -e.a} if role == "hidden" else {}  # moves what enters by its norm, aligned or not
            return replace(e, c=dict(e.c) | {"adam": c, "sgd": c + e.gradient, "relative": c - e.b} | orthogonal)

        roles = {role: layered(role, e) for role, e in self.roles.items()}
        return replace(self, name=f"{self.name}.per_layer({alignment})", roles=roles)

    def table(self) -> "pd.DataFrame":
        """One row per role: what the role means, a, b, c for each kind of optimizer, and the gradient's exponent."""
        import pandas as pd

        rows = {
            role: {"a": e.a, "b": e.b}
            | {f"c ({kind})": c for kind, c in e.c.items()}
            | {"gradient": e.gradient, "meaning": ROLES[role]}
            for role, e in self.roles.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("role")

    def __str__(self) -> str:
        legend = "W = n^-a w, w ~ N(0, n^-2b), learning rate η n^-c, gradients ~ n^gradient"
        return f"{self.name}: {legend}\n{self.table().to_string()}"


def _one_learning_rate(name: str, unit_variance: bool, **roles: tuple[float, float, float]) -> Parameterization:
    """The parameterization of (a, b, gradient) for each role, every weight trained with η itself."""
    roles |= {"vector": roles["input"], "scalar": (0.0, 0.0, 0.0)}
    one = dict.fromkeys(KINDS, 0.0)
    exponents = {role: Exponents(a, b, one, g) for role, (a, b, g) in roles.items()}
    return Parameterization(name, exponents, unit_variance, attention=0.5)


def _mup(name: str, **shifts: float) -> Parameterization:
    """muP in the formulation that has multipliers n^-shift."""
    roles = {role: mup_exponents(*growth).shift(shifts.get(role, 0.0)) for role, growth in GROWTH.items()}
    return Parameterization(name, roles, unit_variance=True, attention=1.0)


# muP here is the formulation whose learning rates carry no width under SGD (formulation 9 of the literature's four);
# mean_field has unit-variance weights, as in the figures of arXiv 2402.17457, and is its shift by one half.
PARAMETERIZATIONS: Mapping[str, Parameterization] = {
    p.name: p
    for p in (
        _one_learning_rate("standard", False, input=(0.0, 0.0, -0.5), hidden=(0.0, 0.5, -0.5), output=(0.0, 0.5, 0.0)),
        _one_learning_rate("ntk", True, input=(0.0, 0.0, -0.5), hidden=(0.5, 0.0, -1.0), output=(0.5, 0.0, -0.5)),
        _mup("mup", input=-0.5, vector=-0.5, output=0.5),
        _mup("mean_field", hidden=0.5, output=1.0),
    )
}


def parameterization(name: str) -> Parameterization:
    """The parameterization called "standard", "ntk", "mup" or "mean_field".

    Raises:
        ValueError: for another name, with the nearest known ones.

    >>> parameterization("mup").table().drop(columns="meaning")  # doctest: +NORMALIZE_WHITESPACE
              a    b  c (sgd)  c (adam)  c (spectral)  c (relative)  gradient
    role
    input  -0.5  0.5      0.0       0.5           0.0           0.0      -0.5
    hidden  0.0  0.5      0.0       1.0           0.0           0.5      -1.0
    output  0.5  0.5      0.0       0.5           0.0           0.0      -0.5
    vector -0.5  0.5      0.0       0.5           0.0           0.0      -0.5
    scalar  0.0  0.0      0.0       0.0           0.0           0.0       0.0
    """
    return lookup("parameterization", name, PARAMETERIZATIONS)
