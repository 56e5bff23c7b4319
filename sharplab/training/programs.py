"""The programs of a run batch: runs of one compiled shape that train beside each other on the devices.

Each takes the layout as a static argument and the numbers of its recipe as any other, so that run batches of one shape
share it whatever their parameterization.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sharplab.core.loops import Loop, choose_loop, dispatch
from sharplab.core.tree import PyTree
from sharplab.data import load_dataset
from sharplab.losses import LOSSES
from sharplab.tracking.measurement import TrackerState
from sharplab.training.layout import DeviceLayout
from sharplab.training.network import Variables
from sharplab.training.recipe import Recipe, RunState
from sharplab.training.task import Task


def choose_layout(recipe: Recipe, runs: int) -> DeviceLayout:
    """One run per device on CPUs, where wider products fill the cores by themselves; else all runs at once."""
    devices = tuple(jax.local_devices())
    if devices[0].platform == "cpu":
        return DeviceLayout(devices, 1)
    return DeviceLayout(devices, -(-runs // len(devices)))


@partial(jax.jit, static_argnums=1)
def begin(recipe: Recipe, layout: DeviceLayout, seeds: jax.Array, absent: jax.Array) -> RunState:
    """Runs at their start; those that are `absent` only fill up the run batch."""

    def one(seed: jax.Array, absent: jax.Array, recipe: Recipe) -> RunState:
        run = recipe.begin(seed)
        # A filler counts as diverged from the start, and so costs nothing.
        return run._replace(diverged_step=jnp.where(absent, 0, run.diverged_step))

    return layout.map(one, (seeds, absent), (recipe,), one_by_one=True)


@partial(jax.jit, static_argnums=1)
def init_trackers(recipe: Recipe, layout: DeviceLayout, runs: RunState, probe: PyTree) -> TrackerState:
    """The trackers before the first record of runs."""

    def one(run: RunState, recipe: Recipe, probe: PyTree) -> TrackerState:
        return recipe.init_tracker(run, probe)

    return layout.map(one, (runs,), (recipe, probe), one_by_one=True)


@partial(jax.jit, static_argnums=1)
def advance(
    recipe: Recipe,
    layout: DeviceLayout,
    runs: RunState,
    rates: ArrayLike,
    order: ArrayLike,
    first: ArrayLike,
    train: PyTree,
    stop: ArrayLike,
) -> RunState:
    """Runs trained up to step `stop`, on rows of `train` in their order from step `first`, (runs, steps, batch)."""

    def one(run: RunState, rate: jax.Array, order: jax.Array, recipe: Recipe, *rest: Any) -> RunState:
        return recipe.advance(run, rate, order, *rest)

    return layout.map(one, (runs, rates, order), (recipe, train, stop, first))


def advance_dispatched(
    recipe: Recipe,
    layout: DeviceLayout,
    runs: RunState,
    rates: ArrayLike,
    order: np.ndarray,
    first: np.int32,
    train: PyTree,
    stop: np.int32,
) -> RunState:
    """As `advance`, with each step a program of its own."""
    start = int(np.asarray(runs.step)[0])
    order = order[:, start - first :]
    if (np.asarray(runs.diverged_step) >= 0).all():
        return runs._replace(step=runs.step + (stop - start))
    return dispatch(lambda state, i: step(recipe, layout, state, rates, order[:, i], train), runs, int(stop) - start)


@partial(jax.jit, static_argnums=1)
def step(
    recipe: Recipe, layout: DeviceLayout, runs: RunState, rates: ArrayLike, rows: ArrayLike, train: PyTree
) -> RunState:
    """Runs one step on."""

    def one(run: RunState, rate: jax.Array, rows: jax.Array, recipe: Recipe, train: PyTree) -> RunState:
        return recipe.step(run, rate, jax.tree.map(lambda x: x[rows], train))

    return layout.map(one, (runs, rates, rows), (recipe, train))


@partial(jax.jit, static_argnums=1)
def observe(
    recipe: Recipe,
    layout: DeviceLayout,
    runs: RunState,
    trackers: TrackerState,
    seeds: jax.Array,
    rates: np.ndarray,
    probe: PyTree,
    held_out: PyTree,
) -> tuple[TrackerState, dict[str, jax.Array]]:
    """The observables, each of shape (runs,), and the trackers that the next record starts from."""

    def one(
        run: RunState, tracker: TrackerState, seed: jax.Array, rate: jax.Array, recipe: Recipe, *batches: PyTree
    ) -> tuple[TrackerState, dict[str, jax.Array]]:
        probe, held_out = batches
        return recipe.observe(run, tracker, seed, probe, held_out, rate)

    # Spectra one by one: vectorised, each run would wait for the slowest and copy its whole basis per step.
    return layout.map(one, (runs, trackers, seeds, rates), (recipe, probe, held_out), one_by_one=True)


def observe_dispatched(
    recipe: Recipe,
    layout: DeviceLayout,
    runs: RunState,
    trackers: TrackerState,
    seeds: jax.Array,
    rates: np.ndarray,
    probe: PyTree,
    held_out: PyTree,
) -> tuple[TrackerState, dict[str, jax.Array]]:
    """As `observe`, with each curvature product a program of its own."""
    recipe, probe, held_out = layout.replica((recipe, probe, held_out))
    observed = []
    for i, (run, tracker) in enumerate(layout.each((runs, trackers))):
        observed.append(recipe.observe(run, tracker, seeds[i], probe, held_out, rates[i], loop="python"))
    return layout.stack(observed)


def find_loop(recipe: Recipe, task: Task, train: PyTree) -> Loop:
    """How the gradients of a task's steps are best repeated."""
    inputs, targets = jax.tree.map(lambda x: jax.ShapeDtypeStruct((task.batch_size, *x.shape[1:]), x.dtype), train)
    if recipe.augment is not None:
        inputs = jax.eval_shape(recipe.prepare, inputs)  # as a step does with its batch
    network = recipe.network.abstract
    training = replace(recipe, observables=())
    return choose_loop(_gradient, training, network.params, network.variables, (inputs, targets))


