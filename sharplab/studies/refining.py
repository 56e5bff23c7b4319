"""Schedules refined from the gradient norms of runs, round after round (arXiv 2310.07831)."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sharplab.core import tree
from sharplab.core.arguments import checked, count
from sharplab.core.tree import PyTree
from sharplab.data import batch_indices
from sharplab.optimizers import find_optimizer
from sharplab.schedules import points_name, refined_schedule
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import an_experiment
from sharplab.training import programs
from sharplab.training.layout import DeviceLayout
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import Task, find_recipe


@checked(experiment=an_experiment, rounds=count)
def refine_schedule(experiment: Experiment, *, rounds: int = 2) -> list[str]:
    """The names of the schedules that `rounds` of training suggest, each refined from runs under the one before.

    The first runs have the experiment's schedule. A name is the schedule of an `Experiment`, of any length of run.

    Args:
        experiment: of one parameterization, width, depth and learning rate; norms are averaged over its seeds.
        rounds: of training and refining.

    Raises:
        ValueError: for several sizes or learning rates, and if all runs of a round diverge.

    >>> import sharplab as sl
    >>> experiment = sl.Experiment(model="mlp", widths=8, parameterizations=("mup",), learning_rates=0.5, seeds=1,
    ...     data="gaussian-clusters", steps=16, schedule="linear")
    >>> [name.partition("(")[0] for name in refine_schedule(experiment)]
    ['points', 'points']
    """
    names: list[str] = []
    for _ in range(rounds):
        norms = gradient_norms(replace(experiment, schedule=names[-1]) if names else experiment)
        names.append(refined_name(norms, norm=norm_of(experiment.optimizer)))
    return names


def norm_of(optimizer: str) -> str:
    """The norm that weighs the steps of an optimizer: "l2" of those along the gradient, "l1" of all others.

    Raises:
        ValueError: for steps whose size is that of the weights, as LAMB's, which are in neither.
    """
    kind = find_optimizer(optimizer).kind("hidden")
    if kind == "relative":
        raise ValueError(f"optimizer {optimizer!r} steps by shares of its weights, of which no norm is known here.")
    return "l2" if kind == "sgd" else "l1"


def refined_name(norms: pd.DataFrame, *, norm: str = "l2") -> str:
    """The name of the schedule that is refined from `gradient_norms` of runs that differ by their seeds.

    What is refined is their `mean_norms`. The rate is 0 after the last step, as in linear decay.

    Raises:
        ValueError: for runs that differ by more than the seed, and if all of them diverged.
    """
    mean = mean_norms(norms, norm=norm)
    return points_name(refined_schedule(np.append(mean, mean[-1]), norm=norm))


def mean_norms(norms: pd.DataFrame, *, norm: str = "l2") -> np.ndarray:
    """The geometric mean over seeds of the norms of each step, (T,), of those seeds whose run did not diverge.

    Raises:
        ValueError: for runs that differ by more than the seed, and if all of them diverged.
    """
    if (norms.drop(columns=["seed", "step", "loss", "l2", "l1"], errors="ignore").nunique() > 1).any():
        raise ValueError("norms must be of one parameterization, width, depth and learning rate.")
    by_seed = norms.pivot(index="step", columns="seed", values=norm)
    whole = by_seed.loc[:, ((by_seed > 0) & (by_seed < np.inf)).all()]
    if whole.empty:
        raise ValueError("norms: every run diverged, give a lower learning rate.")
    return np.exp(np.log(whole).mean(axis=1)).to_numpy()


def gradient_norms(experiment: Experiment) -> pd.DataFrame:
    """The norms of the gradients that the steps of runs are made of, and the batches' losses, at every step.

    They are measured as the optimizer's steps weigh them, with f its learning-rate factors (over the scale s that
    gradients are divided by): l2 is √Σ f g²/s, whose square is the slope of the loss along a step of gradient descent;
    l1 is Σ f |g|, the slope along a step of signs. A run costs what its training does, and one program serves all
    schedules.

    Columns are parameterization, width, depth, learning_rate, seed, step, loss, l2 and l1. A run that diverges goes on
    with what its arithmetic gives: infinite numbers, NaN or zeros.
    """
    return pd.concat([table for task in tasks(experiment) for table in _of_task(experiment, task)], ignore_index=True)


def _of_task(experiment: Experiment, task: Task) -> Iterator[pd.DataFrame]:
    recipe = replace(find_recipe(task), observables=())
    layout = DeviceLayout((jax.local_devices()[0],), 1)
    train = programs.place_arrays(recipe, layout, task).train
    recipe = layout.replicate(recipe)
    examples = len(jax.tree.leaves(train)[0])
    rates, seeds = experiment.rates_of(task.parameterization), experiment.seeds_of(task.width)
    for rate, seed in product(rates, seeds):
        run, rows = _begin(recipe, jnp.int32(seed)), []
        for batch in batch_indices(seed, examples, task.batch_size, 0, task.steps):
            run, row = _step(recipe, run, np.float32(rate), batch, train)
            rows.append(row)
        columns = {name: np.array(jax.device_get([row[name] for row in rows]), float) for name in rows[0]}
        keys = {"parameterization": task.parameterization, "width": task.width, "depth": task.depth}
        yield pd.DataFrame({**keys, "learning_rate": rate, "seed": seed, "step": np.arange(task.steps), **columns})


@jax.jit
def _begin(recipe: Recipe, seed: jax.Array) -> RunState:
    return recipe.begin(seed)


@partial(jax.jit, donate_argnums=1)
def _step(
    recipe: Recipe, run: RunState, rate: jax.typing.ArrayLike, rows: jax.typing.ArrayLike, train: PyTree
) -> tuple[RunState, dict[str, jax.Array]]:
    """One step, and the loss and norms of the gradient that it is made of."""
    after, loss, gradient = recipe.update(run, rate, jax.tree.map(lambda x: x[rows], train))
    factors, scales = recipe.factors(), recipe.gradient_scales()
    wide = tree.wide(gradient)
    squares = jax.tree.map(lambda g, f, s: jnp.sum(f / s * g**2), wide, factors, scales)
    sizes = jax.tree.map(lambda g, f: jnp.sum(f * jnp.abs(g)), wide, factors)
    return after, {
        "loss": loss,
        "l2": jnp.sqrt(jax.tree.reduce(jnp.add, squares)),
        "l1": jax.tree.reduce(jnp.add, sizes),
    }
