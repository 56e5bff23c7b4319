"""Three checks of whether a module and its optimizer are scaled as muP asks, and what is likely wrong if not."""

from sharplab.checks.coordinates import CoordinateCheck, coordinate_check
from sharplab.checks.inspection import OptimizerInspection, inspect_optimizer
from sharplab.checks.recording import record_outputs
from sharplab.checks.wider import WiderIsBetter, wider_is_better

__all__ = [
    "CoordinateCheck",
    "OptimizerInspection",
    "WiderIsBetter",
    "coordinate_check",
    "inspect_optimizer",
    "record_outputs",
    "wider_is_better",
]
