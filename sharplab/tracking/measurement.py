"""One record of a training run as a pure function: losses, and spectra with their errors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.loops import Loop
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator, directional_sharpness, gauss_newton, hessian, ntk, precondition
from sharplab.spectrum.estimate import mean_of
from sharplab.spectrum.products import each
from sharplab.spectrum.stochastic import unchecked_trace
from sharplab.tracking.eigentracking import Tracked, TrackedPairs, begin_tracking, track_eigenpairs
from sharplab.tracking.observables import Spectral, find_spectral

TOLERANCE = 1e-2  # relative error of a recorded eigenvalue; seeds and probe batches differ by more
TRACE_MATVECS = 30  # of a recorded trace, whose standard error is then of some per cent
CURVATURE = Spectral("hessian", "hessian")  # D^½ H D^½


class TrackerState(NamedTuple):
    """What passes from record to record: the eigenvectors of each spectral observable, and how many were made."""

    tracked: dict[str, TrackedPairs]
    records: jax.Array


@dataclass(frozen=True)
class Measurement:
    """The functions that make a record, without any data: hashable, so that programs are compiled once.

    `loss` is `loss(params, batch)`, or with `model` `loss(outputs, targets)`; `metric(params, opt_state)` gives
    D, a pytree like params whose leaves may be plain floats; curvature takes `chunk` examples at a time.
    """

    loss: Callable[..., jax.Array]
    observables: tuple[str, ...]
    model: Callable[..., Any] | None = None
    metric: Callable[[PyTree, PyTree], PyTree] | None = None
    chunk: int | None = None

    @property
    def spectra(self) -> dict[str, Spectral]:
        """The observables that are spectra."""
        found = {name: find_spectral(name) for name in self.observables}
        return {name: spectral for name, spectral in found.items() if spectral is not None}

    def init(self, params: PyTree, probe: PyTree) -> TrackerState:
        """The state before the first record."""
        tracked = {}
        for name, spectral in self.spectra.items():
            like = params
            if spectral.operator == "ntk":
                like = jax.eval_shape(lambda w, x: self._required_model(w, x), params, probe[0])
            tracked[name] = begin_tracking(like, spectral.k)
        return TrackerState(tracked, jnp.zeros((), jnp.int32))

    def observe(
        self,
        state: TrackerState,
        probe: PyTree,
        held_out: PyTree,
        params: PyTree,
        opt_state: PyTree,
        key: jax.Array,
        *,
        loop: Loop = "compiled",
    ) -> tuple[TrackerState, dict[str, jax.Array]]:
        """One record, pure: a dict of scalars. A diverged run (NaN in params) costs one product and gives NaN."""
        row: dict[str, jax.Array] = {}
        if "train_loss" in self.observables:
            row["train_loss"] = _loss(self, params, probe)
        if {"eval_loss", "eval_accuracy"} & set(self.observables):
            row |= _evaluation(self, params, held_out)
        D = None if self.metric is None else self.metric(params, opt_state)
        if {"gradient_norm", "directional_sharpness"} & set(self.observables):
            row |= self._along_gradient(params, probe, D)
        row = {name: value for name, value in row.items() if name in self.observables}
        key = jax.random.fold_in(key, state.records)
        if "hessian_trace" in self.observables:
            op = self._operator(CURVATURE, params, probe, D)
            estimate = unchecked_trace(op, jax.random.fold_in(key, 1), TRACE_MATVECS, loop)
            row |= {"hessian_trace": estimate.value, "hessian_trace_error": estimate.stderr}
        if "batch_sharpness" in self.observables:
            row |= self._of_batches(params, probe, D, loop)
        tracked = dict(state.tracked)
        for name, spectral in self.spectra.items():
            op = self._operator(spectral, params, probe, D)
            tracked[name], found = track_eigenpairs(op, tracked[name], key, k=spectral.k, tol=TOLERANCE, loop=loop)
            row |= _columns(spectral, found)
        return TrackerState(tracked, state.records + 1), row

    def _operator(self, spectral: Spectral, params: PyTree, probe: PyTree, D: PyTree) -> LinearOperator:
        if spectral.operator == "ntk":
            inputs = probe[0]
            kernel = ntk(self._required_model, params, inputs, scale=D, chunk=self.chunk)
            return kernel / len(jax.tree.leaves(inputs)[0])
        if spectral.operator == "hessian":
            op = hessian(self.loss, params, probe, model=self.model, chunk=self.chunk)
        else:
            op = gauss_newton(self._required_model, self.loss, params, probe, chunk=self.chunk)
        return op if D is None or spectral.raw else precondition(op, jax.tree.map(jnp.sqrt, D))

    def _of_batches(self, params: PyTree, probe: PyTree, D: PyTree, loop: Loop) -> dict[str, jax.Array]:
        """The mean over the probe's whole batches of `chunk` examples, and its standard error."""
        size = len(jax.tree.leaves(probe)[0])
        chunk = min(self.chunk or size, size)
        batches = jax.tree.map(lambda x: x[: size // chunk * chunk].reshape(-1, chunk, *x.shape[1:]), probe)

        def one(i: jax.Array) -> jax.Array:
            return _sharpness_of_batch(self, params, jax.tree.map(lambda x: x[i], batches), D)

        values = each(one, jnp.arange(size // chunk), loop)
        mean, stderr = mean_of(values)
        return {"batch_sharpness": mean, "batch_sharpness_error": stderr}

    def _along_gradient(self, params: PyTree, probe: PyTree, D: PyTree) -> dict[str, jax.Array]:
        gradient = probe_gradient(self, params, probe)
        op = hessian(self.loss, params, probe, model=self.model, chunk=self.chunk)
        if D is not None:
            root = jax.tree.map(jnp.sqrt, D)
            op, gradient = precondition(op, root), jax.tree.map(jnp.multiply, root, gradient)
        row = {"gradient_norm": tree.norm(gradient)}
        if "directional_sharpness" in self.observables:
            row["directional_sharpness"] = directional_sharpness(op, gradient)
        return row

    @property
    def _required_model(self) -> Callable[..., Any]:
        assert self.model is not None
        return self.model


def _columns(spectral: Spectral, found: Tracked) -> dict[str, jax.Array]:
    pairs, row = found.pairs, dict[str, jax.Array]()
    for i, column in enumerate(spectral.columns()):
        row |= {
            column: pairs.values[i],
            f"{column}_error": pairs.errors[i],
            f"{column}_residual": pairs.residuals[i],
            f"{column}_identity": found.identities[i],
        }
    return row | {f"{spectral.column}_matvecs": pairs.matvecs, f"{spectral.column}_missed": found.missed}


@partial(jax.jit, static_argnums=0)
def _loss(measurement: Measurement, params: PyTree, batch: PyTree) -> jax.Array:
    if measurement.model is None:
        return measurement.loss(params, batch)
    inputs, targets = batch
    return measurement.loss(measurement.model(params, inputs), targets)


@partial(jax.jit, static_argnums=0)
def probe_gradient(measurement: Measurement, params: PyTree, batch: PyTree) -> PyTree:
    """∇L on a batch."""
    return jax.grad(lambda w: _loss(measurement, w, batch))(params)


@partial(jax.jit, static_argnums=0)
def _sharpness_of_batch(measurement: Measurement, params: PyTree, batch: PyTree, D: PyTree) -> jax.Array:
    """gᵀD H D g / gᵀD g of one batch."""
    with jax.default_matmul_precision("highest"):
        g, curve = jax.linearize(jax.grad(lambda w: _loss(measurement, w, batch)), params)
        step = g if D is None else jax.tree.map(jnp.multiply, D, g)
        return tree.dot(step, curve(step)) / tree.dot(g, step)


@partial(jax.jit, static_argnums=0)
def _evaluation(measurement: Measurement, params: PyTree, batch: PyTree) -> dict[str, jax.Array]:
    if measurement.model is None:
        return {"eval_loss": measurement.loss(params, batch)}
    inputs, targets = batch
    outputs = measurement.model(params, inputs)
    values = {"eval_loss": measurement.loss(outputs, targets)}
    if jnp.issubdtype(targets.dtype, jnp.integer):
        accuracy = (outputs.argmax(-1) == targets).mean()
        # The largest of NaNs is the first: a diverged network has no accuracy.
        values["eval_accuracy"] = jnp.where(jnp.isfinite(outputs).all(), accuracy, jnp.nan)
    return values
