"""Sweeps: what to train, what of it is missing, where it is trained and kept."""

from sharplab.core.files import StoreError, StoreWarning
from sharplab.core.grid import parse_learning_rates
from sharplab.sweep.dispatch import SweepError
from sharplab.sweep.executors.processes import Processes
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import Shard
from sharplab.sweep.runner import run
from sharplab.sweep.several import product, zipped
from sharplab.sweep.store.directory import load

__all__ = [
    "Experiment",
    "Processes",
    "Shard",
    "StoreError",
    "StoreWarning",
    "SweepError",
    "load",
    "parse_learning_rates",
    "product",
    "run",
    "zipped",
]
