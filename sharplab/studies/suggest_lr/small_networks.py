"""A user's network at one small width, under muP: every learning rate and every seed by one compiled program."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.checks.trainee import Build
from sharplab.core.loops import Loop, choose_loop, dispatch
from sharplab.core.tree import PyTree
from sharplab.data import batch_indices
from sharplab.optimizers import find_optimizer
from sharplab.scaling.any_module import mup
from sharplab.studies.suggest_lr.settings import StudySettings
from sharplab.training.network import Network, by_roles
from sharplab.training.recipe import DIVERGED_MULTIPLE, Recipe, RunState

MOST_EVALUATED = 2048  # examples of the final loss
CHECK_EVERY = 32  # steps after which the host checks whether a network trained by the loop in Python has diverged


@dataclass(frozen=True)
class Examples:
    """The data that all widths train on; leaves of `train` and of each batch have a leading axis of examples.

    Attributes:
        train: (inputs, targets).
        evaluation: batches of equal size, on which the final loss is measured.
        batch_size: the examples of a training step.
    """

    train: PyTree
    evaluation: tuple[PyTree, ...]
    batch_size: int

    @property
    def count(self) -> int:
        """The number of training examples."""
        return _count(self.train)


def make_examples(data: Any, held_out: Any | None, batch_size: int) -> Examples:
    """The training data, and up to 2,048 examples of `held_out`, or else of `data`, to evaluate on.

    Raises:
        ValueError: for data that are no pair of arrays with equally many examples, or fewer than a batch.
    """
    train = _checked("data", data, batch_size)
    evaluated = train if held_out is None else _checked("held_out", held_out, 1)
    count = _count(evaluated)
    size = min(batch_size, count)
    order = np.random.default_rng(0).permutation(count)[: min(count, MOST_EVALUATED) // size * size]
    return Examples(train, tuple(_take(evaluated, part) for part in order.reshape(-1, size)), batch_size)


def _checked(name: str, data: Any, least: int) -> PyTree:
    if not isinstance(data, Sequence) or len(data) != 2:
        raise ValueError(f"{name} must be a pair (inputs, targets) of arrays, examples along their first axis.")
    arrays = jax.tree.map(jnp.asarray, tuple(data))
    lengths = {x.shape[0] if x.ndim else 0 for x in jax.tree.leaves(arrays)}
    if len(lengths) != 1:
        raise ValueError(f"{name} must hold as many targets as inputs, not {sorted(lengths)} along the first axes.")
    if _count(arrays) < least:
        raise ValueError(f"batch_size is {least} with {_count(arrays)} examples in {name}: give a smaller one.")
    return arrays


def _count(data: PyTree) -> int:
    return jax.tree.leaves(data)[0].shape[0]


@dataclass(frozen=True, eq=False)
class SmallNetwork:
    """The network of one width, ready to train: made by `prepare`.

    Attributes:
        start: the seeds' runs before their first step; leaves of runs have a leading axis of seeds.
        orders: the examples of each seed's steps, shape (seeds, steps, batch size), the same at every learning rate.
        loop: "compiled" trains the seeds side by side, "python" one after another, a step at a time.
    """

    width: int
    recipe: Recipe
    start: RunState
    orders: jax.Array
    examples: Examples
    loop: Loop

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return self.orders.shape[0]

    def train(self, learning_rate: float, steps: int) -> np.ndarray:
        """The seeds' final losses after so many steps, shape (seeds,); inf where one diverged."""
        return self.final_loss(self.advance(self.start, learning_rate, steps))

    def advance(self, runs: RunState, learning_rate: float, stop: int) -> RunState:
        """The runs trained up to step `stop`; one that diverges on the way stays as it is."""
        if self.loop == "compiled":
            return _advance(self.recipe, runs, learning_rate, self.orders, self.examples.train, np.int32(stop))
        ended = [
            self._advance_one(self.one(runs, seed), learning_rate, self.orders[seed], stop)
            for seed in range(self.seeds)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *ended)

    def _advance_one(self, run: RunState, learning_rate: float, order: jax.Array, stop: int) -> RunState:
        def step(run: RunState, _: int) -> RunState:
            return _step(self.recipe, run, learning_rate, order, self.examples.train)

        for first in range(int(run.step), stop, CHECK_EVERY):
            run = dispatch(step, run, min(CHECK_EVERY, stop - first))
            if run.diverged_step >= 0:
                break
        return run._replace(step=jnp.asarray(stop, run.step.dtype))

    def one(self, runs: RunState, seed: int) -> RunState:
        """The run of one seed."""
        return _take(runs, seed)

    def final_loss(self, runs: RunState) -> np.ndarray:
        """The final losses on the evaluation examples, in evaluation mode, shape (seeds,); inf where diverged."""
        evaluate = _evaluate if self.loop == "compiled" else _evaluate_one_by_one
        batches = [evaluate(self.recipe, runs, batch) for batch in self.examples.evaluation]
        losses = np.mean([np.asarray(batch, float) for batch in batches], axis=0)
        first, diverged = np.asarray(runs.first_loss), np.asarray(runs.diverged_step) >= 0
        sound = ~diverged & np.isfinite(losses) & ~(losses > DIVERGED_MULTIPLE * abs(first))
        return np.where(sound, losses, np.inf)


