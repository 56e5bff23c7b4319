"""One point of a training run, and what several observables of it share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp

from sharplab.core.loops import Loop
from sharplab.core.tree import PyTree


@dataclass(frozen=True)
class Objective:
    """The loss of params on a batch, without any data: hashable, so that programs are compiled once.

    `loss` is `loss(params, batch)`, or with `model` `loss(outputs, targets)`.
    """

    loss: Callable[..., jax.Array]
    model: Callable[..., Any] | None = None

    def __call__(self, params: PyTree, batch: PyTree) -> jax.Array:
        """The mean loss over the examples of a batch, a scalar."""
        return _loss(self, params, batch)

    def gradient(self, params: PyTree, batch: PyTree) -> PyTree:
        """∇L on a batch, like the params."""
        return _gradient(self, params, batch)

    def evaluation(self, params: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """The scalars eval_loss and, for a model's outputs of classes, eval_accuracy, from one forward pass."""
        return _evaluation(self, params, batch)


@dataclass(frozen=True, eq=False)
class Context:
    """What an observable is computed from.

    `gradient`, `root` and `evaluation` are computed when they are first asked for, and then shared by all observables
    of a record: ask outside of loops and other transforms.

    Attributes:
        loss: `loss(params, batch)`, or with `model` `loss(outputs, targets)`.
        model: `model(params, inputs)` → outputs; None where the loss takes params.
        params: the point.
        probe: the batch of training examples.
        held_out: the held-out examples, or None.
        metric: D, like the params, whose leaves may be plain floats; None without one.
        chunk: how many examples curvature takes at a time; None for all.
        key: the random key of this record.
        loop: how products of an operator are repeated.
    """

    loss: Callable[..., jax.Array]
    model: Callable[..., Any] | None
    params: PyTree
    probe: PyTree
    held_out: PyTree
    metric: PyTree
    chunk: int | None
    key: jax.Array
    loop: Loop

    @property
    def objective(self) -> Objective:
        """The loss as a function of params and a batch, with a model or without."""
        return Objective(self.loss, self.model)

    @cached_property
    def gradient(self) -> PyTree:
        """∇L on the probe batch, like the params."""
        return self.objective.gradient(self.params, self.probe)

    @cached_property
    def root(self) -> PyTree:
        """D^½, or None without a metric."""
        return None if self.metric is None else jax.tree.map(jnp.sqrt, self.metric)

    @cached_property
    def evaluation(self) -> dict[str, jax.Array]:
        """The objective's `evaluation` on the held-out examples."""
        return self.objective.evaluation(self.params, self.held_out)


@partial(jax.jit, static_argnums=0)
def _loss(objective: Objective, params: PyTree, batch: PyTree) -> jax.Array:
    if objective.model is None:
        return objective.loss(params, batch)
    inputs, targets = batch
    return objective.loss(objective.model(params, inputs), targets)


@partial(jax.jit, static_argnums=0)
def _gradient(objective: Objective, params: PyTree, batch: PyTree) -> PyTree:
    return jax.grad(lambda w: _loss(objective, w, batch))(params)


@partial(jax.jit, static_argnums=0)
def _evaluation(objective: Objective, params: PyTree, batch: PyTree) -> dict[str, jax.Array]:
    if objective.model is None:
        return {"eval_loss": objective.loss(params, batch)}
    inputs, targets = batch
    outputs = objective.model(params, inputs)
    values = {"eval_loss": objective.loss(outputs, targets)}
    if jnp.issubdtype(targets.dtype, jnp.integer):
        accuracy = (outputs.argmax(-1) == targets).mean()
        # The largest of NaNs is the first: a diverged network has no accuracy.
        values["eval_accuracy"] = jnp.where(jnp.isfinite(outputs).all(), accuracy, jnp.nan)
    return values
