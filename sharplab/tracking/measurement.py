"""One record of a training run as a pure function: losses, and spectra with their errors."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from sharplab import curvature
from sharplab.core import tree
from sharplab.core.loops import Loop
from sharplab.core.tree import PyTree
from sharplab.tracking.context import Context, Objective
from sharplab.tracking.eigentracking import Tracked, TrackedPairs, begin_tracking, track_eigenpairs
from sharplab.tracking.in_norms import Geometry, begin_in_norm, track_in_norm
from sharplab.tracking.observables import Observable, Recorded, Spectral

TOLERANCE = 1e-2  # relative error of a recorded eigenvalue; seeds and probe batches differ by more


class TrackerState(NamedTuple):
    """What passes from record to record: eigenvectors of spectral observables, how many were made, and values."""

    tracked: dict[str, TrackedPairs | PyTree]  # of a sharpness in a norm, the direction that has it
    records: jax.Array
    last: dict[str, jax.Array]  # of the observables that recall theirs


@dataclass(frozen=True)
class Measurement:
    """The functions that make a record, without any data: hashable, so that programs are compiled once.

    `loss` is `loss(params, batch)`, or with `model` `loss(outputs, targets)`; `metric(params, opt_state)` gives D, a
    pytree like params whose leaves may be plain floats; `update(gradient, params, opt_state)` the optimizer's step at
    learning rate 1; `geometry(params, opt_state)`, of optimizers whose steps have a norm, what `track_in_norm` measures
    their sharpness in. Curvature takes `chunk` examples at a time. `eval_model` is the model in the mode of evaluation,
    where that is another. A state that `observe` has is given as `state=` to those of
    loss and models that take it.
    """

    loss: Callable[..., jax.Array]
    observables: tuple[Recorded, ...]
    model: Callable[..., Any] | None = None
    metric: Callable[[PyTree, PyTree], PyTree] | None = None
    chunk: int | None = None
    eval_model: Callable[..., Any] | None = None
    update: Callable[[PyTree, PyTree, PyTree], PyTree] | None = None
    geometry: Geometry | None = None

    def gradient(self, params: PyTree, batch: PyTree, state: PyTree = None) -> PyTree:
        """∇L on a batch, like the params."""
        bound = self.bound(state)
        return Objective.of(bound.loss, bound.model).gradient(params, batch)

    def bound(self, state: PyTree) -> "Measurement":
        """The same with `state=` bound to those of loss and models that take it, as leaves: new values compile nothing.

        Raises:
            ValueError: for a state that neither loss nor model takes.
        """
        if state is None:
            return self
        # A loss of outputs that passes on any argument is left alone: the state may be the model's.
        bound = replace(
            self,
            loss=_with_state(self.loss, state, or_any=self.model is None),
            model=_with_state(self.model, state, or_any=True),
            eval_model=_with_state(self.eval_model, state, or_any=True),
        )
        if bound == self:
            raise ValueError("state is given, but neither loss nor model takes state=: let one of them take it.")
        return bound

    @property
    def spectra(self) -> tuple[Spectral, ...]:
        """The observables that are spectra."""
        return tuple(entry for entry in self.observables if isinstance(entry, Spectral))

    def _tracked(
        self, spectral: Spectral, context: Context, state: Any, opt_state: PyTree
    ) -> tuple[Any, dict[str, jax.Array]]:
        """What passes to the next record, and the columns."""
        if self._in_norm(spectral):
            assert self.geometry is not None
            ball, factors = self.geometry(context.params, opt_state)
            direction, values = track_in_norm(context, ball, factors, state, tol=TOLERANCE)
            return direction, {f"{spectral.name}{suffix}": value for suffix, value in values.items()}
        level = None
        if spectral.above is not None:
            assert context.learning_rate is not None
            level = (spectral.above / context.learning_rate).astype(tree.dtype(context.params))
        pairs, found = track_eigenpairs(
            spectral.operator(context), state, context.key, k=spectral.k, tol=TOLERANCE, loop=context.loop, level=level
        )
        return pairs, _columns(spectral, found)

    def _in_norm(self, spectral: Spectral) -> bool:
        """Whether it is measured in the norm of the optimizer's steps, for want of a metric."""
        return self.geometry is not None and "metric" in spectral.needs

    def init(self, params: PyTree, probe: PyTree, state: PyTree = None) -> TrackerState:
        """The state before the first record; `state` is that of the model, where it has one."""
        model, tracked = self.bound(state).model, dict[str, TrackedPairs | PyTree]()
        for spectral in self.spectra:
            like = params
            if self._in_norm(spectral):
                tracked[spectral.name] = begin_in_norm(params)
                continue
            if spectral.of_outputs:
                assert model is not None
                like = jax.eval_shape(model, params, probe[0])
            if (there := tree.size(like)) < spectral.k:
                warnings.warn(
                    f"{spectral.name!r} asks for {spectral.k} eigenvalues of {there}: the others are NaN.",
                    stacklevel=4,
                )
            tracked[spectral.name] = begin_tracking(like, spectral.k)
        none = jnp.zeros((), tree.dtype(params))
        last = {entry.name: none for entry in self.observables if isinstance(entry, Observable) and entry.recalls}
        return TrackerState(tracked, jnp.zeros((), jnp.int32), last)

    def check(self, params: PyTree, probe: PyTree, state: PyTree = None, weight: jax.Array | None = None) -> None:
        """Raise a ValueError for a probe that curvature cannot be taken of, which compiled records do not see."""
        bound = self.bound(state)
        curvature.hessian(bound.loss, params, probe, model=bound.model, chunk=self.chunk, weight=weight)

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
        model_state: PyTree = None,
        weight: jax.Array | None = None,
        learning_rate: jax.typing.ArrayLike | None = None,
    ) -> tuple[TrackerState, dict[str, jax.Array]]:
        """One record, pure: a dict of scalars. A diverged run (NaN in params) costs one product and gives NaN."""
        bound, update = self.bound(model_state), self.update
        context = Context(
            loss=bound.loss,
            model=bound.model,
            eval_model=bound.eval_model or bound.model,
            params=params,
            probe=probe,
            held_out=held_out,
            metric=None if self.metric is None else self.metric(params, opt_state),
            chunk=self.chunk,
            key=jax.random.fold_in(key, state.records),
            loop=loop,
            weight=weight,
            step=None if update is None else lambda gradient: update(gradient, params, opt_state),
            learning_rate=None if learning_rate is None else jnp.asarray(learning_rate),
            last=state.last,
        )
        row: dict[str, jax.Array] = {}
        for entry in self.observables:
            if isinstance(entry, Observable):
                row |= entry.columns(context)
        tracked = dict(state.tracked)
        for spectral in self.spectra:
            tracked[spectral.name], columns = self._tracked(spectral, context, tracked[spectral.name], opt_state)
            row |= columns
        sound = jnp.stack([jnp.isfinite(w).all() for w in jax.tree.leaves(params)]).all()
        row = {column: _where(sound, value) for column, value in row.items()}
        last = {name: row[name].astype(value.dtype) for name, value in state.last.items()}
        return TrackerState(tracked, state.records + 1, last), row


