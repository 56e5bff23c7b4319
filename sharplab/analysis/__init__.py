"""What the records say; it reads tables and never trains."""

from sharplab.analysis.agreement import Agreement, agreement
from sharplab.analysis.optima import Transfer, shift_difference, transfer

__all__ = ["Agreement", "Transfer", "agreement", "shift_difference", "transfer"]
