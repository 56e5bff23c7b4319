"""A user's network at one small width, under muP: every learning rate and every seed by one compiled program.

The steps of each named optimizer are proportional to its learning rate, decoupled decay included: the updates of
`Scaling.optimizer(1.0)` are multiplied by a learning rate that the program takes as an input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.checks.trainee import Build, Loss, Network, TraineeState, gradient_at, objective, split
from sharplab.core.loops import Loop, choose_loop, dispatch, repeat_while
from sharplab.core.tree import PyTree, where
from sharplab.data import batch_indices
from sharplab.scaling.any_module import mup
from sharplab.scaling.scaled import Scaling
from sharplab.studies.suggest_lr.settings import StudySettings
from sharplab.training.recipe import DIVERGED_MULTIPLE

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


class Run(NamedTuple):
    """The state of a network in training; of several networks, leaves have a leading axis of seeds."""

    trainee: TraineeState
    first_loss: jax.Array  # NaN before the first step
    diverged: jax.Array


@dataclass(frozen=True, eq=False)
class SmallNetwork:
    """The network of one width, ready to train: made by `prepare`.

    Attributes:
        start: the seeds' networks before their first step.
        orders: the examples of each seed's steps, shape (seeds, steps, batch size), the same at every learning rate.
        loop: "compiled" trains the seeds side by side, "python" one after another, a step at a time.
    """

    width: int
    scaling: Scaling
    network: Network
    loss: Loss
    start: Run
    orders: jax.Array
    examples: Examples
    loop: Loop

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return self.orders.shape[0]

    def train(self, learning_rate: float, steps: int) -> np.ndarray:
        """The seeds' final losses after so many steps, shape (seeds,); inf where one diverged."""
        return self.final_loss(self.advance(self.start, learning_rate, 0, steps))

    def advance(self, runs: Run, learning_rate: float, start: int, stop: int) -> Run:
        """The runs trained from step `start` to `stop`; a network that diverges on the way stays as it is."""
        if self.loop == "compiled":
            return _advance(self.network, self.loss, runs, learning_rate, self.orders, self.examples.train, start, stop)
        ended = [self._advance_one(self.one(runs, i), learning_rate, i, start, stop) for i in range(self.seeds)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *ended)

    def _advance_one(self, run: Run, learning_rate: float, seed: int, start: int, stop: int) -> Run:
        order = self.orders[seed]
        for first in range(start, stop, CHECK_EVERY):

            def step(run: Run, i: int, first: int = first) -> Run:
                return _step(self.network, self.loss, run, learning_rate, order, self.examples.train, first + i)

            run = dispatch(step, run, min(CHECK_EVERY, stop - first))
            if run.diverged:
                break
        return run

    def one(self, runs: Run, seed: int) -> Run:
        """The run of one seed."""
        return _take(runs, seed)

    def final_loss(self, runs: Run) -> np.ndarray:
        """The final losses on the evaluation examples, in evaluation mode, shape (seeds,); inf where diverged."""
        evaluate = _evaluate if self.loop == "compiled" else _evaluate_one_by_one
        batches = [evaluate(self.network, self.loss, runs.trainee, batch) for batch in self.examples.evaluation]
        losses = np.mean([np.asarray(batch, float) for batch in batches], axis=0)
        first, diverged = np.asarray(runs.first_loss), np.asarray(runs.diverged)
        sound = ~diverged & np.isfinite(losses) & ~(losses > DIVERGED_MULTIPLE * first)
        return np.where(sound, losses, np.inf)


def prepare(build: Build, examples: Examples, settings: StudySettings, width: int) -> SmallNetwork:
    """The network of one width, scaled by `sharplab.mup` and drawn from each seed.

    Raises:
        ValueError: where muP cannot be told for this module, or it has nothing to train.
    """
    loss, seeds = settings.loss, settings.seeds
    scaling = mup(build, base=settings.base, width=width, optimizer=settings.optimizer)
    transformation, graphdef, states = scaling.optimizer(1.0), None, []
    for seed in range(seeds):
        drawn, (params, randomness, rest) = split(scaling.init(jax.random.key(seed)))
        graphdef = graphdef or drawn  # all seeds share one graph, and so one compiled program
        states.append(TraineeState(params, randomness, rest, transformation.init(params)))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    start = Run(stacked, jnp.full(seeds, jnp.nan), jnp.zeros(seeds, bool))
    orders = [batch_indices(seed, examples.count, examples.batch_size, 0, settings.steps) for seed in range(seeds)]
    assert graphdef is not None
    network = Network(graphdef, transformation)
    batch = _take(examples.train, slice(examples.batch_size))
    loop = choose_loop(partial(gradient_at, network, loss), states[0], batch)
    return SmallNetwork(width, scaling, network, loss, start, jnp.asarray(np.stack(orders)), examples, loop)


def _update(network: Network, loss: Loss, run: Run, learning_rate: jax.Array, batch: Any) -> Run:
    """The run after one update, or as it is where the loss tells that the network has diverged."""
    before = run.trainee
    (value, changed), gradient = jax.value_and_grad(objective, has_aux=True)(
        before.params, network, loss, before, batch
    )
    first_loss = jnp.where(jnp.isnan(run.first_loss), value, run.first_loss)
    diverged = run.diverged | ~(jnp.isfinite(value) & (value <= DIVERGED_MULTIPLE * first_loss))
    updates, opt_state = network.transformation.update(gradient, before.opt_state, before.params)
    params = jax.tree.map(lambda w, u: (w + learning_rate * u).astype(w.dtype), before.params, updates)
    after = changed._replace(params=params, opt_state=opt_state)
    return Run(where(diverged, before, after), first_loss, diverged)


def _take(data: PyTree, chosen: Any) -> PyTree:
    return jax.tree.map(lambda x: x[chosen], data)


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    network: Network,
    loss: Loss,
    runs: Run,
    learning_rate: jax.Array,
    orders: jax.Array,
    data: PyTree,
    start: jax.Array,
    stop: jax.Array,
) -> Run:
    def unfinished(state: tuple[jax.Array, Run]) -> jax.Array:
        step, runs = state
        return (step < stop) & ~runs.diverged.all()

    def one(state: tuple[jax.Array, Run]) -> tuple[jax.Array, Run]:
        step, runs = state
        update = partial(_update, network, loss)
        return step + 1, jax.vmap(lambda run, order: update(run, learning_rate, _take(data, order[step])))(runs, orders)

    return repeat_while(unfinished, one, (start, runs))[1]


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    network: Network, loss: Loss, run: Run, learning_rate: jax.Array, order: jax.Array, data: PyTree, i: jax.Array
) -> Run:
    return _update(network, loss, run, learning_rate, _take(data, order[i]))


def _loss_of(network: Network, loss: Loss, trainee: TraineeState, batch: Any) -> jax.Array:
    inputs, targets = batch
    model = network.model(trainee)
    model.eval()
    return loss(model(inputs), targets)


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate(network: Network, loss: Loss, trainees: TraineeState, batch: Any) -> jax.Array:
    return jax.vmap(lambda trainee: _loss_of(network, loss, trainee, batch))(trainees)


_evaluate_one = jax.jit(_loss_of, static_argnums=(0, 1))


def _evaluate_one_by_one(network: Network, loss: Loss, trainees: TraineeState, batch: Any) -> np.ndarray:
    seeds = range(len(jax.tree.leaves(trainees.params)[0]))
    return np.array([_evaluate_one(network, loss, _take(trainees, seed), batch) for seed in seeds])
