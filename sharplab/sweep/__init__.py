"""Sweeps: what to train, what of it is missing, where it is kept."""

from sharplab.sweep.experiment import Experiment
from sharplab.sweep.grid import parse_learning_rates
from sharplab.sweep.runner import run
from sharplab.sweep.store import StoreWarning, load

__all__ = ["Experiment", "StoreWarning", "load", "parse_learning_rates", "run"]
