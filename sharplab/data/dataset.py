"""A data set once loaded: arrays of one supervised task."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """Arrays of one supervised task, read-only, the example axis first.

    | task | inputs | targets | `classes` |
    |---|---|---|---|
    | classification | float32, vectors (n, D) or images (n, height, width, channels) | int32 (n,) | classes |
    | next token | int32 (n, T), in [0, classes) | int32 (n, T), what follows each token | vocabulary |
    | regression | float32 (n, D) | float32 (n, outputs) | outputs |

    Data of anyone's may be pytrees of arrays, and of unknown `classes`, 0. `probe` are the training examples of the
    probe batch, the first of them first; by default the first of all.
    """

    name: str
    train_inputs: Any
    train_targets: Any
    eval_inputs: Any
    eval_targets: Any
    classes: int
    checksum: str  # of the definition: source bytes or seed, preparation, split
    probe: np.ndarray | None = None

    def __post_init__(self) -> None:
        # Loaders cache and share one copy: a write through one caller would reach all the others.
        for array in _leaves((self.train_inputs, self.train_targets, self.eval_inputs, self.eval_targets)):
            array.flags.writeable = False

    @property
    def examples(self) -> int:
        """The number of training examples."""
        return len(_leaves(self.train_inputs)[0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example; () where inputs are several arrays."""
        return self.train_inputs.shape[1:] if isinstance(self.train_inputs, np.ndarray) else ()


def _leaves(arrays: Any) -> list[np.ndarray]:
    import jax  # which settings, that name data sets, do without

    return jax.tree.leaves(arrays)


def make_dataset(name: str, train: Pair, held_out: Pair, classes: int, definition: str) -> Dataset:
    """The data set of pairs (inputs, targets), its checksum that of the text that says how it comes about."""
    return Dataset(name, *train, *held_out, classes, hashlib.sha256(definition.encode()).hexdigest())


def split(inputs: np.ndarray, targets: np.ndarray, count: int) -> tuple[Pair, Pair]:
    """The first `count` examples to train on, and those held out."""
    return (inputs[:count], targets[:count]), (inputs[count:], targets[count:])
