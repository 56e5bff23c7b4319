"""sharplab: why, and when, does a learning rate tuned on a small network transfer to a big one?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# For type checkers and editors, which do not run `__getattr__`; `a as a` makes a name public.
# isort: off
if TYPE_CHECKING:
    from sharplab import (
        data as data,
        losses as losses,
        models as models,
        optimizers as optimizers,
        plotting as plotting,
        scaling as scaling,
        schedules as schedules,
        sweep as sweep,
        theory as theory,
    )
    from sharplab.analysis import (
        Consistency as Consistency,
        PowerLaw as PowerLaw,
        Stability as Stability,
        Transfer as Transfer,
        consistency as consistency,
        power_law as power_law,
        shift_difference as shift_difference,
        stability as stability,
        transfer as transfer,
    )
    from sharplab.checks import (
        CoordinateCheck as CoordinateCheck,
        coordinate_check as coordinate_check,
        inspect_optimizer as inspect_optimizer,
        wider_is_better as wider_is_better,
    )
    from sharplab.curvature import (
        LinearOperator as LinearOperator,
        batch_sharpness as batch_sharpness,
        block as block,
        check_deterministic as check_deterministic,
        directional_sharpness as directional_sharpness,
        fisher as fisher,
        gauss_newton as gauss_newton,
        hessian as hessian,
        leaf_shares as leaf_shares,
        ntk as ntk,
        precondition as precondition,
        subspace_overlap as subspace_overlap,
    )
    from sharplab.records import Records as Records
    from sharplab.scaling import (
        Parameterization as Parameterization,
        Scaling as Scaling,
        mup as mup,
        parameterization as parameterization,
    )
    from sharplab.spectrum import (
        Eigenpairs as Eigenpairs,
        Estimate as Estimate,
        Resampled as Resampled,
        SpectralDensity as SpectralDensity,
        diagonal as diagonal,
        effective_dimension as effective_dimension,
        eigsh as eigsh,
        logdet as logdet,
        resample as resample,
        spectral_density as spectral_density,
        trace as trace,
    )
    from sharplab.studies import Suggestion as Suggestion, suggest_learning_rate as suggest_learning_rate
    from sharplab.sweep import Experiment as Experiment, load as load, run as run
    from sharplab.tracking import Observable as Observable, Tracker as Tracker
# isort: on

__version__ = "0.1.0"

# By package, the names that load on first use, so that `import sharplab` takes no time.
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
    "tracking": ("Observable", "Tracker"),
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


if not TYPE_CHECKING:  # else every misspelt name would be an Any

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        if name in _MODULES:
            return import_module(f"sharplab.{name}")
        raise AttributeError(f"module 'sharplab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
