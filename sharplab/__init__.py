"""sharplab: why, and when, does a learning rate tuned on a small network transfer to a big one?"""

from typing import TYPE_CHECKING

from sharplab.core.lazy import attach

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
        Collapse as Collapse,
        Consistency as Consistency,
        LearningRateLaw as LearningRateLaw,
        PowerLaw as PowerLaw,
        Stability as Stability,
        Transfer as Transfer,
        Usefulness as Usefulness,
        collapse as collapse,
        consistency as consistency,
        learning_rate_law as learning_rate_law,
        power_law as power_law,
        read_sweep as read_sweep,
        shift_difference as shift_difference,
        stability as stability,
        transfer as transfer,
        usefulness as usefulness,
    )
    from sharplab.checks import (
        CoordinateCheck as CoordinateCheck,
        coordinate_check as coordinate_check,
        inspect_optimizer as inspect_optimizer,
        wider_is_better as wider_is_better,
    )
    from sharplab.curvature import (
        CriticalSharpness as CriticalSharpness,
        LinearOperator as LinearOperator,
        batch_sharpness as batch_sharpness,
        block as block,
        check_deterministic as check_deterministic,
        critical_sharpness as critical_sharpness,
        directional_sharpness as directional_sharpness,
        fisher as fisher,
        gauss_newton as gauss_newton,
        hessian as hessian,
        leaf_shares as leaf_shares,
        ntk as ntk,
        operator as operator,
        precondition as precondition,
        subspace_overlap as subspace_overlap,
        torch_hessian as torch_hessian,
    )
    from sharplab.records import Records as Records
    from sharplab.scaling import (
        Parameterization as Parameterization,
        Scaling as Scaling,
        mup as mup,
        parameterization as parameterization,
    )
    from sharplab.schedules import refined_schedule as refined_schedule
    from sharplab.spectrum import (
        Eigenpairs as Eigenpairs,
        Estimate as Estimate,
        NormSharpness as NormSharpness,
        Resampled as Resampled,
        SpectralDensity as SpectralDensity,
        diagonal as diagonal,
        effective_dimension as effective_dimension,
        eigsh as eigsh,
        logdet as logdet,
        norm_sharpness as norm_sharpness,
        resample as resample,
        spectral_density as spectral_density,
        trace as trace,
    )
    from sharplab.studies import (
        AnnealingLaw as AnnealingLaw,
        Decision as Decision,
        Suggestion as Suggestion,
        decide as decide,
        suggest_learning_rate as suggest_learning_rate,
    )
    from sharplab.studies.lr_free import lr_free_methods as lr_free_methods
    from sharplab.studies.performance import (
        PerformanceProfile as PerformanceProfile,
        performance_profile as performance_profile,
    )
    from sharplab.studies.refining import refine_schedule as refine_schedule
    from sharplab.studies.suggest_lr.from_sharpness import (
        SharpnessSuggestion as SharpnessSuggestion,
        learning_rate_from_sharpness as learning_rate_from_sharpness,
    )
    from sharplab.studies.tournament import Ranking as Ranking, rank_schedules as rank_schedules
    from sharplab.sweep import Experiment as Experiment, load as load, run as run
    from sharplab.tracking import (
        CheckpointSpectrum as CheckpointSpectrum,
        Observable as Observable,
        Tracker as Tracker,
        checkpoint_spectra as checkpoint_spectra,
    )
# isort: on

__version__ = "0.2.0"

# By package, the names that load on first use, so that `import sharplab` takes no time.
_NAMES = {
    "sharplab.curvature": (
        "CriticalSharpness",
        "LinearOperator",
        "batch_sharpness",
        "block",
        "check_deterministic",
        "critical_sharpness",
        "directional_sharpness",
        "fisher",
        "gauss_newton",
        "hessian",
        "leaf_shares",
        "ntk",
        "operator",
        "precondition",
        "subspace_overlap",
        "torch_hessian",
    ),
    "sharplab.spectrum": (
        "Eigenpairs",
        "Estimate",
        "NormSharpness",
        "Resampled",
        "SpectralDensity",
        "diagonal",
        "effective_dimension",
        "eigsh",
        "logdet",
        "norm_sharpness",
        "resample",
        "spectral_density",
        "trace",
    ),
    "sharplab.scaling": ("Parameterization", "Scaling", "mup", "parameterization"),
    "sharplab.schedules": ("refined_schedule",),
    "sharplab.checks": ("CoordinateCheck", "coordinate_check", "inspect_optimizer", "wider_is_better"),
    "sharplab.tracking": ("CheckpointSpectrum", "Observable", "Tracker", "checkpoint_spectra"),
    "sharplab.sweep": ("Experiment", "load", "run"),
    "sharplab.records": ("Records",),
    "sharplab.analysis": (
        "Collapse",
        "Consistency",
        "LearningRateLaw",
        "PowerLaw",
        "Stability",
        "Transfer",
        "Usefulness",
        "collapse",
        "consistency",
        "learning_rate_law",
        "power_law",
        "read_sweep",
        "shift_difference",
        "stability",
        "transfer",
        "usefulness",
    ),
    "sharplab.studies": ("AnnealingLaw", "Decision", "Suggestion", "decide", "suggest_learning_rate"),
    "sharplab.studies.lr_free": ("lr_free_methods",),
    "sharplab.studies.performance": ("PerformanceProfile", "performance_profile"),
    "sharplab.studies.refining": ("refine_schedule",),
    "sharplab.studies.suggest_lr.from_sharpness": ("SharpnessSuggestion", "learning_rate_from_sharpness"),
    "sharplab.studies.tournament": ("Ranking", "rank_schedules"),
}
_MODULES = ("data", "losses", "models", "optimizers", "plotting", "scaling", "schedules", "sweep", "theory")

if not TYPE_CHECKING:  # else every misspelt name would be an Any
    __getattr__, __dir__, __all__ = attach(__name__, _NAMES, _MODULES)
