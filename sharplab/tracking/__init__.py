"""Observables recorded along training: losses, and spectra whose eigenpairs are tracked from record to record."""

from sharplab.tracking.context import Context
from sharplab.tracking.observables import Observable
from sharplab.tracking.tracker import Tracker

__all__ = ["Context", "Observable", "Tracker"]
