"""Observables recorded along training: losses, and spectra whose eigenpairs are tracked from record to record."""

from sharplab.tracking.tracker import Tracker

__all__ = ["Tracker"]
