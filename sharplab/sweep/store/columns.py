"""What the columns of runs and curves mean, and their units."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sharplab.tracking.observables import OBSERVABLES, SPECTRA


class Column(NamedTuple):
    """A column's unit, "" where it has none, and its meaning."""

    unit: str
    meaning: str


SETTINGS: Mapping[str, Column] = {
    "model": Column("", "the network: a name, or module:build@tag"),
    "width": Column("units", "N, the size of hidden layers"),
    "depth": Column("blocks", "L, the number of residual blocks"),
    "parameterization": Column("", "how initialisation and learning rates go with the width"),
    "base_width": Column("units", "the width at which learning rates are quoted"),
    "alpha": Column("", "residual branches go as (depth/base_depth)^−alpha"),
    "gamma": Column("", "the richness γ₀"),
    "optimizer": Column("", "the update rule"),
    "loss": Column("", "the function whose mean is minimised"),
    "data": Column("", "the data set"),
    "steps": Column("updates", "length of the run"),
    "batch_size": Column("examples", "per update"),
    "probe_size": Column(
        "examples", "the first so many training examples: train_loss and curvature are measured there"
    ),
    "base_depth": Column("blocks", "the depth at which learning rates are quoted"),
    "trainable": Column("", "what is trained: all, or readout alone"),
    "augment": Column("", "what is done to each training batch"),
    "schedule": Column("", "of the learning rate along the run"),
    "learning_rate": Column("", "η, the base learning rate"),
    "seed": Column("", "of the initial weights and the order of batches"),
}
CIRCUMSTANCES: Mapping[str, Column] = {
    "run_id": Column("", "identity of the run, a digest of its settings; shared by both tables"),
    "observables": Column("", "what was recorded"),
    "record_steps": Column("updates", "before which steps"),
    "diverged": Column("", "whether the loss ceased to be finite, or grew a hundredfold, or the gradient became 0"),
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
_PER_SPECTRUM = re.compile(rf"({_OPERATOR}|sharpness|sharpness_raw)_(?P<suffix>matvecs|missed)")
_SUFFIXES = {
    "error": "estimated error of {}",
    "residual": "some eigenvalue lies this near to {}, always",
    "identity": "number that stays with the eigenvector of {} when eigenvalues cross",
    "matvecs": "curvature-vector products that {} took",
    "missed": "1: a cold solve found a larger eigenvalue of {} than the one tracked until then",
}


def describe(name: str) -> Column | None:
    """Unit and meaning of a column of runs or curves; None for one that is not sharplab's.

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
