"""Parameterizations as data: how initialisation, multipliers and learning rates go with width and depth."""

from sharplab.scaling.abc import KINDS, PARAMETERIZATIONS, ROLES, Exponents, Parameterization, parameterization
from sharplab.scaling.any_module import mup
from sharplab.scaling.depth import DEPTH_RULES, DepthRule
from sharplab.scaling.rule import Rule
from sharplab.scaling.scaled import Scaling

__all__ = [
    "DEPTH_RULES",
    "KINDS",
    "PARAMETERIZATIONS",
    "ROLES",
    "DepthRule",
    "Exponents",
    "Parameterization",
    "Rule",
    "Scaling",
    "mup",
    "parameterization",
]
