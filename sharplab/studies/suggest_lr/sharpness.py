"""The effective sharpness of small networks along training at one learning rate, in units of the threshold."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial

from sharplab.core.tree import PyTree
from sharplab.curvature import hessian, precondition
from sharplab.optimizers import Optimizer, find_optimizer
from sharplab.spectrum.extremal import solve_extreme
from sharplab.studies.suggest_lr.small_networks import Examples, SmallNetwork
from sharplab.tracking.measurement import TOLERANCE
from sharplab.training.recipe import Recipe, RunState

RECORDS = 5  # along training, evenly; Adam's metric is not there before the first step
PROBE = 512  # examples of the Hessian


def threshold_of(optimizer: str | Optimizer, learning_rate: float) -> float | None:
    """The effective sharpness at which steps turn unstable; None for an optimizer without a metric."""
    chosen = find_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    return None if chosen.threshold is None else chosen.threshold(learning_rate)


def sharpness_along(network: SmallNetwork, learning_rate: float, steps: int, threshold: float) -> pd.DataFrame:
    """The effective sharpness λmax(D^½ H D^½) of each seed at five records, on up to 512 training examples.

    Dropout is off, so that the Hessian is one; batch statistics are those of the probe.

    Returns:
        The columns parameterization, width, learning_rate, seed, step, sharpness, sharpness_error, and share, which
        is sharpness / threshold; NaN where the run has diverged.
    """
    probe = _probe(network.examples)
    solve = _solve_compiled if network.loop == "compiled" else _solve
    rows = []
    runs = network.start
    for step in sorted({-(-steps * i // RECORDS) for i in range(1, RECORDS + 1)}):
        runs = network.advance(runs, learning_rate, step)
        for seed in range(network.seeds):
            run, value, error = network.one(runs, seed), np.nan, np.nan
            if run.diverged_step < 0:
                value, error = map(float, solve(network.recipe, run, probe))
            rows.append((network.width, learning_rate, seed, step, value, error))
    columns = ["width", "learning_rate", "seed", "step", "sharpness", "sharpness_error"]
    curves = pd.DataFrame(rows, columns=columns)
    curves.insert(0, "parameterization", "mup")
    return curves.assign(share=curves["sharpness"] / threshold)


def _solve(recipe: Recipe, run: RunState, probe: PyTree) -> tuple[jax.Array, jax.Array]:
    """The effective sharpness, by a search that starts from nothing, and its error."""
    of_params = Partial(recipe.objective, state=run.variables)
    D = recipe.metric(run.params, run.opt_state)
    op = precondition(hessian(of_params, run.params, probe), jax.tree.map(jnp.sqrt, D))
    top = solve_extreme(op, 1, None, jax.random.key(0), tol=TOLERANCE).pairs
    return top.values[0], top.errors[0]


_solve_compiled = jax.jit(_solve, static_argnums=0)


def _probe(examples: Examples) -> PyTree:
    chosen = np.random.default_rng(1).permutation(examples.count)[:PROBE]
    return jax.tree.map(lambda x: x[chosen], examples.train)
