"""What every data set is, once loaded."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Arrays of one supervised task, read-only, the example axis first."""

    name: str
    train_inputs: np.ndarray  # (examples, ...) float32; images (examples, height, width, channels)
    train_targets: np.ndarray  # (examples,) int32 in [0, classes)
    eval_inputs: np.ndarray
    eval_targets: np.ndarray
    classes: int
    checksum: str  # of the definition: source bytes or seed, preparation, split

    def __post_init__(self) -> None:
        # Loaders cache and share one copy: a write through one caller would reach all the others.
        for array in (self.train_inputs, self.train_targets, self.eval_inputs, self.eval_targets):
            array.flags.writeable = False


def definition_checksum(definition: str) -> str:
    """SHA-256, in hex, of the text that says how a data set comes about.

    >>> definition_checksum("ones")[:8]
    'd413f652'
    """
    return hashlib.sha256(definition.encode()).hexdigest()