def prepare(build: Build, examples: Examples, settings: StudySettings, width: int) -> SmallNetwork:
    """The network of one width, scaled by `sharplab.mup` and drawn from each seed.

    Raises:
        ValueError: where muP cannot be told for this module, or it has nothing to train.
    """
    optimizer = find_optimizer(settings.optimizer) if isinstance(settings.optimizer, str) else settings.optimizer
    scaling = mup(build, base=settings.base, width=width, optimizer=settings.optimizer)
    network = Network(by_roles(scaling, optimizer))
    recipe = Recipe(network, settings.loss, optimizer, ())
    seeds = range(settings.seeds)
    start = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(recipe.begin, seeds))
    orders = [batch_indices(seed, examples.count, examples.batch_size, 0, settings.steps) for seed in seeds]
    gradient = jax.grad(recipe.training_loss, has_aux=True)
    batch = _take(examples.train, slice(examples.batch_size))
    loop = choose_loop(gradient, network.abstract.params, network.abstract.variables, batch)
    return SmallNetwork(width, recipe, start, jnp.asarray(np.stack(orders)), examples, loop)


def _take(data: PyTree, chosen: Any) -> PyTree:
    return jax.tree.map(lambda x: x[chosen], data)


@partial(jax.jit, static_argnums=0)
def _advance(
    recipe: Recipe, runs: RunState, learning_rate: jax.Array, orders: jax.Array, data: PyTree, stop: jax.Array
) -> RunState:
    def one(run: RunState, order: jax.Array) -> RunState:
        # `Recipe.advance` counts the rows from the step at which it begins.
        return recipe.advance(run, learning_rate, jnp.roll(order, -run.step, axis=0), data, stop)

    return jax.vmap(one)(runs, orders)


@partial(jax.jit, static_argnums=0)
def _step(recipe: Recipe, run: RunState, learning_rate: jax.Array, order: jax.Array, data: PyTree) -> RunState:
    return recipe.step(run, learning_rate, _take(data, order[run.step]))


def _loss_of(recipe: Recipe, run: RunState, batch: Any) -> jax.Array:
    inputs, targets = batch
    return recipe.loss(recipe.evaluate(run.params, inputs, run.variables), targets)


@partial(jax.jit, static_argnums=0)
def _evaluate(recipe: Recipe, runs: RunState, batch: Any) -> jax.Array:
    return jax.vmap(lambda run: _loss_of(recipe, run, batch))(runs)


_evaluate_one = jax.jit(_loss_of, static_argnums=0)


def _evaluate_one_by_one(recipe: Recipe, runs: RunState, batch: Any) -> np.ndarray:
    return np.array([_evaluate_one(recipe, _take(runs, seed), batch) for seed in range(len(runs.step))])
