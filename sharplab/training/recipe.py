"""One run of training as pure functions: how it begins, steps, advances, and is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from sharplab.core import tree
from sharplab.core.loops import Loop, repeat_while
from sharplab.core.tree import PyTree
from sharplab.data import Augmentation
from sharplab.optimizers import Optimizer, step_metric
from sharplab.scaling import ROLES, Rule
from sharplab.tracking.measurement import Measurement, TrackerState
from sharplab.tracking.observables import find_observables

DIVERGED_MULTIPLE = 100.0  # of a run's first loss; catapults of large learning rates stay well below
TRAINABLE: Mapping[str, tuple[str, ...]] = MappingProxyType({"all": tuple(ROLES), "readout": ("output", "scalar")})


class RunState(NamedTuple):
    """Everything that a run carries from step to step."""

    params: PyTree
    opt_state: PyTree
    step: jax.Array
    first_loss: jax.Array
    diverged_step: jax.Array  # -1 while it has not
    seed: jax.Array


@dataclass(frozen=True)
class Recipe:
    """The functions of a task, without data; equal tasks share one, and so their compiled programs."""

    model: Callable[..., Any]
    rule: Rule
    input_shape: tuple[int, ...]
    classes: int
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    optimizer: Optimizer
    observables: tuple[str, ...]
    probe_chunk: int | None = None  # examples that curvature takes at a time
    trainable: str = "all"
    augment: Augmentation | None = None  # of the training batches
    schedule: optax.Schedule | None = None  # step → factor in front of the learning rate; None for 1

    def build(self, rngs: nnx.Rngs) -> Any:
        """The network, freshly drawn."""
        return self.model(
            input_shape=self.input_shape,
            classes=self.classes,
            width=self.rule.width,
            depth=self.rule.depth.depth,
            rule=self.rule,
            rngs=rngs,
        )

    def init_params(self, seed: jax.Array) -> PyTree:
        """The initial parameters that belong to a seed, a scalar integer array."""
        params = nnx.split(self.build(nnx.Rngs(params=jax.random.key(seed))))[1]
        # Weak types, as of jnp.full(shape, 1.0), are lost with the first step: programs would be compiled twice.
        return jax.tree.map(lambda w: jax.lax.convert_element_type(w, w.dtype), params)

    def forward(self, params: PyTree, prepared: jax.Array) -> jax.Array:
        """Logits of inputs that `prepare` has seen."""
        return nnx.merge(self._graphdef, params).forward(prepared)

    def prepare(self, images: jax.typing.ArrayLike) -> jax.Array:
        """What of the network uses no parameter, done once."""
        return _prepare(self, images)

    def factors(self) -> PyTree:
        """The learning-rate factor of each parameter, plain floats like the parameters; 0 for what is not trained."""

        def factor(role: str, **place: Any) -> float:
            if role not in TRAINABLE[self.trainable]:
                return 0.0
            return float(self.rule.lr_factor(role, self.optimizer.kind(role), **place))

        factors = self._per_parameter(factor)
        if not any(jax.tree.leaves(factors)):
            raise ValueError(f"trainable={self.trainable!r} leaves nothing of this model to train.")
        return factors

    def gradient_scales(self) -> PyTree:
        """By what each parameter's gradient is divided before the optimizer sees it, plain floats."""

        def scale(role: str, **place: Any) -> float:
            return 1.0 if self.optimizer.kind(role) == "sgd" else float(self.rule.gradient_scale(role, **place))

        return self._per_parameter(scale)

    def direction(self) -> optax.GradientTransformation:
        """The optimizer's, for the parameters of this network."""
        return self.optimizer.direction(self._per_parameter(lambda role, **place: self.optimizer.kind(role)))

    def _per_parameter(self, value: Callable[..., Any]) -> PyTree:
        """value(role, in_branch=, unit=) of each parameter, like the parameters."""

        def of(variable: nnx.Variable) -> nnx.Variable:
            metadata = variable.get_metadata()
            if metadata.get("role") is None:
                raise ValueError("model has a parameter without role: declare it as nnx.Param(x, role=...).")
            in_branch, unit = metadata.get("in_branch", False), metadata.get("unit", 1.0)
            return variable.replace(value(metadata["role"], in_branch=in_branch, unit=unit))

        return jax.tree.map(of, self._abstract[1], is_leaf=lambda x: isinstance(x, nnx.Variable))

    @property
    def _graphdef(self) -> Any:
        return self._abstract[0]

    @property
    def _abstract(self) -> tuple[Any, PyTree, bool]:
        return _abstract(self)

    def measurement(self) -> Measurement:
        """The recipe's records."""
        metric = None if self.optimizer.preconditioner is None else self.metric
        # Statistics over the batch make a loss that is no mean over chunks.
        chunk = None if self._abstract[2] else self.probe_chunk
        return Measurement(self.loss, find_observables(self.observables), self.forward, metric, chunk)

    def metric(self, params: PyTree, opt_state: PyTree) -> PyTree:
        """D of the optimizer at this point."""
        return step_metric(self.optimizer, self.factors(), self.gradient_scales(), opt_state)

    def objective(self, params: PyTree, batch: PyTree) -> jax.Array:
        """The training loss of one batch of prepared inputs and targets."""
        inputs, targets = batch
        return self.loss(self.forward(params, inputs), targets)

    def begin(self, seed: jax.Array) -> RunState:
        """A run at step 0."""
        params = self.init_params(seed)
        return RunState(
            params,
            self.direction().init(params),
            jnp.zeros((), jnp.int32),
            jnp.full((), jnp.nan, tree.dtype(params)),
            jnp.full((), -1, jnp.int32),
            jnp.asarray(seed, jnp.int32),
        )

    def step(self, run: RunState, learning_rate: jax.Array, batch: PyTree) -> RunState:
        """One update, pure. A run that has diverged stays as it is."""
        if self.augment is not None:
            images, targets = batch
            key = jax.random.fold_in(jax.random.key(run.seed), run.step)
            batch = (_prepare(self, self.augment(key, images)), targets)
        if self.schedule is not None:
            learning_rate = learning_rate * self.schedule(run.step)
        loss, gradient = jax.value_and_grad(self.objective)(run.params, batch)
        first_loss = jnp.where(run.step == 0, loss, run.first_loss)
        # A gradient of exactly 0 is what a step too large leaves of a ReLU network: every unit dead, for good.
        sound = jnp.isfinite(loss) & (loss <= DIVERGED_MULTIPLE * first_loss) & (tree.norm(gradient) > 0)
        alive = (run.diverged_step < 0) & sound
        scaled = jax.tree.map(lambda g, scale: g / scale, gradient, self.gradient_scales())
        direction, opt_state = self.direction().update(scaled, run.opt_state, run.params)
        decay = self.optimizer.decay
        params = jax.tree.map(
            # What is not trained does not decay either.
            lambda w, u, factor: w - learning_rate * (factor * u + (decay * w if decay and factor else 0)),
            run.params,
            direction,
            self.factors(),
        )
        return RunState(
            tree.where(alive, params, run.params),
            tree.where(alive, opt_state, run.opt_state),
            run.step + 1,
            first_loss,
            jnp.where(alive | (run.diverged_step >= 0), run.diverged_step, run.step),
            run.seed,
        )

    def advance(
        self, run: RunState, learning_rate: jax.Array, order: jax.Array, train: PyTree, stop: jax.Array
    ) -> RunState:
        """Steps up to `stop` in a compiled loop; `order` (chunk, batch) indexes the examples of each step."""
        start = run.step

        def one(run: RunState) -> RunState:
            batch = jax.tree.map(lambda x: x[order[run.step - start]], train)
            return self.step(run, learning_rate, batch)

        run = repeat_while(lambda run: (run.step < stop) & (run.diverged_step < 0), one, run)
        return run._replace(step=stop)

    def observe(
        self,
        run: RunState,
        tracker: TrackerState,
        seed: jax.Array,
        probe: PyTree,
        held_out: PyTree,
        *,
        loop: Loop = "compiled",
    ) -> tuple[TrackerState, dict[str, jax.Array]]:
        """A record of the run as it stands; NaN for one that has diverged."""
        alive = run.diverged_step < 0
        params = jax.tree.map(lambda w: jnp.where(alive, w, jnp.nan), run.params)
        key = jax.random.key(seed)
        return self.measurement().observe(tracker, probe, held_out, params, run.opt_state, key, loop=loop)


@partial(jax.jit, static_argnums=0)
def _prepare(recipe: Recipe, images: jax.Array) -> jax.Array:
    return recipe.build(nnx.Rngs(0)).prepare(images)


@lru_cache(maxsize=256)
def _abstract(recipe: Recipe) -> tuple[Any, PyTree, bool]:
    """Graph, shapes of the parameters, and whether examples of a batch act on each other's outputs."""
    network = nnx.eval_shape(lambda: recipe.build(nnx.Rngs(0)))
    return *nnx.split(network), getattr(network, "examples_interact", False)
