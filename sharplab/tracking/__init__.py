"""Observables recorded along training: losses, and spectra whose eigenpairs are tracked from record to record."""

from typing import TYPE_CHECKING

from sharplab.core.lazy import attach

if TYPE_CHECKING:
    from sharplab.tracking.checkpoints import (
        CheckpointSpectrum as CheckpointSpectrum,
    )
    from sharplab.tracking.checkpoints import (
        checkpoint_spectra as checkpoint_spectra,
    )
    from sharplab.tracking.context import Context as Context
    from sharplab.tracking.observables import Observable as Observable
    from sharplab.tracking.tracker import Tracker as Tracker

_NAMES = {
    "sharplab.tracking.checkpoints": ("CheckpointSpectrum", "checkpoint_spectra"),
    "sharplab.tracking.context": ("Context",),
    "sharplab.tracking.observables": ("Observable",),
    "sharplab.tracking.tracker": ("Tracker",),
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = attach(__name__, _NAMES)
