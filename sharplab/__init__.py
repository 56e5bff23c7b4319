"""sharplab: why, and when, does a learning rate tuned on a small network transfer to a big one?"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Names load on first use, so that `import sharplab` takes no time.
_NAMES = {
    "curvature": (
        "LinearOperator",
        "batch_sharpness",
        "block",
        "check_deterministic",
        "directional_sharpness",
        "fisher",
        "gauss_newton",
        "hessian",
        "leaf_shares",
        "ntk",
        "precondition",
        "subspace_overlap",
    ),
    "spectrum": (
        "Eigenpairs",
        "Estimate",
        "Resampled",
        "SpectralDensity",
        "diagonal",
        "effective_dimension",
        "eigsh",
        "logdet",
        "resample",
        "spectral_density",
        "trace",
    ),
    "scaling": ("Parameterization", "Scaling", "mup", "parameterization"),
    "checks": ("CoordinateCheck", "coordinate_check", "inspect_optimizer", "wider_is_better"),
    "tracking": ("Tracker",),
    "sweep": ("Experiment", "load", "run"),
    "records": ("Records",),
    "analysis": (
        "Consistency",
        "PowerLaw",
        "Stability",
        "Transfer",
        "consistency",
        "power_law",
        "shift_difference",
        "stability",
        "transfer",
    ),
    "studies": ("Suggestion", "suggest_learning_rate"),
}
_HOMES = {name: f"sharplab.{home}" for home, names in _NAMES.items() for name in names}
_MODULES = ("data", "losses", "models", "optimizers", "plotting", "scaling", "schedules", "sweep", "theory")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"sharplab.{name}")
    raise AttributeError(f"module 'sharplab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
