"""Parameterizations as data: how initialisation, multipliers and learning rates go with width and depth."""

from typing import TYPE_CHECKING

from sharplab.core.lazy import attach

# isort: off
if TYPE_CHECKING:
    from sharplab.scaling.abc import (
        KINDS as KINDS,
        PARAMETERIZATIONS as PARAMETERIZATIONS,
        ROLES as ROLES,
        Exponents as Exponents,
        Parameterization as Parameterization,
        parameterization as parameterization,
    )
    from sharplab.scaling.any_module import mup as mup
    from sharplab.scaling.depth import DEPTH_RULES as DEPTH_RULES, DepthRule as DepthRule
    from sharplab.scaling.rule import Rule as Rule
    from sharplab.scaling.scaled import Scaling as Scaling
# isort: on

_NAMES = {
    "sharplab.scaling.abc": (
        "KINDS",
        "PARAMETERIZATIONS",
        "ROLES",
        "Exponents",
        "Parameterization",
        "parameterization",
    ),
    "sharplab.scaling.any_module": ("mup",),
    "sharplab.scaling.depth": ("DEPTH_RULES", "DepthRule"),
    "sharplab.scaling.rule": ("Rule",),
    "sharplab.scaling.scaled": ("Scaling",),
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = attach(__name__, _NAMES)
