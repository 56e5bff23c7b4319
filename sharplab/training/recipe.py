"""One run as pure functions: how it begins, steps, advances, and is measured."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.data import Augmentation
from sharplab.optimizers import Optimizer, step_metric
from sharplab.scaling import ROLES
from sharplab.scaling.rule import Number
from sharplab.spectrum.unit_balls import Matrices, UnitBall
from sharplab.tracking.measurement import Measurement, TrackerState
from sharplab.tracking.observables import find_observables
from sharplab.training.network import Network, Variables
from sharplab.training.sources import UNKNOWN, Scaled

DIVERGED_MULTIPLE = 100.0  # of a run's first loss; catapults of large learning rates stay well below
FITTED_SHARE = 1e-3  # of it, up to which a gradient of 0 is that of a batch which is fitted
DEAD_EXAMPLES = 64  # in a row that move nothing; for one or a few all units of a narrow network may be off
TRAINABLE: Mapping[str, tuple[str, ...]] = {"all": (*ROLES, "tied", UNKNOWN), "readout": ("output", "scalar")}


class RunState(NamedTuple):
    """Everything that a run carries from step to step."""

    params: PyTree
    variables: Variables
    opt_state: PyTree
    step: jax.Array
    first_loss: jax.Array
    diverged_step: jax.Array  # -1 while it has not
    idle: jax.Array  # examples in a row, up to the last, of batches whose gradient was 0 without being fitted
    seed: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["network", "schedule"],
    meta_fields=["loss", "optimizer", "observables", "probe_chunk", "trainable", "augment"],
)
@dataclass(frozen=True)
class Recipe:
    """The functions of a task, without data: a pytree of the numbers of parameterization and schedule.

    Compiled programs take it as an argument, and tasks that differ by such numbers alone share them.

    Attributes:
        network: what is trained.
        loss: (outputs, targets) → the mean over examples.
        optimizer: the update rule.
        observables: what is recorded.
        probe_chunk: how many examples curvature takes at a time; all at once where it is None.
        trainable: a key of `TRAINABLE`.
        augment: what is done to training batches.
        schedule: step → factor in front of the learning rate, a pytree as `tabulated` makes it; None for 1.
    """

    network: Network
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    optimizer: Optimizer
    observables: tuple[str, ...]
    probe_chunk: int | None = None
    trainable: str = "all"
    augment: Augmentation | None = None
    schedule: optax.Schedule | None = None

    def init_params(self, seed: jax.Array) -> PyTree:
        """The initial parameters that belong to a seed, a scalar integer array."""
        return self.network.init(seed)[0]

    def forward(self, params: PyTree, prepared: PyTree, state: Variables | None = None) -> jax.Array:
        """Outputs for inputs that `prepare` has seen, without dropout."""
        return self.network.forward(params, prepared, state)

    def evaluate(self, params: PyTree, prepared: PyTree, state: Variables | None = None) -> jax.Array:
        """Outputs in the mode of evaluation."""
        return self.network.evaluate(params, prepared, state)

    def prepare(self, inputs: jax.typing.ArrayLike) -> jax.Array:
        """What the network does to inputs without any parameter, to be done once per data set."""
        return _prepare(self.network, inputs)

    def factors(self) -> PyTree:
        """The learning-rate factor of each parameter, scalars like the parameters; 0 for what is not trained."""
        trained = TRAINABLE[self.trainable]
        if not any(jax.tree.leaves(self._scaled(lambda of: of.role in trained))):
            raise ValueError(f"trainable={self.trainable!r} leaves nothing of this model to train.")
        return self._scaled(lambda of: of.lr_factor if of.role in trained else 0.0)

    def decays(self) -> PyTree:
        """By what each parameter's decay η · decay · w is multiplied; 0 for what is not trained."""
        return self._scaled(lambda of: of.decay_factor if of.role in TRAINABLE[self.trainable] else 0.0)

    def gradient_scales(self) -> PyTree:
        """By what each parameter's gradient is divided before the optimizer sees it, scalars like the parameters."""
        return self._scaled(lambda of: of.gradient_scale)

    def direction(self) -> optax.GradientTransformation:
        """The optimizer's, for the parameters of this network."""
        kinds = self._scaled(lambda of: self.optimizer.kind(of.role))
        return self.network.source.direction(self.optimizer, kinds)

    def _scaled(self, value: Callable[[Scaled], Any]) -> PyTree:
        return jax.tree.map(value, self.network.scaled(self.optimizer), is_leaf=lambda x: isinstance(x, Scaled))

    def measurement(self) -> Measurement:
        """The recipe's records."""
        metric = None if self.optimizer.preconditioner is None else self.metric
        geometry = self.geometry if self.optimizer.norms else None
        # Statistics over the batch make a loss that is no mean over chunks.
        chunk = None if self.network.abstract.examples_interact else self.probe_chunk
        # The network is a leaf of its functions, so that they can be arguments of compiled products.
        forward = Partial(type(self.network).forward, self.network)
        evaluate = Partial(type(self.network).evaluate, self.network) if self.network.abstract.changes else None
        observables = find_observables(self.observables)
        return Measurement(self.loss, observables, forward, metric, chunk, evaluate, self.step_at, geometry)

    def metric(self, params: PyTree, opt_state: PyTree) -> PyTree:
        """D of the optimizer at this point."""
        return step_metric(self.optimizer, self.factors(), self.gradient_scales(), opt_state)

    def geometry(self, params: PyTree, opt_state: PyTree) -> tuple[UnitBall, PyTree]:
        """The ball that normalised steps go to the surface of, and their factors, like the parameters; 0 for others."""
        kinds = self._scaled(lambda of: self.optimizer.kind(of.role))
        norms, axes = self.optimizer.norms, self.network.source.matrices()

        def leaf(path: str, kind: str) -> Matrices | None:
            return Matrices(*axes.get(path, ((0,), (1,)))) if norms.get(kind) == "spectral" else None

        paths = tree.named_leaves(params)
        ball = UnitBall(tuple(map(leaf, paths, jax.tree.leaves(kinds))))
        return ball, jax.tree.map(lambda kind, factor: factor if kind in norms else 0.0, kinds, self.factors())

    def step_at(self, gradient: PyTree, params: PyTree, opt_state: PyTree) -> PyTree:
        """The update at learning rate 1 that the optimizer makes of a gradient at this point, like the parameters."""
        return _step_at(self, gradient, params, opt_state)

    def _scheduled(self, learning_rate: jax.typing.ArrayLike, step: jax.Array) -> jax.typing.ArrayLike:
        return learning_rate if self.schedule is None else learning_rate * self.schedule(step)

    def _moves(self, gradient: PyTree, params: PyTree, opt_state: PyTree) -> tuple[PyTree, PyTree]:
        """What is subtracted from the parameters at learning rate 1, and the optimizer's next state."""
        scaled = jax.tree.map(lambda g, scale: g / scale, gradient, self.gradient_scales())
        direction, opt_state = self.direction().update(scaled, opt_state, params)
        decay = self.optimizer.decay

        def move(w: jax.Array, u: jax.Array, factor: Number, share: Number) -> jax.Array:
            return factor * u + (share * decay * w if decay else 0)

        return jax.tree.map(move, params, direction, self.factors(), self.decays()), opt_state

    def objective(self, params: PyTree, batch: PyTree, state: Variables | None = None) -> jax.Array:
        """The loss of one batch of prepared inputs and targets, without dropout."""
        inputs, targets = batch
        return self.loss(self.forward(params, inputs, state), targets)

    def training_loss(self, params: PyTree, variables: Variables, batch: PyTree) -> tuple[jax.Array, Variables]:
        """The loss of one batch in the mode of training, and the variables that it leaves."""
        inputs, targets = batch
        outputs, after = self.network.train(params, inputs, variables)
        return self.loss(outputs, targets), after

    def begin(self, seed: jax.typing.ArrayLike) -> RunState:
        """A run at step 0."""
        params, variables = self.network.init(seed)
        return RunState(
            params,
            variables,
            self.direction().init(params),
            jnp.zeros((), jnp.int32),
            jnp.full((), jnp.inf, tree.dtype(params)),
            jnp.full((), -1, jnp.int32),
            jnp.zeros((), jnp.int32),
            jnp.asarray(seed, jnp.int32),
        )

    def step(self, run: RunState, learning_rate: jax.typing.ArrayLike, batch: PyTree) -> RunState:
        """One update, pure. A run that has diverged stays as it is."""
        after, loss, gradient = self.update(run, learning_rate, batch)
        first_loss = jnp.where(run.step == 0, loss, run.first_loss).astype(run.first_loss.dtype)
        # A gradient of exactly 0 is what a step too large leaves of a ReLU network: every unit dead, for good. One that
        # fits its examples to the last digit has it too, at a loss of nearly 0; so has one all of whose units are off
        # for the few examples of a small batch, which others wake.
        largest = _largest(gradient)
        idles = (largest == 0) & (loss > FITTED_SHARE * abs(first_loss))
        idle = jnp.where(idles, run.idle + len(jax.tree.leaves(batch)[0]), 0)
        bounded = jnp.isfinite(loss) & (loss <= DIVERGED_MULTIPLE * abs(first_loss)) & ~jnp.isnan(largest)
        alive = (run.diverged_step < 0) & bounded & (idle < DEAD_EXAMPLES)
        return RunState(
            tree.where(alive, after.params, run.params),
            tree.where(alive, after.variables, run.variables),
            tree.where(alive, after.opt_state, run.opt_state),
            after.step,
            first_loss,
            jnp.where(alive | (run.diverged_step >= 0), run.diverged_step, run.step),
            idle,
            run.seed,
        )

    def update(
        self, run: RunState, learning_rate: jax.typing.ArrayLike, batch: PyTree
    ) -> tuple[RunState, jax.Array, PyTree]:
        """One update whether or not the run diverges, of which no note is taken; the loss and gradient before it."""
        if self.augment is not None:
            images, targets = batch
            key = jax.random.fold_in(jax.random.key(run.seed), run.step)
            batch = (self.prepare(self.augment(key, images)), targets)
        learning_rate = self._scheduled(learning_rate, run.step)
        (loss, variables), gradient = jax.value_and_grad(self.training_loss, has_aux=True)(
            run.params, run.variables, batch
        )
        moves, opt_state = self._moves(gradient, run.params, run.opt_state)
        params = jax.tree.map(lambda w, move: (w - learning_rate * move).astype(w.dtype), run.params, moves)
        after = run._replace(params=params, variables=variables, opt_state=opt_state, step=run.step + 1)
        return after, loss, gradient

    def advance(
        self,
        run: RunState,
        learning_rate: jax.Array,
        order: jax.Array,
        train: PyTree,
        stop: jax.Array,
        first: jax.typing.ArrayLike = 0,
    ) -> RunState:
        """Steps up to `stop` in a compiled loop; `order` (…, batch) indexes the examples of each step from `first`."""

        def one(run: RunState) -> RunState:
            batch = jax.tree.map(lambda x: x[order[run.step - first]], train)
            return self.step(run, learning_rate, batch)

        run = repeat_while(lambda run: (run.step < stop) & (run.diverged_step < 0), one, run)
        return run._replace(step=stop)

    def init_tracker(self, run: RunState, probe: PyTree) -> TrackerState:
        """The tracker before the first record of a run."""
        return self.measurement().init(run.params, probe, run.variables if self.network.abstract.changes else None)

    def observe(
        self,
        run: RunState,
        tracker: TrackerState,
        seed: jax.Array,
        probe: PyTree,
        held_out: PyTree,
        learning_rate: jax.typing.ArrayLike = math.nan,
        *,
        loop: Loop = "compiled",
    ) -> tuple[TrackerState, dict[str, jax.Array]]:
        """A record of the run as it stands, at a base learning rate; NaN for one that has diverged."""
        alive = run.diverged_step < 0
        params = jax.tree.map(lambda w: jnp.where(alive, w, jnp.nan), run.params)
        key = jax.random.key(seed)
        state = run.variables if self.network.abstract.changes else None
        return self.measurement().observe(
            tracker,
            probe,
            held_out,
            params,
            run.opt_state,
            key,
            loop=loop,
            model_state=state,
            learning_rate=self._scheduled(learning_rate, run.step),
        )


def _largest(gradient: PyTree) -> jax.Array:
    """The largest modulus of any entry, which does not underflow as a norm does; NaN if one is."""
    return jax.tree.reduce(jnp.maximum, jax.tree.map(lambda g: jnp.max(jnp.abs(g), initial=0), gradient))


@jax.jit
def _prepare(network: Network, inputs: jax.Array) -> jax.Array:
    return network.prepare(inputs)


@jax.jit
def _step_at(recipe: Recipe, gradient: PyTree, params: PyTree, opt_state: PyTree) -> PyTree:
    return jax.tree.map(jnp.negative, recipe._moves(gradient, params, opt_state)[0])
