"""Several experiments out of one: products and zips over any of its settings."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sharplab.core.grid import as_tuple
from sharplab.core.naming import lookup
from sharplab.sweep.experiment import KEYED_BY, SETTINGS, Experiment


def product(experiment: Experiment, **values: Any) -> tuple[Experiment, ...]:
    """The experiments of every combination of values; those of the last setting change fastest.

    Each value takes the setting's place, so that `widths=(8, 16)` makes two experiments of one width each. A text
    names numbers as in `Experiment` ("2^-2:2^2", "8:64") where the setting is made of numbers; of learning_rates and
    seeds it is one value, as (8, 16) is of them.

    Raises:
        ValueError: for an unknown setting, no values, two combinations that are one experiment, or one that is none.

    >>> experiment = Experiment(widths=(8, 16), learning_rates="2^-1:2^1")
    >>> [(e.gamma, e.batch_size) for e in product(experiment, gamma=(0.5, 2), batch_size="32:64")]
    [(0.5, 32), (0.5, 64), (2.0, 32), (2.0, 64)]
    """
    listed = _listed(values)
    rows = itertools.product(*listed.values())
    return _unlike(experiment, (dict(zip(listed, row, strict=True)) for row in rows))


def zipped(experiment: Experiment, **values: Any) -> tuple[Experiment, ...]:
    """The experiments of the first values together, of the second values, and so on.

    For sizes that grow together, or a batch size with its number of steps. Values are read as by `product`.

    Raises:
        ValueError: as `product`, and where the settings have different numbers of values.

    >>> experiment = Experiment(widths=8, learning_rates="2^-1:2^1")
    >>> [(e.widths, e.depths) for e in zipped(experiment, widths="8:32", depths=(2, 3, 4))]
    [((8,), (2,)), ((16,), (3,)), ((32,), (4,))]
    """
    listed = _listed(values)
    if len({len(given) for given in listed.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(given)}" for name, given in listed.items())
        raise ValueError(f"zipped settings need equally many values: {lengths}.")
    if not listed:
        return (experiment,)
    rows = zip(*listed.values(), strict=True)
    return _unlike(experiment, (dict(zip(listed, row, strict=True)) for row in rows))


def _listed(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [each for value in as_tuple(name, given) for each in _read(name, value)] for name, given in values.items()
    }


def _read(name: str, value: Any) -> Iterable[Any]:
    kind = lookup("setting", name, SETTINGS).kind
    return kind.expand(name, value) if isinstance(value, str) else (value,)


def _unlike(experiment: Experiment, rows: Iterable[Mapping[str, Any]]) -> tuple[Experiment, ...]:
    found: dict[Experiment, Mapping[str, Any]] = {}
    for row in rows:
        changed = replace(experiment, **_unkeyed(experiment, row), **row)
        if changed in found:
            listed = ", ".join(f"{name} = {value}" for name, value in row.items())
            raise ValueError(f"two of the experiments are one, with {listed}: give each combination once.")
        found[changed] = row
    return tuple(found)


def _unkeyed(experiment: Experiment, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The learning rates and seeds that are the same for all parameterizations and widths, without these keys."""
    freed = {}
    for name, key in KEYED_BY.items():
        kept = {values for _, values in getattr(experiment, name)}
        if key in changes and name not in changes and len(kept) == 1:
            freed[name] = kept.pop()
    return freed
