"""What to train: the settings of a sweep, frozen and checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharplab.core.grid import parse_positive, parse_seeds, parse_sizes
from sharplab.core.settings import (
    FLAG,
    WHOLE,
    Kind,
    Setting,
    TrainingSettings,
    declarations,
    documented,
    name_in,
    names_in,
    setting,
)

SPACINGS = {"linear": "evenly in steps", "log": "evenly in the logarithm of steps"}
# Settings whose values may differ between those of another one.
KEYED_BY = {"learning_rates": "parameterizations", "seeds": "widths"}


def _rates(name: str, values: Any) -> tuple[float, ...]:
    return tuple(sorted(parse_positive(name, values)))


SIZES = Kind(parse_sizes, tuple[str, ...], "N ...", parse_sizes)
RATES = Kind(_rates, tuple[str, ...], "RATE ...")
SEEDS = Kind(parse_seeds, tuple[str, ...], "N ...")


@documented
@dataclass(frozen=True, kw_only=True)
class Experiment(TrainingSettings):
    """A sweep over parameterizations × widths × depths × learning rates × seeds.

    Sizes, learning rates and seeds are one or several, numbers or texts: "64", "2^6", "8:64" (octaves), "8:512:log4"
    (four, evenly in the logarithm). Of a mapping, learning rates differ by parameterization and seeds by width.

    Attributes:
        {settings}

    Raises:
        ValueError: naming the argument that is out of range or unknown, and the remedy.
    """

    widths: Any = setting(
        SIZES,
        "N, the size of hidden layers",
        column="width",
        unit="units",
        help="the widths to compare, or one: numbers and ranges, 8 16 32 or 8:32 (octaves)",
    )
    depths: Any = setting(
        SIZES,
        "L, the number of residual blocks",
        default=(3,),
        column="depth",
        unit="blocks",
        help="the numbers of residual blocks to compare, or one, likewise; 1 for a model that takes no depth",
    )
    parameterizations: tuple[str, ...] = setting(
        names_in("parameterization", "sharplab.scaling:PARAMETERIZATIONS"),
        "how initialisation and learning rates go with the width",
        default=("mup", "ntk"),
        column="parameterization",
    )
    learning_rates: Any = setting(
        RATES,
        "η, the base learning rate",
        column="learning_rate",
        help="base learning rates, kept to 12 digits, numbers and ranges: 0.1, 2^-3, 2^-6:2^2 (octaves), 1e-3:1:log7 "
        "(seven, evenly in the logarithm); or a grid for each parameterization: mup=2^-3:2^1 ntk=0.1,0.3,1",
    )
    refine: bool = setting(
        FLAG,
        "whether the grid was refined",
        default=False,
        column=None,
        option_default=True,
        help="extend the grid until the optimum of most seeds lies inside, then take steps of sqrt(2) around it",
    )
    seeds: Any = setting(
        SEEDS,
        "of the initial weights and the order of batches",
        default=3,
        column="seed",
        help="how many seeds, as 3; or which, as 5:9 (both ends included) or 0 7",
    )
    records: int = setting(
        WHOLE,
        "how many records a run has",
        default=17,
        column=None,
        option_default=2,
        help="how many records along a run, first and last step included; those that fall on one step are made once",
    )
    spacing: str = setting(
        name_in("spacing", "sharplab.sweep.experiment:SPACINGS"),
        "of the records",
        default="linear",
        column=None,
        help="of the records: evenly in steps, or in the logarithm of steps",
    )

    def __post_init__(self) -> None:
        unlisted = [name for name, each in SETTINGS.items() if each.kind.table and not each.kind.names()]
        self._read(name for name in SETTINGS if name not in (*KEYED_BY, *unlisted))
        for name, key in KEYED_BY.items():
            pairs = _by_key(name, getattr(self, name), getattr(self, key))
            read = SETTINGS[name].kind.read
            object.__setattr__(self, name, tuple((key, read(name, given)) for key, given in pairs))
        self._read(unlisted)  # last, for they import what they name
        self._check_together()

    def _read(self, names: Iterable[str]) -> None:
        for name in names:
            # Plain Python values: hashable, and one identity however a setting was typed (1, 1.0, np.int64(1)).
            object.__setattr__(self, name, SETTINGS[name].kind.read(name, getattr(self, name)))

    def _check_together(self) -> None:
        from sharplab.models import find_model
        from sharplab.models.building import takes
        from sharplab.optimizers import find_optimizer
        from sharplab.tracking.observables import find_observables

        if not takes(find_model(self.model), "depth"):
            if len(self.depths) > 1:
                raise ValueError(f"depths: model {self.model!r} takes no depth, give one: it is recorded as 1.")
            object.__setattr__(self, "depths", (1,))
        for entry in find_observables(self.observables):
            optimizer = find_optimizer(self.optimizer)
            if "metric" in entry.needs and optimizer.preconditioner is None and not optimizer.norms:
                raise ValueError(
                    f"observables: {entry.name!r} has no meaning under {self.optimizer}, whose steps have neither a "
                    "metric nor a norm: record 'sharpness_raw'."
                )
        if not 2 <= self.records <= self.steps + 1:
            raise ValueError(f"records must lie between 2 and steps + 1 = {self.steps + 1}, not {self.records}.")
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


SETTINGS: Mapping[str, Setting] = declarations(Experiment)


def _by_key(name: str, value: Any, keys: tuple) -> list[tuple[Any, Any]]:
    """Pairs of a key and its values, from a mapping, from such pairs as kept, or from values shared by all keys."""
    pairs = isinstance(value, tuple) and value and all(isinstance(entry, tuple) for entry in value)
    if not (pairs or isinstance(value, Mapping)):
        return [(key, value) for key in keys]
    table = dict(value)
    if pairs and len(table) > len(set(table.values())) == 1:  # kept from what several share: all do
        return [(key, next(iter(table.values()))) for key in keys]
    for key in keys:
        if key not in table:
            raise ValueError(f"{name} has no entry for {key!r}: it has {', '.join(map(str, table))}.")
    # What is kept from an experiment with more of them is no slip.
    if isinstance(value, Mapping) and (unknown := [key for key in table if key not in keys]):
        raise ValueError(f"{name} has an entry for {unknown[0]!r}, which is none of {', '.join(map(str, keys))}.")
    return [(key, table[key]) for key in keys]
