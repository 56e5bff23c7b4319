"""What is recorded along a training run: losses, and the sharpness with its error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from sharplab.curvature import LinearOperator, hessian, precondition
from sharplab.drivers import choose_driver
from sharplab.naming import lookup
from sharplab.spectrum.extremal import solve_extreme
from sharplab.tree import PyTree

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-2  # relative error of a recorded eigenvalue; seeds and probe batches differ by more

OBSERVABLES: Mapping[str, str] = MappingProxyType(
    {
        "train_loss": "mean loss on the probe batch of training examples",
        "eval_loss": "mean loss on the held-out examples",
        "eval_accuracy": "share of the held-out examples whose largest output is the target",
        "sharpness_raw": "λmax(H) of the loss on the probe batch",
        "sharpness": "λmax(D^½ H D^½), D the metric of the optimizer: the effective sharpness",
    }
)
SPECTRAL = ("sharpness_raw", "sharpness")


class TrackerState(NamedTuple):
    """What passes from record to record: the last eigenvector of each spectral observable."""

    vectors: dict[str, PyTree]
    records: jax.Array


@dataclass(frozen=True)
class Measurement:
    """The functions that make a record, without any data: hashable, so that programs are compiled once.

    `loss` is `loss(params, batch)`, or with `model` `loss(outputs, targets)`; `metric(params, opt_state)` gives
    D, a pytree like params whose leaves may be plain floats.
    """

    loss: Callable[..., jax.Array]
    observables: tuple[str, ...]
    model: Callable[..., Any] | None = None
    metric: Callable[[PyTree, PyTree], PyTree] | None = None

    def init(self, params: PyTree) -> TrackerState:
        """The state before the first record."""
        zeros = jax.tree.map(jnp.zeros_like, params)
        return TrackerState({name: zeros for name in self.observables if name in SPECTRAL}, jnp.zeros((), jnp.int32))

    def observe(
        self,
        state: TrackerState,
        probe: PyTree,
        held_out: PyTree,
        params: PyTree,
        opt_state: PyTree,
        key: jax.Array,
    ) -> tuple[TrackerState, dict[str, jax.Array]]:
        """One record, pure: a dict of scalars. A diverged run (NaN in params) costs one product and gives NaN."""
        row: dict[str, jax.Array] = {}
        if "train_loss" in self.observables:
            row["train_loss"] = _loss(self, params, probe)
        if {"eval_loss", "eval_accuracy"} & set(self.observables):
            values = _evaluation(self, params, held_out)
            row |= {name: value for name, value in values.items() if name in self.observables}
        key = jax.random.fold_in(key, state.records)
        vectors = dict(state.vectors)
        for name, op in self._operators(params, probe, opt_state).items():
            vectors[name], values = _top(op, vectors[name], key, name)
            row |= values
        return TrackerState(vectors, state.records + 1), row

    def _operators(self, params: PyTree, probe: PyTree, opt_state: PyTree) -> dict[str, LinearOperator]:
        operators = {}
        if set(SPECTRAL) & set(self.observables):
            operators["sharpness_raw"] = hessian(self.loss, params, probe, model=self.model)
        if "sharpness" in self.observables and self.metric is not None:
            root = jax.tree.map(jnp.sqrt, self.metric(params, opt_state))
            operators["sharpness"] = precondition(operators["sharpness_raw"], root)
        return {name: op for name, op in operators.items() if name in self.observables}


@partial(jax.jit, static_argnums=0)
def _loss(measurement: Measurement, params: PyTree, batch: PyTree) -> jax.Array:
    if measurement.model is None:
        return measurement.loss(params, batch)
    inputs, targets = batch
    return measurement.loss(measurement.model(params, inputs), targets)


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


def _top(op: LinearOperator, start: PyTree, key: jax.Array, name: str) -> tuple[PyTree, dict[str, jax.Array]]:
    top = solve_extreme(op, start, key, tol=TOLERANCE)
    return jax.tree.map(lambda v: v[0], top.vectors), {
        name: top.values[0],
        f"{name}_error": top.errors[0],
        f"{name}_residual": top.residuals[0],
        f"{name}_matvecs": top.matvecs,
    }


class Tracker:
    """Records observables along anyone's own training loop.

    Args:
        loss: `loss(params, batch)` → mean over examples; with `model`, `loss(outputs, targets)`.
        batch: the probe batch on which train loss and curvature are measured.
        observables: names out of "train_loss", "eval_loss", "eval_accuracy", "sharpness_raw", "sharpness".
        model: `model(params, inputs)` → outputs.
        metric: `metric(params, opt_state)` → D, like params; what "sharpness" is measured in.
        eval_batch: the held-out examples of "eval_loss" and "eval_accuracy".
        learning_rate: a number or a schedule step → η, written into each row.
        key: for the random part of Lanczos starts.

    Each eigenvalue comes with `…_error` (estimate), `…_residual` (an eigenvalue lies that near, always) and
    `…_matvecs`. Eigenvectors start from those of the record before, a tenth of random direction mixed in. Where the
    two largest eigenvalues lie within some per cent of each other and cross between records, the second may be
    reported for the first until they part: the residual holds, the estimate then does not.

    Raises:
        ValueError: for unknown observables, or ones whose batch, model or metric is missing.

    >>> def loss(w, batch):
    ...     return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)
    >>> data = (jnp.diag(jnp.array([2.0, 1.0])), jnp.ones(2))
    >>> tracker = Tracker(loss, data, ["train_loss", "sharpness_raw"])
    >>> row = tracker.record(0, jnp.zeros(2))
    >>> row["train_loss"], round(row["sharpness_raw"], 4)  # λmax of xᵀx/n
    (0.5, 2.0)
    """

    def __init__(
        self,
        loss: Callable[..., jax.Array],
        batch: PyTree,
        observables: Sequence[str],
        *,
        model: Callable[..., Any] | None = None,
        metric: Callable[[PyTree, PyTree], PyTree] | None = None,
        eval_batch: PyTree | None = None,
        learning_rate: float | Callable[[int], float] | None = None,
        key: jax.Array | None = None,
    ) -> None:
        for name in observables:
            lookup("observable", name, OBSERVABLES)
        needs = (
            ("sharpness", "metric", metric),
            ("eval_loss", "eval_batch", eval_batch),
            ("eval_accuracy", "eval_batch", eval_batch),
            ("eval_accuracy", "model", model),
        )
        for name, argument, value in needs:
            if name in observables and value is None:
                raise ValueError(f"observable {name!r} needs {argument}=.")
        self.measurement = Measurement(loss, tuple(observables), model, metric)
        self.batch, self.eval_batch, self.learning_rate = batch, eval_batch, learning_rate
        self.key = jax.random.key(0) if key is None else key
        self.state: TrackerState | None = None
        self.rows: list[dict[str, float]] = []

    def record(self, step: int, params: PyTree, opt_state: PyTree = None) -> dict[str, float]:
        """Measure now; the row is returned and kept."""
        if self.state is None:
            self.state = self.measurement.init(params)
        gradient = partial(_gradient, self.measurement)
        observe = _observe if choose_driver(gradient, params, self.batch) == "dispatch" else _observe_compiled
        self.state, values = observe(
            self.measurement, self.state, self.batch, self.eval_batch, params, opt_state, self.key
        )
        row: dict[str, float] = {"step": step}
        if self.learning_rate is not None:
            rate = self.learning_rate
            row["learning_rate"] = float(rate(step) if callable(rate) else rate)
        self.rows.append(row | {name: value.item() for name, value in jax.device_get(values).items()})
        return self.rows[-1]

    @property
    def curves(self) -> "pd.DataFrame":
        """All rows so far, one per record."""
        import pandas as pd

        return pd.DataFrame(self.rows)


def _gradient(measurement: Measurement, params: PyTree, batch: PyTree) -> PyTree:
    return jax.grad(lambda w: _loss(measurement, w, batch))(params)


def _observe(measurement: Measurement, *args: PyTree) -> tuple[TrackerState, dict[str, jax.Array]]:
    return measurement.observe(*args)


_observe_compiled = jax.jit(_observe, static_argnums=0)
