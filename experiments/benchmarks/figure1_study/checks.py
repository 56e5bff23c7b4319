"""The standards of the comparison, untimed: converged eigenvalues, and what rounding alone does to a trajectory."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sharplab as sl
from figure1_study.contestants import GIVEN, SNAPSHOTS
from figure1_study.given import given, trajectory_tasks, with_kernels
from figure1_study.plain_port import LAYERS
from figure1_study.study import SEED, TRAJECTORY_RATE, Study
from sharplab.core import tree
from sharplab.data import batch_indices
from sharplab.training.layout import DeviceLayout
from sharplab.training.programs import Arrays, place_arrays
from sharplab.training.recipe import Recipe
from sharplab.training.task import Task, find_recipe

TOLERANCE = 1e-8  # of converged eigenvalues, in float64
PERTURBATION = 2.0**-23  # of each weight, times a normal number: about a rounding


def prepare(folder: str, settings: dict[str, Any]) -> None:
    """Leave in `folder` what the plain port is given."""
    np.savez(Path(folder) / GIVEN, **given(Study.of(settings)))


def converged(folder: str, settings: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Eigenvalues of D^½ H D^½ at the weights of the plain port's snapshots, network by network.

    `values` and `errors`: the largest, in float64, and its estimated error. `lowest`: the smallest, to which power
    iteration goes where its modulus is the larger. `tracked` and `stated_error`: what the lab's records make of the
    same float32 weights, each started from the one before as in training.
    """
    with np.load(Path(folder) / SNAPSHOTS) as arrays:
        found = dict(arrays)
    answer = {}
    for network, task in trajectory_tasks(Study.of(settings)):
        recipe = find_recipe(task)
        like = recipe.init_params(jnp.int32(SEED))
        trajectory = [
            with_kernels(like, {name: found[f"{network.label}/{i}/{name}"] for name in LAYERS})
            for i in range(settings["snapshots"])
        ]
        arrays = _arrays(recipe, task)
        answer[network.label] = _tracked(recipe, trajectory, arrays) | _exact(recipe, trajectory, arrays)
    return answer


def _arrays(recipe: Recipe, task: Task) -> Arrays:
    return place_arrays(recipe, DeviceLayout(tuple(jax.devices()[:1]), 1), task)


def _tracked(recipe: Recipe, trajectory: list[Any], arrays: Arrays) -> dict[str, list[float]]:
    rows = _records(recipe, arrays)
    found = [rows(params) for params in trajectory]
    return {"tracked": [row["sharpness"] for row in found], "stated_error": [row["sharpness_error"] for row in found]}


def _records(recipe: Recipe, arrays: Arrays) -> Any:
    """params → the lab's next record of a trajectory, a dict of floats."""
    observe = jax.jit(recipe.observe)
    run = recipe.begin(jnp.int32(SEED))
    tracker = recipe.measurement().init(run.params, arrays.probe)

    def record(params: Any) -> dict[str, float]:
        nonlocal tracker
        tracker, row = observe(run._replace(params=params), tracker, jnp.int32(SEED), arrays.probe, arrays.held_out)
        return {name: float(value) for name, value in row.items()}

    return record


def _exact(recipe: Recipe, trajectory: list[Any], arrays: Arrays) -> dict[str, list[float]]:
    answer: dict[str, list[float]] = {"values": [], "errors": [], "lowest": []}
    with jax.enable_x64(True):
        probe = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x, arrays.probe)
        for params in trajectory:
            wide = jax.tree.map(lambda w: jnp.asarray(w, jnp.float64), params)
            op = sl.hessian(recipe.loss, wide, probe, model=recipe.forward)
            op = sl.precondition(op, jax.tree.map(lambda factor: factor**0.5, recipe.factors()))
            top, bottom = sl.eigsh(op, tol=TOLERANCE), sl.eigsh(op, which="SA")
            answer["values"].append(float(top.values[0]))
            answer["errors"].append(float(top.errors[0]))
            answer["lowest"].append(float(bottom.values[0]))
    return answer


def rounding(folder: str, settings: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Loss and sharpness of the lab's trajectories from weights perturbed by one rounding.

    How far they come away from the lab's is what rounding alone does to such trajectories.
    """
    return {
        network.label: _perturbed_trajectory(task, TRAJECTORY_RATE[network.parameterization])
        for network, task in trajectory_tasks(Study.of(settings))
    }


def _perturbed_trajectory(task: Task, learning_rate: float) -> dict[str, list[float]]:
    recipe = find_recipe(task)
    arrays = _arrays(recipe, task)
    run = recipe.begin(jnp.int32(SEED))
    noise = tree.normal(jax.random.key(1), run.params)
    run = run._replace(params=jax.tree.map(lambda w, n: w * (1 + PERTURBATION * n), run.params, noise))
    advance, record = jax.jit(recipe.advance), _records(recipe, arrays)
    order = batch_indices(SEED, len(arrays.train[1]), task.batch_size, 0, task.steps)
    rows = [record(run.params)]
    for start, stop in pairwise(task.record_steps):
        run = advance(run, learning_rate, order[start:stop], arrays.train, stop)
        rows.append(record(run.params))
    return {"loss": [row["eval_loss"] for row in rows], "sharpness": [row["sharpness"] for row in rows]}