def _gradient(recipe: Recipe, params: PyTree, variables: Variables, batch: PyTree) -> PyTree:
    return jax.grad(recipe.training_loss, has_aux=True)(params, variables, batch)


class Arrays(NamedTuple):
    """(prepared inputs, targets) on every device."""

    train: tuple[jax.Array, jax.Array]
    probe: tuple[jax.Array, jax.Array]
    held_out: tuple[jax.Array, jax.Array]


def place_arrays(recipe: Recipe, layout: DeviceLayout, task: Task) -> Arrays:
    """A task's data, prepared, on every device.

    Raises:
        ValueError: if the data, the probe, the network and the loss do not fit each other.
    """
    dataset = load_dataset(task.data)
    if task.probe_size > dataset.examples:
        raise ValueError(
            f"probe_size is {task.probe_size}: {task.data} has {dataset.examples} examples, give that or less."
        )
    inputs, targets = recipe.prepare(dataset.train_inputs), jax.tree.map(jnp.asarray, dataset.train_targets)
    rows = slice(task.probe_size) if dataset.probe is None else dataset.probe[: task.probe_size]
    probe = jax.tree.map(lambda x: x[rows], (inputs, targets))
    if task.loss in LOSSES:
        _require_fit(recipe, task, probe)
    if recipe.augment is not None:
        inputs = jnp.asarray(dataset.train_inputs)  # each batch is prepared after it is augmented
    held_out = (recipe.prepare(dataset.eval_inputs), jax.tree.map(jnp.asarray, dataset.eval_targets))
    return layout.replicate(Arrays((inputs, targets), probe, held_out))


def _require_fit(recipe: Recipe, task: Task, batch: PyTree) -> None:
    """ValueError unless the network's outputs are what the data's targets and a loss of the lab ask for."""
    inputs, targets = batch
    numbers = jnp.issubdtype(targets.dtype, jnp.floating)
    if numbers and task.loss == "cross_entropy":
        raise ValueError(f"loss 'cross_entropy' needs classes, and the targets of {task.data} are numbers.")
    network = recipe.network.abstract
    outputs = jax.eval_shape(Recipe.forward, recipe, network.params, inputs, network.variables)
    predictions = outputs.shape if numbers else outputs.shape[:-1]
    if predictions != targets.shape:
        raise ValueError(
            f"model {task.model!r} makes outputs of shape {outputs.shape} where {task.data} has targets of shape "
            f"{targets.shape}: choose a model for such data."
        )
    classes = load_dataset(task.data).classes
    if not numbers and outputs.shape[-1] < classes:
        raise ValueError(
            f"model {task.model!r} makes {outputs.shape[-1]} outputs where {task.data} has {classes} classes: let it "
            "make as many."
        )


@partial(jax.jit, static_argnums=0)
def place_runs(layout: DeviceLayout, stacked: tuple[Any, ...]) -> Any:
    """Put runs from the host where `begin` has them."""
    return layout.map(lambda *run: run, stacked, ())
