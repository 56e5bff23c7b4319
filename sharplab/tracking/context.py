"""One point of a training run, and what several observables of it share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from sharplab.core import tree
from sharplab.core.loops import Loop
from sharplab.core.tree import PyTree
from sharplab.curvature.functions import objective as value_of
from sharplab.losses import output_hessian


@partial(jax.tree_util.register_dataclass, data_fields=("loss", "model"), meta_fields=())
@dataclass(frozen=True)
class Objective:
    """The loss of params on a batch: a pytree whose leaves are what loss and model hold beside their code.

    `loss` is `loss(params, batch)`, or with `model` `loss(outputs, targets)`.
    """

    loss: Partial
    model: Partial | None = None

    @classmethod
    def of(cls, loss: Callable[..., jax.Array], model: Callable[..., Any] | None) -> "Objective":
        """The objective of functions, which may be `Partial`s."""
        return cls(_as_partial(loss), None if model is None else _as_partial(model))

    def __call__(self, params: PyTree, batch: PyTree) -> jax.Array:
        """The mean loss over the examples of a batch, a scalar."""
        return _loss(self, params, batch)

    def gradient(self, params: PyTree, batch: PyTree) -> PyTree:
        """∇L on a batch, like the params."""
        return _gradient(self, params, batch)

    def evaluation(self, params: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """The scalars eval_loss and, for a model's outputs of classes, eval_accuracy, from one forward pass."""
        return _evaluation(self, params, batch)


def _as_partial(function: Callable[..., Any]) -> Partial:
    return function if isinstance(function, Partial) else Partial(function)


@dataclass(frozen=True, eq=False)
class Context:
    """What an observable is computed from.

    `gradient`, `update`, `root` and `evaluation` are computed when they are first asked for, and then shared by all
    observables of a record: ask outside of loops and other transforms.

    Attributes:
        loss: `loss(params, batch)`, or with `model` `loss(outputs, targets)`.
        model: `model(params, inputs)` → outputs; None where the loss takes params.
        eval_model: the same in the mode of evaluation.
        params: the point.
        probe: the batch of training examples.
        held_out: the held-out examples, or None.
        metric: D, like the params, whose leaves may be plain floats; None without one.
        chunk: how many examples curvature takes at a time; None for all.
        key: the random key of this record.
        loop: how products of an operator are repeated.
        weight: what each example of the probe counts in the loss, where that differs.
        step: gradient → the optimizer's update at learning rate 1; None where that is −D times it.
        learning_rate: η of the step from here, or None.
        last: what observables that ask for it were at the record before, by name; 0 at the first.
    """

    loss: Callable[..., jax.Array]
    model: Callable[..., Any] | None
    eval_model: Callable[..., Any] | None
    params: PyTree
    probe: PyTree
    held_out: PyTree
    metric: PyTree
    chunk: int | None
    key: jax.Array
    loop: Loop
    weight: jax.Array | None = None
    step: Callable[[PyTree], PyTree] | None = None
    learning_rate: jax.Array | None = None
    last: Mapping[str, jax.Array] = field(default_factory=dict)

    @property
    def objective(self) -> Objective:
        """The loss as a function of params and a batch, with a model or without."""
        return Objective.of(self.loss, self.model)

    @cached_property
    def gradient(self) -> PyTree:
        """∇L on the probe batch, like the params."""
        return self.objective.gradient(self.params, self.probe)

    @cached_property
    def update(self) -> PyTree:
        """The optimizer's update at learning rate 1, were the probe its batch: −D g where it is not told."""
        if self.step is not None:
            return self.step(self.gradient)
        g = tree.wide(self.gradient)
        return jax.tree.map(jnp.negative, g if self.metric is None else tree.multiply(self.metric, g))

    @cached_property
    def root(self) -> PyTree:
        """D^½, or None without a metric."""
        return None if self.metric is None else jax.tree.map(_square_root, self.metric)

    @cached_property
    def evaluation(self) -> dict[str, jax.Array]:
        """The `Objective.evaluation` on the held-out examples, in the mode of evaluation."""
        return Objective.of(self.loss, self.eval_model).evaluation(self.params, self.held_out)


def _square_root(d: Any) -> jax.Array:
    return jnp.sqrt(tree.wide(d) if hasattr(d, "dtype") else d)


@jax.jit
def _loss(objective: Objective, params: PyTree, batch: PyTree) -> jax.Array:
    if objective.model is None:
        return objective.loss(params, batch)
    inputs, targets = batch
    return objective.loss(objective.model(params, inputs), targets)


@jax.jit
def _gradient(objective: Objective, params: PyTree, batch: PyTree) -> PyTree:
    # To its last digits where the loss is small; the loss that is recorded is the one that is trained on.
    return jax.grad(lambda w: value_of((objective.loss, objective.model), w, batch))(params)


def _are_classes(outputs: Any, targets: Any) -> bool:
    """Whether the targets are one class for each row of outputs, as they are for no dict of heads."""
    arrays = isinstance(outputs, jax.Array) and isinstance(targets, jax.Array)
    one_each = arrays and outputs.ndim > 1 and outputs.shape[:-1] == targets.shape
    return one_each and jnp.issubdtype(targets.dtype, jnp.integer)


@jax.jit
def _evaluation(objective: Objective, params: PyTree, batch: PyTree) -> dict[str, jax.Array]:
    if objective.model is None:
        return {"eval_loss": objective.loss(params, batch)}
    inputs, targets = batch
    outputs = objective.model(params, inputs)
    values = {"eval_loss": objective.loss(outputs, targets)}
    if _are_classes(outputs, targets):
        closed = output_hessian(objective.loss)
        counted = None if closed is None else closed.counted(targets)
        right = outputs.argmax(-1) == targets
        accuracy = right.mean() if counted is None else jnp.sum(right & counted) / jnp.maximum(jnp.sum(counted), 1)
        # The largest of NaNs is the first: a diverged network has no accuracy.
        values["eval_accuracy"] = jnp.where(jnp.isfinite(outputs).all(), accuracy, jnp.nan)
    return values
