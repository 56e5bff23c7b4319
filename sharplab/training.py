"""Training of many (learning rate, seed) lanes of one compiled shape."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Task:
    """What all lanes of a group share: one compiled shape, one set of records."""

    model: str
    width: int
    depth: int
    parameterization: str
    base_width: int
    alpha: float
    gamma: float
    optimizer: str
    loss: str
    data: str
    steps: int
    batch_size: int
    probe_size: int
    observables: tuple[str, ...]
    record_steps: tuple[int, ...]


@dataclass(frozen=True)
class Lane:
    """One run within a group."""

    learning_rate: float
    seed: int


@dataclass(frozen=True)
class LaneResult:
    """What one lane left behind."""

    lane: Lane
    curves: dict[str, np.ndarray]  # per observable, shape (records,); "step" among them
    diverged: bool
    diverged_step: int  # -1 where it did not
    seconds: float  # wall time, its share of the company it trained in
    setting: dict[str, str] = field(default_factory=dict)  # lane mode, driver, device
