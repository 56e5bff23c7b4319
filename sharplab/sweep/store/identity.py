"""The identity of a run: its settings, and nothing of how it was trained or recorded."""

import hashlib
import json
from functools import lru_cache

from sharplab.core.settings import TrainingSettings, declarations
from sharplab.data import load_dataset
from sharplab.training.task import Run, Task

_DECLARED = declarations(TrainingSettings)
# Settings that came later than the first stores, at the value that earlier runs had: left out of the identity
# there, so that those runs stay what they were.
LATER_SETTINGS = {name: declared.since for name, declared in _DECLARED.items() if declared.since is not None}
# How a run is observed is no part of what it is.
OBSERVATION = (*(name for name, declared in _DECLARED.items() if declared.observation), "record_steps")


def settings(task: Task, run: Run) -> dict[str, object]:
    """The settings that define one run's training and its probe, as plain values."""
    shared = {key: value for key, value in vars(task).items() if key not in OBSERVATION}
    return shared | vars(run)


@lru_cache(maxsize=2**16)
def run_id(task: Task, run: Run) -> str:
    """The identity of a run, 16 hex digits that two runs share exactly if their settings and data are the same.

    Never in it: paths, versions, hosts, what was recorded, the runs that it trained beside.
    """
    science = settings(task, run) | {
        "learning_rate": float(run.learning_rate).hex(),
        "data_checksum": load_dataset(task.data).checksum,
    }
    science = {key: value for key, value in science.items() if LATER_SETTINGS.get(key, ...) != value}
    return hashlib.sha256(json.dumps(science, sort_keys=True).encode()).hexdigest()[:16]
