"""What large batches cost: how the best learning rate and the loss at it go with the batch size, by optimizer.

The number of examples seen is to be the same at every batch size. Under LAMB and LARS (arXiv 1904.00962) the best
learning rate is said to go as its square root, and the loss to stay; a tuned rival may do as well (arXiv 2102.06356).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial

from sharplab import curvature
from sharplab.analysis.grids import final_losses
from sharplab.analysis.optima import Transfer, transfer
from sharplab.analysis.trend import Measured
from sharplab.core import tree
from sharplab.core.arguments import checked, positive, text
from sharplab.core.statistics import mean_interval
from sharplab.core.tree import PyTree
from sharplab.data import batch_indices
from sharplab.optimizers import Optimizer, lamb, trust_ratios
from sharplab.records import Records, some_records
from sharplab.spectrum import eigsh
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import tasks
from sharplab.training import programs
from sharplab.training.layout import DeviceLayout
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import find_recipe

OVER = "batch_size"


@dataclass(frozen=True)
class BatchScaling:
    """The learning rates and losses of one optimizer over batch sizes.

    Attributes:
        optima: the best learning rate at each batch size, and its shift.
        losses: at each batch size, the mean over seeds of the loss at that learning rate of the grid where it is
            lowest, of those where no seed diverged, with its t interval.
    """

    optima: Transfer
    losses: dict[int, Measured]

    @property
    def exponent(self) -> Measured:
        """The exponent b of η ∝ B^b, η the best learning rate at batch size B."""
        return Measured(self.optima.shift, *self.optima.shift_interval)

    def table(self) -> pd.DataFrame:
        """A row per batch size: the optimum and the loss there, with their intervals."""
        optima = self.optima.table()[[OVER, "optimum", "optimum_low", "optimum_high"]]
        losses = pd.DataFrame([{OVER: size} | loss.columns("loss") for size, loss in self.losses.items()])
        return optima.merge(losses, on=OVER)


@checked(records=some_records, metric=text)
def batch_scaling(records: Records, *, metric: str = "train_loss", confidence: float = 0.95) -> dict[str, BatchScaling]:
    """The learning rates and losses of each optimizer over batch sizes, by its name.

    Args:
        records: runs with a column batch_size, of one parameterization, width and depth, whatever their numbers of
            steps.
        metric: a column of final losses.

    Raises:
        ValueError: for a missing column, and runs that mix other settings.

    >>> rates, sizes, seeds = (x.ravel() for x in np.meshgrid(2.0 ** np.arange(-9, 0), [32, 128, 512], range(3)))
    >>> best = 2.0**-7 * np.sqrt(sizes / 32)
    >>> loss = 1 + sizes / 1024 + 0.1 * np.log2(rates / best) ** 2 + 0.001 * np.cos(99 * rates + seeds)
    >>> table = {"batch_size": sizes, "learning_rate": rates, "seed": seeds, "train_loss": loss, "optimizer": "lamb"}
    >>> found = batch_scaling(Records(pd.DataFrame(table)))["lamb"]
    >>> round(found.exponent.value, 2), round(found.losses[512].value, 2)
    (0.5, 1.5)
    """
    runs = records.runs.drop(columns="steps", errors="ignore")  # which go as one over the batch size
    if "optimizer" not in runs:
        raise ValueError("the runs have no column 'optimizer': say of which each is.")
    found = {}
    for name, part in runs.groupby("optimizer", sort=False):
        optima = transfer(Records(part), over=OVER, metric=metric, confidence=confidence)
        if len(optima) > 1:
            raise ValueError(f"the records mix parameterization = {', '.join(optima)}: choose one.")
        losses = {int(size): _best(of, metric, confidence) for size, of in part.groupby(OVER)}
        found[str(name)] = BatchScaling(next(iter(optima.values())), losses)
    return found


def _best(runs: pd.DataFrame, metric: str, confidence: float) -> Measured:
    losses = pd.Series(final_losses(runs, metric), index=runs.index).groupby(runs["learning_rate"])
    value, (low, high) = mean_interval(losses.get_group(losses.mean().idxmin()).to_numpy(), confidence)
    return Measured(value, low, high)


def ahead(found: BatchScaling, rivals: Iterable[BatchScaling]) -> dict[int, Measured]:
    """The loss of an optimizer less that of its best rival, at each batch size: below 0 where it is ahead."""
    several = list(rivals)
    return {
        size: loss.less(min((rival.losses[size] for rival in several), key=lambda one: one.value))
        for size, loss in found.losses.items()
    }


@checked()
def at_batch_size(experiment: Experiment, batch_size: int, *, exponent: float = 0.5) -> Experiment:
    """The experiment at another batch size B, of as many examples seen and with learning rates moved by B^exponent.

    The grid moves by whole octaves. `exponent` only says where the search begins, with `refine=True`.

    >>> made = at_batch_size(Experiment(widths=8, batch_size=128, steps=256, learning_rates=(0.5, 1.0)), 512)
    >>> made.batch_size, made.steps, dict(made.learning_rates)["mup"]
    (512, 64, (1.0, 2.0))
    """
    positive("batch_size", batch_size)
    factor = batch_size / experiment.batch_size
    rates = {
        name: tuple(rate * 2.0 ** round(exponent * np.log2(factor)) for rate in grid)
        for name, grid in experiment.learning_rates
    }
    steps = max(1, round(experiment.steps / factor))
    return replace(experiment, batch_size=batch_size, steps=steps, learning_rates=rates)


def lamb_out_of_the_box() -> Optimizer:
    """LAMB with one learning rate for all weights at every width, under "mup" too, as `optax.lamb` in anyone's loop.

    It is "sharplab.studies.large_batch:lamb_out_of_the_box@1" in an experiment. The lab's own LAMB gives hidden weights
    the factor n^−½ under "mup". γ and α are to be the usual ones, which would come in as SGD's.
    """
    (direction,) = lamb().directions.values()
    # Under "mup" of the lab's models gradient-like steps have no factor of width.
    return replace(lamb(), directions={"sgd": direction})


def trust_by_layer(experiment: Experiment, *, tol: float = 1e-2) -> pd.DataFrame:
    """The trust ratio of each parameter along runs, and the curvature that it multiplies, at each record but the first.

    Returns:
        A row per run, record and parameter: parameterization, width, depth, learning_rate, seed, step, parameter,
        trust_ratio, and sharpness, the largest eigenvalue, on the probe, of that parameter's own block of D^½ H D^½,
        with sharpness_error. The ratio is a part of D: sharpness / trust_ratio is the curvature without it. A run ends
        where it diverges.

    Raises:
        ValueError: for an optimizer without trust ratios, and where every run diverges before its first record.
    """
    parts = []
    for task in tasks(experiment):
        recipe = replace(find_recipe(task), observables=())
        layout = DeviceLayout((jax.local_devices()[0],), 1)
        arrays = programs.place_arrays(recipe, layout, task)
        recipe = layout.replicate(recipe)
        examples = len(jax.tree.leaves(arrays.train)[0])
        for rate, seed in product(experiment.rates_of(task.parameterization), experiment.seeds_of(task.width)):
            run = _begin(recipe, jnp.int32(seed))
            trust_ratios(run.opt_state)  # refuses the states of others
            order = jnp.asarray(batch_indices(seed, examples, task.batch_size, 0, task.steps))
            keys = {"parameterization": task.parameterization, "width": task.width, "depth": task.depth}
            keys |= {"learning_rate": rate, "seed": seed}
            for stop in task.record_steps[1:]:
                run = _advance(recipe, run, jnp.float32(rate), order, arrays.train, jnp.int32(stop))
                if int(run.diverged_step) >= 0:
                    break
                parts.append(_layers(recipe, run, arrays.probe, tol).assign(**keys, step=stop))
    columns = ["parameterization", "width", "depth", "learning_rate", "seed", "step", "parameter"]
    if not parts:
        raise ValueError("experiment: every run diverges before its first record, give lower learning_rates.")
    found = pd.concat(parts, ignore_index=True)
    return found[[*columns, "trust_ratio", "sharpness", "sharpness_error"]]


@jax.jit
def _begin(recipe: Recipe, seed: jax.Array) -> RunState:
    return recipe.begin(seed)


@jax.jit
def _advance(
    recipe: Recipe, run: RunState, rate: jax.Array, order: jax.Array, train: PyTree, stop: jax.Array
) -> RunState:
    return recipe.advance(run, rate, order, train, stop)


def _layers(recipe: Recipe, run: RunState, probe: PyTree, tol: float) -> pd.DataFrame:
    root = jax.tree.map(jnp.sqrt, recipe.metric(run.params, run.opt_state))
    forward = Partial(Recipe.forward, recipe)
    op = curvature.precondition(curvature.hessian(recipe.loss, run.params, probe, model=forward), root)
    rows = []
    for path, ratio in tree.named_leaves(trust_ratios(run.opt_state)).items():
        top = eigsh(curvature.block(op, path.__eq__), tol=tol)
        values = {"sharpness": float(top.values[0]), "sharpness_error": float(top.errors[0])}
        rows.append({"parameter": path, "trust_ratio": float(ratio)} | values)
    return pd.DataFrame(rows)
