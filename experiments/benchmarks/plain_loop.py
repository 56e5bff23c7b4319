"""The loop that a researcher would write by hand, against which the lab is timed.

One jitted SGD step dispatched per step, one learning rate after another, and a sharpness record of ten power
iterations from a random vector, each a jitted Hessian-vector product `jax.jvp(jax.grad(...))`. Two favours are done
to it: a step gathers its own batch from arrays on the device, and a power iteration is one program.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.tree import PyTree
from sharplab.data import batch_indices, load_dataset
from sharplab.training.recipe import Recipe
from sharplab.training.task import Run, Task, find_recipe
from sharplab.training.train import train_runs

POWER_ITERATIONS = 10


@dataclass(frozen=True)
class PlainLoop:
    """The task written by hand: its arrays and its jitted functions."""

    params: PyTree
    train: PyTree  # (inputs, targets) of all training examples
    probe: PyTree
    step: Callable[..., PyTree]  # params, learning rate, rows of the batch, train → params
    iterate: Callable[..., tuple[jax.Array, PyTree]]  # params, unit vector, probe → Rayleigh quotient, next vector

    def train_run(self, learning_rate: float, order: jax.Array) -> PyTree:
        """The parameters after one step per row of `order`."""
        params = self.params
        for rows in order:
            params = self.step(params, learning_rate, rows, self.train)
        return params

    def record(self, params: PyTree, key: jax.Array) -> jax.Array:
        """The effective sharpness by power iteration."""
        vector = tree.normal(key, params)
        vector = tree.scale(1 / tree.norm(vector), vector)
        for _ in range(POWER_ITERATIONS):
            value, vector = self.iterate(params, vector, self.probe)
        return value


def lab_seconds(task: Task, runs: Sequence[Run]) -> float:
    """Wall time of all runs by the lab, without the placing of the data.

    Raises:
        ValueError: if a run diverged, which would cost too little.
    """
    results = [result for run_batch in train_runs(task, list(runs)) for result in run_batch]
    if any(result.diverged for result in results):
        raise ValueError(f"a run of {task.model}, width {task.width}, diverged: give smaller learning rates.")
    return sum(result.seconds for result in results)


def same_model(recipe: Recipe, images: jax.Array, targets: jax.Array, probe_size: int) -> PlainLoop:
    """The loop by hand, with the lab's own model code and prepared inputs."""
    params = recipe.init_params(jnp.zeros((), jnp.int32))
    factors, inputs = recipe.factors(), recipe.prepare(images)
    roots = jax.tree.map(lambda factor: factor**0.5, factors)

    @jax.jit
    def step(params: PyTree, learning_rate: float, rows: jax.Array, train: PyTree) -> PyTree:
        gradient = jax.grad(recipe.objective)(params, jax.tree.map(lambda x: x[rows], train))
        return jax.tree.map(lambda w, g, factor: w - learning_rate * factor * g, params, gradient, factors)

    @jax.jit
    def iterate(params: PyTree, vector: PyTree, probe: PyTree) -> tuple[jax.Array, PyTree]:
        scaled = jax.tree.map(jnp.multiply, roots, vector)
        product = jax.jvp(lambda w: jax.grad(recipe.objective)(w, probe), (params,), (scaled,))[1]
        product = jax.tree.map(jnp.multiply, roots, product)
        return tree.dot(vector, product), tree.scale(1 / tree.norm(product), product)

    return PlainLoop(params, (inputs, targets), (inputs[:probe_size], targets[:probe_size]), step, iterate)


def train_by_hand(task: Task, learning_rate: float, seed: int) -> float:
    """The final train loss of one run, a jitted step at a time; all records are fetched at the end.

    Records are of losses and accuracy. Programs and arrays of a task are made once per process.
    """
    loop, begin, record = _programs(task)
    order = batch_indices(seed, len(loop.train[1]), task.batch_size, 0, task.steps)
    params, records = begin(seed), []
    for start, stop in pairwise((0, *task.record_steps)):
        params = replace(loop, params=params).train_run(learning_rate, order[start:stop])
        records.append(record(params))
    return float(jax.device_get(records)[-1][0])


@lru_cache
def _programs(task: Task) -> tuple[PlainLoop, Callable[[int], PyTree], Callable[[PyTree], tuple[jax.Array, ...]]]:
    """The plain loop, seed → parameters, parameters → observables."""
    recipe, dataset = find_recipe(task), load_dataset(task.data)
    loop = same_model(recipe, dataset.train_inputs, jnp.asarray(dataset.train_targets), task.probe_size)
    held_out = (recipe.prepare(dataset.eval_inputs), jnp.asarray(dataset.eval_targets))

    @jax.jit
    def record(params: PyTree, probe: PyTree, held_out: PyTree) -> tuple[jax.Array, ...]:
        inputs, targets = held_out
        outputs = recipe.forward(params, inputs)
        accuracy = jnp.mean(jnp.argmax(outputs, axis=-1) == targets)
        return recipe.objective(params, probe), recipe.loss(outputs, targets), accuracy

    return loop, jax.jit(recipe.init_params), lambda params: record(params, loop.probe, held_out)
