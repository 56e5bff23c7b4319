"""One record of a training run as a pure function: losses, and spectra with their errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from sharplab import curvature
from sharplab.core.loops import Loop
from sharplab.core.tree import PyTree
from sharplab.tracking.context import Context, Objective
from sharplab.tracking.eigentracking import Tracked, TrackedPairs, begin_tracking, track_eigenpairs
from sharplab.tracking.observables import Observable, Recorded, Spectral

TOLERANCE = 1e-2  # relative error of a recorded eigenvalue; seeds and probe batches differ by more


class TrackerState(NamedTuple):
    """What passes from record to record: the eigenvectors of each spectral observable, and how many were made."""

    tracked: dict[str, TrackedPairs]
    records: jax.Array


@dataclass(frozen=True)
class Measurement:
    """The functions that make a record, without any data: hashable, so that programs are compiled once.

    `loss` is `loss(params, batch)`, or with `model` `loss(outputs, targets)`; `metric(params, opt_state)` gives D, a
    pytree like params whose leaves may be plain floats; curvature takes `chunk` examples at a time. `eval_model` is the
    model in the mode of evaluation, where that is another. Both are also given `state=` where `observe` has one.
    """

    loss: Callable[..., jax.Array]
    observables: tuple[Recorded, ...]
    model: Callable[..., Any] | None = None
    metric: Callable[[PyTree, PyTree], PyTree] | None = None
    chunk: int | None = None
    eval_model: Callable[..., Any] | None = None

    def gradient(self, params: PyTree, batch: PyTree, state: PyTree = None) -> PyTree:
        """∇L on a batch, like the params."""
        return Objective.of(self.loss, _with_state(self.model, state)).gradient(params, batch)

    @property
    def spectra(self) -> tuple[Spectral, ...]:
        """The observables that are spectra."""
        return tuple(entry for entry in self.observables if isinstance(entry, Spectral))

    def init(self, params: PyTree, probe: PyTree, state: PyTree = None) -> TrackerState:
        """The state before the first record; `state` is that of the model, where it has one."""
        tracked = {}
        for spectral in self.spectra:
            like = params
            if spectral.of_outputs:
                assert self.model is not None
                like = jax.eval_shape(_with_state(self.model, state), params, probe[0])
            tracked[spectral.name] = begin_tracking(like, spectral.k)
        return TrackerState(tracked, jnp.zeros((), jnp.int32))

    def check(self, params: PyTree, probe: PyTree, state: PyTree = None, weight: jax.Array | None = None) -> None:
        """Raise a ValueError for a probe that curvature cannot be taken of, which compiled records do not see."""
        model = _with_state(self.model, state)
        curvature.hessian(self.loss, params, probe, model=model, chunk=self.chunk, weight=weight)

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
    ) -> tuple[TrackerState, dict[str, jax.Array]]:
        """One record, pure: a dict of scalars. A diverged run (NaN in params) costs one product and gives NaN."""
        context = Context(
            loss=self.loss,
            model=_with_state(self.model, model_state),
            eval_model=_with_state(self.eval_model or self.model, model_state),
            params=params,
            probe=probe,
            held_out=held_out,
            metric=None if self.metric is None else self.metric(params, opt_state),
            chunk=self.chunk,
            key=jax.random.fold_in(key, state.records),
            loop=loop,
            weight=weight,
        )
        row: dict[str, jax.Array] = {}
        for entry in self.observables:
            if isinstance(entry, Observable):
                row |= entry.columns(context)
        tracked = dict(state.tracked)
        for spectral in self.spectra:
            tracked[spectral.name], found = track_eigenpairs(
                spectral.operator(context), tracked[spectral.name], context.key, k=spectral.k, tol=TOLERANCE, loop=loop
            )
            row |= _columns(spectral, found)
        return TrackerState(tracked, state.records + 1), row


def _with_state(model: Any, state: PyTree) -> Any:
    """The model with its state as leaves, so that new values compile nothing anew."""
    return model if model is None or state is None else Partial(model, state=state)


def _columns(spectral: Spectral, found: Tracked) -> dict[str, jax.Array]:
    pairs, row = found.pairs, dict[str, jax.Array]()
    for i, column in enumerate(spectral.columns()):
        row |= {
            column: pairs.values[i],
            f"{column}_error": pairs.errors[i],
            f"{column}_residual": pairs.residuals[i],
            f"{column}_identity": found.identities[i],
        }
    return row | {f"{spectral.prefix}_matvecs": pairs.matvecs, f"{spectral.prefix}_missed": found.missed}
