"""sharplab: why, and when, does a learning rate tuned on a small network transfer to a big one?"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Names load on first use, so that `import sharplab` takes no time.
_HOMES = {
    "LinearOperator": "sharplab.curvature",
    "hessian": "sharplab.curvature",
    "precondition": "sharplab.curvature",
    "Eigenpairs": "sharplab.spectrum",
    "eigsh": "sharplab.spectrum",
    "Parameterization": "sharplab.scaling",
    "parameterization": "sharplab.scaling",
    "Tracker": "sharplab.tracking",
    "Experiment": "sharplab.sweep",
    "run": "sharplab.sweep",
    "load": "sharplab.sweep",
    "Records": "sharplab.records",
    "Agreement": "sharplab.analysis",
    "Transfer": "sharplab.analysis",
    "agreement": "sharplab.analysis",
    "shift_difference": "sharplab.analysis",
    "transfer": "sharplab.analysis",
}
_MODULES = ("data", "losses", "models", "optimizers", "plotting", "scaling")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"sharplab.{name}")
    raise AttributeError(f"module 'sharplab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
