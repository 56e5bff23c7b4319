"""The effective sharpness of small networks along training at one learning rate, in units of the threshold."""

import jax
import pandas as pd

from sharplab.curvature import hessian, precondition
from sharplab.optimizers import Optimizer, find_optimizer
from sharplab.spectrum.extremal import solve_extreme
from sharplab.studies.suggest_lr.small_runs import SmallRuns
from sharplab.tracking.context import Context
from sharplab.tracking.measurement import TOLERANCE
from sharplab.tracking.observables import Observable

RECORDS = 5  # along training, evenly; Adam's metric is not there before the first step


def threshold_of(optimizer: str | Optimizer, learning_rate: float) -> float | None:
    """The effective sharpness at which steps turn unstable; None for an optimizer without a metric."""
    chosen = find_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    return None if chosen.preconditioner is None or chosen.threshold is None else chosen.threshold(learning_rate)


def sharpness_along(
    small_runs: SmallRuns, width: int, learning_rate: float, steps: int, threshold: float
) -> pd.DataFrame:
    """The effective sharpness λmax(D^½ H D^½) of each seed at five records, on up to 512 training examples.

    Dropout is off, so that the Hessian is one; batch statistics are those of the probe.

    Returns:
        The columns parameterization, width, learning_rate, seed, step, sharpness, sharpness_error, and share, which
        is sharpness / threshold; NaN where the run has diverged.
    """
    name = f"{__name__}:ANEW"
    curves = small_runs.record(width, (learning_rate,), steps, (name,), records=RECORDS + 1).curves
    assert curves is not None
    after = curves[curves["step"] > 0].sort_values(["step", "seed"], ignore_index=True)
    values, errors = after[ANEW.name], after[f"{ANEW.name}_error"]
    found = after[["parameterization", "width", "seed", "step"]].assign(sharpness=values, sharpness_error=errors)
    found.insert(2, "learning_rate", learning_rate)
    return found.assign(share=values / threshold)


def _anew(context: Context) -> dict[str, jax.Array]:
    op = precondition(hessian(context.objective, context.params, context.probe), context.root)
    top = solve_extreme(op, 1, None, jax.random.key(0), tol=TOLERANCE).pairs
    return {ANEW.name: top.values[0], f"{ANEW.name}_error": top.errors[0]}


# Few records far apart: a search that starts from nothing, all examples at once, compiles to less than tracking does.
ANEW = Observable(
    "effective_sharpness",
    "1/learning rate",
    "λmax(D^½ H D^½), searched from nothing",
    ("metric",),
    _anew,
)
