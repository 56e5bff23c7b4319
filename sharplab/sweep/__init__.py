"""Sweeps: what to train, what of it is missing, where it is trained and kept."""

from typing import TYPE_CHECKING

from sharplab.core.lazy import attach

# isort: off
if TYPE_CHECKING:
    from sharplab.core.files import StoreError as StoreError, StoreWarning as StoreWarning
    from sharplab.core.grid import parse_learning_rates as parse_learning_rates
    from sharplab.sweep.dispatch import SweepError as SweepError
    from sharplab.sweep.executors.processes import Processes as Processes
    from sharplab.sweep.experiment import Experiment as Experiment
    from sharplab.sweep.plan import Shard as Shard
    from sharplab.sweep.runner import run as run
    from sharplab.sweep.several import product as product, zipped as zipped
    from sharplab.sweep.store.directory import load as load
# isort: on

_NAMES = {
    "sharplab.core.files": ("StoreError", "StoreWarning"),
    "sharplab.core.grid": ("parse_learning_rates",),
    "sharplab.sweep.dispatch": ("SweepError",),
    "sharplab.sweep.executors.processes": ("Processes",),
    "sharplab.sweep.experiment": ("Experiment",),
    "sharplab.sweep.plan": ("Shard",),
    "sharplab.sweep.runner": ("run",),
    "sharplab.sweep.several": ("product", "zipped"),
    "sharplab.sweep.store.directory": ("load",),
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = attach(__name__, _NAMES)
