"""What to train: the settings of a sweep, frozen and checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from sharplab.core.imports import find_function
from sharplab.core.naming import lookup
from sharplab.data import AUGMENTATIONS, DATASETS
from sharplab.losses import LOSSES
from sharplab.models import find_model
from sharplab.optimizers import find_optimizer
from sharplab.scaling import PARAMETERIZATIONS
from sharplab.schedules import SCHEDULES
from sharplab.sweep.grid import as_tuple, distinct, parse_positive, parse_seeds, parse_sizes, whole
from sharplab.sweep.store.columns import describe
from sharplab.tracking.observables import OBSERVABLES, Observable, find_observables
from sharplab.training.recipe import TRAINABLE

SPACINGS = {"linear": "evenly in steps", "log": "evenly in the logarithm of steps"}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A sweep over parameterizations × widths × depths × learning rates × seeds.

    Attributes:
        model: a name out of `sharplab.models.MODELS`, or "module:build@tag" of your own.
        widths, depths: the sizes to compare, one or several, whole numbers or texts: "64", "2^6", "8:64" (octaves),
            "8:512:log4" (four, evenly in the logarithm, rounded). Kept as a tuple of integers.
        base_width, base_depth: the size at which learning rates are quoted: at the base width, every parameterization
            is the same function of the weights up to the abc symmetry.
        parameterizations: out of "standard", "ntk", "mup", "mean_field".
        alpha: branches are multiplied by (depth/base_depth)^−alpha, and learning rates inside them go with depth to
            match; 0 for neither (see `sharplab.scaling.DepthRule`).
        gamma: the richness γ₀.
        learning_rates: base learning rates, numbers or texts: "0.1", "2^-3", "2^-6:2^2" (octaves), "1e-3:1:log7";
            or a mapping from parameterization to them. Kept to 12 significant digits.
        seeds: how many from 0 on (3 or "3"), or which, as (0, 7) or "5:9", which names five of them: seeds are
            counted in ones; or a mapping from width to either.
        steps, batch_size: updates per run, examples per update.
        observables: what is recorded, out of `sharplab.tracking.observables.OBSERVABLES`, or "hessian_top10" and the
            like (see `sharplab.Tracker`).
        probe_size: the first so many training examples are the probe batch of train loss and curvature.
        records: how many records along a run, the first and the last step included; logarithmically spaced
            ones that fall on one step are made once.
        spacing: "linear" or "log" in steps.
        trainable: "all", or "readout" to leave all else as it was drawn (random features).
        augment: what is done to each training batch, out of `sharplab.data.AUGMENTATIONS`.
        schedule: of the learning rate along a run, out of `sharplab.schedules.SCHEDULES`.
        refine: extend the grid of learning rates where the optimum lies at an edge, then halve its steps (to √2
            from 2) around the optimum; see `sharplab.sweep.plan`.

    Raises:
        ValueError: naming the argument that is out of range or unknown, and the remedy.
    """

    widths: Any
    learning_rates: Any
    model: str = "residual_mlp"
    depths: Any = (3,)
    base_width: int = 1
    base_depth: int = 1
    parameterizations: tuple[str, ...] = ("mup", "ntk")
    alpha: float = 0.5
    gamma: float = 1.0
    seeds: Any = 3
    optimizer: str = "sgd"
    loss: str = "cross_entropy"
    data: str = "fashion-mnist-10k"
    steps: int = 256
    batch_size: int = 128
    observables: tuple[str, ...] = ("train_loss", "eval_loss", "eval_accuracy")
    probe_size: int = 1024
    records: int = 17
    spacing: str = "linear"
    refine: bool = False
    trainable: str = "all"
    augment: str = "none"
    schedule: str = "constant"

    def __post_init__(self) -> None:
        for name in ("parameterizations", "observables"):
            self._keep(name, distinct(name, as_tuple(name, getattr(self, name))))
        for name in ("widths", "depths"):
            self._keep(name, parse_sizes(name, getattr(self, name)))
        for name in ("base_width", "base_depth", "steps", "batch_size", "probe_size", "records"):
            self._keep(name, whole(name, getattr(self, name)))
        for name in ("alpha", "gamma"):
            self._keep(name, _finite(name, getattr(self, name)))
        self._check_names()
        self._check_ranges()
        rates = _by_key("learning_rates", self.learning_rates, self.parameterizations)
        seeds = _by_key("seeds", self.seeds, self.widths)
        self._keep("learning_rates", tuple((key, _ascending(given)) for key, given in rates))
        self._keep("seeds", tuple((width, parse_seeds("seeds", given)) for width, given in seeds))

    def _keep(self, name: str, value: Any) -> None:
        # Plain Python values: hashable, and one identity however a setting was typed (1, 1.0, np.int64(1)).
        object.__setattr__(self, name, value)

    def _check_names(self) -> None:
        find_model(self.model)
        optimizer = find_optimizer(self.optimizer)
        lookup("trainable", self.trainable, TRAINABLE)
        find_function("augmentation", self.augment, AUGMENTATIONS)
        find_function("schedule", self.schedule, SCHEDULES)
        find_function("loss", self.loss, LOSSES)
        find_function("data set", self.data, DATASETS)
        lookup("spacing", self.spacing, SPACINGS)
        for name in self.parameterizations:
            lookup("parameterization", name, PARAMETERIZATIONS)
        if not all(isinstance(name, str) for name in self.observables):
            raise ValueError("observables must be names: your own as 'module:attribute@tag'.")
        for entry in find_observables(self.observables):
            if isinstance(entry, Observable) and entry.name not in OBSERVABLES and describe(entry.name):
                raise ValueError(f"observables: {entry.name!r} is the name of another column: give yours another name.")
            if "metric" in entry.needs and optimizer.preconditioner is None:
                raise ValueError(
                    f"observables: {entry.name!r} has no meaning under {self.optimizer}, whose steps no diagonal "
                    "metric makes of gradients: record 'sharpness_raw'."
                )

    def _check_ranges(self) -> None:
        if not 2 <= self.records <= self.steps + 1:
            raise ValueError(f"records must lie between 2 and steps + 1 = {self.steps + 1}, not {self.records}.")
        if not isinstance(self.refine, bool):
            raise ValueError(f"refine must be True or False, not {self.refine!r}.")
        if self.gamma <= 0:
            raise ValueError(f"gamma must be a positive number, not {self.gamma}.")
        if "train_loss" not in self.observables and self.refine:
            raise ValueError("refine=True looks for the lowest train_loss: add it to observables.")

    def rates_of(self, parameterization: str) -> tuple[float, ...]:
        """The learning rates of one parameterization, ascending."""
        return dict(self.learning_rates)[parameterization]

    def seeds_of(self, width: int) -> tuple[int, ...]:
        """The seeds of one width."""
        return dict(self.seeds)[width]

    def record_steps(self) -> tuple[int, ...]:
        """The steps before which a record is made, 0 and `steps` among them.

        >>> Experiment(widths=(8,), learning_rates=(1.0,), steps=256, records=5).record_steps()
        (0, 64, 128, 192, 256)
        >>> Experiment(widths=(8,), learning_rates=(1.0,), steps=64, records=5, spacing="log").record_steps()
        (0, 1, 4, 16, 64)
        """
        if self.spacing == "linear":
            steps = np.linspace(0, self.steps, self.records)
        else:
            steps = np.concatenate([[0.0], np.geomspace(self.steps, 1, self.records - 1)])
        return tuple(int(step) for step in np.unique(np.round(steps)))


def _finite(name: str, value: Any) -> float:
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}.")
    return float(value)


def _ascending(rates: Any) -> tuple[float, ...]:
    return tuple(sorted(parse_positive("learning_rates", rates)))


def _by_key(name: str, value: Any, keys: tuple) -> list[tuple[Any, Any]]:
    """Pairs of a key and its values, from a mapping, from such pairs as kept, or from values shared by all keys."""
    pairs = isinstance(value, tuple) and value and all(isinstance(entry, tuple) for entry in value)
    if not (pairs or isinstance(value, Mapping)):
        return [(key, value) for key in keys]
    table = dict(value)
    for key in keys:
        if key not in table:
            raise ValueError(f"{name} has no entry for {key!r}: it has {', '.join(map(str, table))}.")
    return [(key, table[key]) for key in keys]