def _where(sound: jax.Array, value: jax.Array) -> jax.Array:
    """The value, or NaN where parameters are not finite: a linear model has curvature there too. Counts stay."""
    return jnp.where(sound, value, jnp.nan) if jnp.issubdtype(jnp.result_type(value), jnp.inexact) else value


def _with_state(function: Any, state: PyTree, or_any: bool) -> Any:
    """The function, or None, with its argument `state` bound, if it has one or, with `or_any`, takes any argument."""
    if function is None:
        return None
    try:
        parameters = inspect.signature(function).parameters
        takes = "state" in parameters or (or_any and any(p.kind is p.VAR_KEYWORD for p in parameters.values()))
    except (TypeError, ValueError):  # of a builtin, which tells nothing
        takes = or_any
    return Partial(function, state=state) if takes else function


def _columns(spectral: Spectral, found: Tracked) -> dict[str, jax.Array]:
    pairs, row, absent = found.pairs, dict[str, jax.Array](), jnp.asarray(jnp.nan)
    for i, column in enumerate(spectral.columns()):
        there = i < len(pairs.values)
        row |= {
            column: pairs.values[i] if there else absent,
            f"{column}_error": pairs.errors[i] if there else absent,
            f"{column}_residual": pairs.residuals[i] if there else absent,
            f"{column}_identity": found.identities[i] if there else absent,
        }
    row |= {f"{spectral.prefix}_matvecs": pairs.matvecs, f"{spectral.prefix}_missed": found.missed}
    if spectral.above is not None:
        above = ~jnp.isnan(pairs.values)
        row |= {
            f"{spectral.prefix}_count": jnp.where(
                jnp.isfinite(pairs.floor), above.sum(dtype=pairs.values.dtype), jnp.nan
            ),
            f"{spectral.prefix}_full": above.all().astype(jnp.int32),
        }
    return row
