"""Trajectories of the figure `gauss-newton`: of trained networks, and the closed ones of linear networks."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial

import sharplab as sl
from sharplab.core.tree import PyTree
from sharplab.data import batch_indices, load_dataset
from sharplab.sweep.plan import tasks
from sharplab.theory import LinearTrajectory, infinite_linear_state, linear_state, linear_trajectory
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import Task, find_recipe

SOLVED = 1e-3  # relative error of an eigenvalue
DRAWS = 16  # of the function that an infinitely wide NTK network begins with
OPERATORS = ("hessian", "gauss_newton", "residual")


def measure(experiment: sl.Experiment) -> pd.DataFrame:
    """A table with a row per run and record: loss, G's share of H's top, and largest eigenvalues with their errors."""
    with ThreadPoolExecutor(len(jax.devices())) as pool:
        parts = pool.map(partial(measure_task, experiment), tasks(experiment), cycle(jax.devices()))
        return pd.DataFrame([row for part in parts for row in part])


def measure_task(experiment: sl.Experiment, task: Task, device: jax.Device) -> list[dict[str, float]]:
    """The rows of one width and parameterization, on one device."""
    (rate,) = experiment.rates_of(task.parameterization)
    keys = {"parameterization": task.parameterization, "width": task.width, "learning_rate": rate}
    with jax.default_device(device):
        return [
            keys | {"seed": seed, "step": step} | row
            for seed in experiment.seeds_of(task.width)
            for step, row in measure_run(task, rate, seed)
        ]


def measure_run(task: Task, rate: float, seed: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Train one run and yield its loss, share and eigenvalues at the task's record steps; NaN once it has diverged."""
    recipe, data = find_recipe(task), load_dataset(task.data)
    train = (recipe.prepare(data.train_inputs), jnp.asarray(data.train_targets))
    probe = jax.tree.map(lambda x: x[: task.probe_size], train)
    order = batch_indices(seed, len(train[1]), task.batch_size, 0, task.steps)
    operators = OPERATORS if task.model == "linear_network" else OPERATORS[:1]
    run = recipe.begin(jnp.asarray(seed))
    vectors = dict.fromkeys(operators, jax.tree.map(lambda w: jnp.zeros((1, *w.shape)), run.params))
    for step, next_step in pairwise((*task.record_steps, task.steps)):
        row, vectors = spectra(recipe, run.params, probe, vectors)
        diverged = int(run.diverged_step) >= 0
        yield step, {name: np.nan if diverged else float(value) for name, value in row.items()}
        if next_step > step:
            run = advance(recipe, run, rate, order[step:next_step], train, next_step)


@jax.jit
def advance(recipe: Recipe, run: RunState, rate: float, order: jax.Array, train: PyTree, stop: int) -> RunState:
    """The run after training to the step `stop`."""
    # It becomes the run's step: of a weak type, it would have the next call compiled anew.
    return recipe.advance(run, jnp.asarray(rate), order, train, jnp.asarray(stop, run.step.dtype))


@jax.jit
def spectra(
    recipe: Recipe, params: PyTree, probe: PyTree, vectors: dict[str, PyTree]
) -> tuple[dict[str, jax.Array], dict[str, PyTree]]:
    """Loss, share and top eigenvalues in the metric, of the operators that `vectors` names; and the new vectors.

    Each eigenvalue is solved from the vectors of its operator at the last record.
    """
    root = jax.tree.map(jnp.sqrt, recipe.metric(params, None))
    forward = Partial(Recipe.forward, recipe)
    H = sl.precondition(sl.hessian(recipe.loss, params, probe, model=forward), root)
    G = sl.precondition(sl.gauss_newton(forward, recipe.loss, params, probe), root)
    row = {"loss": recipe.objective(params, probe)}
    found = {}
    for name, op in zip(OPERATORS, (H, G, H - G), strict=True):
        if name in vectors:
            pairs = sl.eigsh(op, tol=SOLVED, start=vectors[name])
            found[name] = pairs.vectors
            row |= {name: pairs.values[0], f"{name}_error": pairs.errors[0], f"{name}_residual": pairs.residuals[0]}
    top = jax.tree.map(lambda v: v[0], found["hessian"])
    row["share"] = sl.directional_sharpness(G, top) / sl.directional_sharpness(H, top)
    return row, found


