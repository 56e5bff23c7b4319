"""Analyses of recorded sweeps: optima, consistency, laws and stability, from tables alone."""

from sharplab.analysis.collapsing import Collapse, collapse
from sharplab.analysis.consistent import Consistency, consistency
from sharplab.analysis.optima import Transfer, shift_difference, transfer
from sharplab.analysis.power_laws import PowerLaw, power_law
from sharplab.analysis.rate_laws import LearningRateLaw, learning_rate_law
from sharplab.analysis.stable_time import Stability, stability
from sharplab.analysis.tables import read_sweep
from sharplab.analysis.useful import Usefulness, usefulness

__all__ = [
    "Collapse",
    "Consistency",
    "LearningRateLaw",
    "PowerLaw",
    "Stability",
    "Transfer",
    "Usefulness",
    "collapse",
    "consistency",
    "learning_rate_law",
    "power_law",
    "read_sweep",
    "shift_difference",
    "stability",
    "transfer",
    "usefulness",
]
