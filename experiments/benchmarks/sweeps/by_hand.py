"""Runs trained by hand: the plain loop, with the lab's model code and its records of losses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp
from plain_loop import PlainLoop, same_model

from sharplab.core.tree import PyTree
from sharplab.data import batch_indices, load_dataset
from sharplab.training.task import Task, find_recipe


@dataclass(frozen=True)
class _Programs:
    """The programs and arrays of a task, compiled once per process."""

    loop: PlainLoop
    begin: Callable[[int], PyTree]  # seed → parameters
    record: Callable[[PyTree, PyTree, PyTree], tuple[jax.Array, ...]]  # params, probe, held out → the observables
    held_out: PyTree


@lru_cache
def _programs(task: Task) -> _Programs:
    recipe, dataset = find_recipe(task), load_dataset(task.data)
    loop = same_model(recipe, dataset.train_inputs, jnp.asarray(dataset.train_targets), task.probe_size)

    @jax.jit
    def record(params: PyTree, probe: PyTree, held_out: PyTree) -> tuple[jax.Array, ...]:
        inputs, targets = held_out
        outputs = recipe.forward(params, inputs)
        accuracy = jnp.mean(jnp.argmax(outputs, axis=-1) == targets)
        return recipe.objective(params, probe), recipe.loss(outputs, targets), accuracy

    held_out = (recipe.prepare(dataset.eval_inputs), jnp.asarray(dataset.eval_targets))
    return _Programs(loop, jax.jit(recipe.init_params), record, held_out)


def train_by_hand(task: Task, learning_rate: float, seed: int) -> float:
    """One run, a jitted step at a time; its final train loss, all records being fetched at the end."""
    programs = _programs(task)
    loop = programs.loop
    order = batch_indices(seed, len(loop.train[1]), task.batch_size, 0, task.steps)
    params = programs.begin(seed)
    records = []
    for start, stop in pairwise((0, *task.record_steps)):
        params = replace(loop, params=params).train_run(learning_rate, order[start:stop])
        records.append(programs.record(params, loop.probe, programs.held_out))
    return float(jax.device_get(records)[-1][0])
