"""Sweeps: what to train, what of it is missing, where it is trained and kept."""

from sharplab.sweep.executors import Processes
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.grid import parse_learning_rates
from sharplab.sweep.plan import Shard
from sharplab.sweep.runner import SweepError, run
from sharplab.sweep.several import product, zipped
from sharplab.sweep.store import StoreError, StoreWarning, load

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
