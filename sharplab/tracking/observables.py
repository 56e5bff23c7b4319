"""The names of what a tracker can record, and what they stand for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sharplab.core.naming import lookup

OBSERVABLES: Mapping[str, str] = MappingProxyType(
    {
        "train_loss": "mean loss on the probe batch of training examples",
        "eval_loss": "mean loss on the held-out examples",
        "eval_accuracy": "share of the held-out examples whose largest output is the target",
        "gradient_norm": "‖D^½ g‖, g the gradient on the probe batch, D the metric of the optimizer (1 without one)",
        "directional_sharpness": "gᵀD H D g / gᵀD g: the curvature along the optimizer's step",
        "batch_sharpness": "the mean over batches of the probe of gᵀD H D g / gᵀD g, g and H of the batch",
        "hessian_trace": "tr(D^½ H D^½)",
        "sharpness_raw": "λmax(H) of the loss on the probe batch",
        "sharpness": "λmax(D^½ H D^½), D the metric of the optimizer: the effective sharpness",
    }
)
SPECTRA: Mapping[str, str] = MappingProxyType(
    {
        "hessian": "D^½ H D^½",
        "gauss_newton": "D^½ G D^½, G the Gauss-Newton matrix",
        "ntk": "J D Jᵀ/n, the empirical NTK of the n probe examples",
    }
)
_SEVERAL = re.compile(rf"({'|'.join(SPECTRA)})_top([1-9]\d*)")


@dataclass(frozen=True)
class Spectral:
    """An observable that is the upper end of a spectrum: the k largest eigenvalues of an operator.

    Attributes:
        column: what its columns begin with.
        operator: a key of `SPECTRA`.
        k: how many eigenvalues.
        raw: whether the metric is left out.
    """

    column: str
    operator: str
    k: int = 1
    raw: bool = False

    def columns(self) -> list[str]:
        """The column of each eigenvalue."""
        if self.column.startswith("sharpness"):
            return [self.column]
        return [f"{self.column}_{i + 1}" for i in range(self.k)]


def find_spectral(name: str) -> Spectral | None:
    """What a name stands for; None where it is not a spectrum.

    Raises:
        ValueError: for a name that is no observable.

    >>> find_spectral("hessian_top10")
    Spectral(column='hessian', operator='hessian', k=10, raw=False)
    """
    if several := _SEVERAL.fullmatch(name):
        return Spectral(several[1], several[1], int(several[2]))
    lookup("observable", name, dict.fromkeys([*OBSERVABLES, *(f"{family}_top10" for family in SPECTRA)]))
    if name.startswith("sharpness"):
        return Spectral(name, "hessian", raw=name == "sharpness_raw")
    return None