def closed_trajectories(experiment: sl.Experiment) -> pd.DataFrame:
    """A table of the closed dynamics from the first weights of every run, and of those of infinite width."""
    tables = []
    data = load_dataset(experiment.data)
    examples = (data.train_inputs.astype(np.float64), data.train_targets.astype(np.float64))
    for task in tasks(experiment):
        name, rule = task.parameterization, find_recipe(task).network.source.rule
        (rate,) = experiment.rates_of(name)
        drawn = {seed: kernels(task, seed) for seed in experiment.seeds_of(task.width)}
        with jax.enable_x64(True):
            states = [(task.width, seed, linear_state(*weights, rule)) for seed, weights in drawn.items()]
            if task.width == experiment.widths[-1]:
                sizes = (examples[0].shape[1], examples[1].shape[1])
                keys = [jax.random.key(seed) for seed in range(DRAWS if name == "ntk" else 1)]
                states += [(np.inf, i, infinite_linear_state(rule, *sizes, key)) for i, key in enumerate(keys)]
            for width, seed, state in states:
                trajectory = linear_trajectory(state, *examples, rate, task.record_steps)
                tables.append(
                    as_table(trajectory).assign(parameterization=name, learning_rate=rate, width=width, seed=seed)
                )
    return pd.concat(tables, ignore_index=True)


def kernels(task: Task, seed: int) -> list[np.ndarray]:
    """The weights that a run of the linear network begins with, layer by layer, in double precision."""
    params = find_recipe(task).init_params(jnp.asarray(seed))
    return [np.asarray(params[layer]["kernel"][...], np.float64) for layer in ("first", "readout")]


def as_table(trajectory: LinearTrajectory) -> pd.DataFrame:
    """A closed trajectory as a table with the columns of trained runs."""
    columns = {"step": trajectory.steps, "loss": trajectory.loss, "hessian": trajectory.hessian}
    columns |= {"gauss_newton": trajectory.gauss_newton[:, 0], "residual": trajectory.residual[:, 0]}
    return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})


def deviations(linear: pd.DataFrame, closed: pd.DataFrame) -> dict:
    """Distances of runs from their closed trajectories, and of these from infinite width.

    For each quantity the largest difference along a run, relative to the largest value along it; for eigenvalues of G
    and R, relative to H's.
    """
    keys = ["parameterization", "width", "seed", "step"]
    finite = closed[np.isfinite(closed["width"])].astype({"width": int})
    both = linear.merge(finite, on=keys, suffixes=("", "_closed"))
    assert len(both) == len(linear)
    names = ("loss", *OPERATORS)

    def largest(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
        rows = {}
        for key, run in pairs.groupby(by):
            scales = {name: run["loss_closed" if name == "loss" else "hessian_closed"].max() for name in names}
            rows[key] = {name: (run[name] - run[f"{name}_closed"]).abs().max() / scales[name] for name in names}
        return pd.DataFrame.from_dict(rows, orient="index")

    runs = largest(both, ["parameterization", "width", "seed"])
    mup = closed[closed["parameterization"] == "mup"]
    wide = mup[np.isfinite(mup["width"])].merge(mup[np.isinf(mup["width"])], on="step", suffixes=("", "_closed"))
    distance = largest(wide, ["width", "seed"]).groupby(level=0).mean()
    return {
        "largest_relative_deviation_of_a_run": runs.max().to_dict(),
        "mean_relative_distance_of_mup_from_infinite_width": {
            str(int(width)): row.to_dict() for width, row in distance.iterrows()
        },
    }
