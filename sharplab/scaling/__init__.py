"""How initialisation, multipliers and learning rates go with width: abc-parameterizations as data."""

from sharplab.scaling.abc import PARAMETERIZATIONS, ROLES, Exponents, Parameterization, parameterization
from sharplab.scaling.rule import WidthRule

__all__ = ["PARAMETERIZATIONS", "ROLES", "Exponents", "Parameterization", "WidthRule", "parameterization"]
