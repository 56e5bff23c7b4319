"""The units and meanings of the columns of runs and curves."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sharplab.sweep import experiment
from sharplab.tracking.observables import OBSERVABLES, SPECTRA, Observable, find_observables


class Column(NamedTuple):
    """A column's unit, "" where it has none, and its meaning."""

    unit: str
    meaning: str


# What defines a run.
SETTINGS: Mapping[str, Column] = {
    declared.column or name: Column(declared.unit, declared.meaning)
    for name, declared in experiment.SETTINGS.items()
    if declared.column is not None and not declared.observation
}
CIRCUMSTANCES: Mapping[str, Column] = {
    "run_id": Column("", "identity of the run, a digest of its settings; shared by both tables"),
    "observables": Column("", experiment.SETTINGS["observables"].meaning),
    "record_steps": Column("updates", "before which steps"),
    "diverged": Column(
        "", "whether the loss ceased to be finite, or grew a hundredfold, or the gradient became 0 at no small loss"
    ),
    "diverged_step": Column("updates", "at which step it did; −1: it did not"),
    "matvecs": Column("products", "curvature-vector products along the run"),
    "seconds": Column("s", "wall time: the run's share of those that it trained beside"),
    "batching": Column(
        "", "sequential: one run after another; vectorised: several in one program, alike up to rounding"
    ),
    "runs_per_device": Column("runs", "trained at once on a device"),
    "loop": Column("", "how steps were run: a compiled loop, or one program per step"),
    "device": Column("", "what it was trained on"),
    "versions": Column("", "of Python and the libraries, JSON"),
    "written": Column("", "when the run was stored, ISO 8601, UTC"),
    "step": Column("updates", "made before this record"),
}
_OPERATOR = rf"(?P<operator>{'|'.join(SPECTRA)})"
_EIGENVALUE = re.compile(rf"{_OPERATOR}_(?P<rank>\d+)")
_PER_VALUE = re.compile(r"(?P<value>.+)_(?P<suffix>error|residual|identity)")
_PER_SPECTRUM = re.compile(rf"({_OPERATOR}|sharpness|sharpness_raw)_(?P<suffix>matvecs|missed|count|full)")
_SUFFIXES = {
    "error": "estimated error of {}",
    "residual": "some eigenvalue lies this near to {}, always",
    "identity": "number that stays with the eigenvector of {} when eigenvalues cross",
    "matvecs": "curvature-vector products that {} took",
    "count": "how many eigenvalues there are of {}",
    "full": "1: as many of {} as were asked for, so that there may be more",
    "missed": "1: a cold solve found a larger eigenvalue of {} than the one tracked until then",
}


def refuse_taken_columns(observables: Iterable[str]) -> None:
    """Check that observables of one's own do not take the name of another column.

    Raises:
        ValueError: naming one that does.
    """
    for entry in find_observables(observables):
        if isinstance(entry, Observable) and entry.name not in OBSERVABLES and describe(entry.name):
            raise ValueError(f"observables: {entry.name!r} is the name of another column: give yours another name.")


def describe(name: str) -> Column | None:
    """The unit and meaning of a column of runs or curves; None for one that is not sharplab's.

    >>> describe("sharpness").unit, describe("hessian_2_error").meaning
    ('1/learning rate', 'estimated error of hessian_2')
    """
    if name in SETTINGS or name in CIRCUMSTANCES:
        return SETTINGS.get(name) or CIRCUMSTANCES[name]
    if name in OBSERVABLES:
        return Column(OBSERVABLES[name].unit, OBSERVABLES[name].meaning)
    if found := _EIGENVALUE.fullmatch(name):
        spectrum = SPECTRA[found["operator"]]
        return Column(spectrum.unit, f"eigenvalue {found['rank']} from the top of {spectrum.meaning}")
    if found := _PER_SPECTRUM.fullmatch(name):
        unit = "products" if found["suffix"] == "matvecs" else ""
        return Column(unit, _SUFFIXES[found["suffix"]].format(found[1]))
    if (found := _PER_VALUE.fullmatch(name)) and (value := describe(found["value"])):
        unit = "" if found["suffix"] == "identity" else value.unit
        return Column(unit, _SUFFIXES[found["suffix"]].format(found["value"]))
    return None
