"""Records along anyone's own training loop."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core import tree
from sharplab.core.arguments import checked, finite, function, several, text
from sharplab.core.captured import captured, fingerprint
from sharplab.core.files import NO_ARCHIVE, DamagedFile, read_arrays, write_arrays
from sharplab.core.loops import Loop, choose_loop
from sharplab.core.naming import lookup
from sharplab.core.npz import read_npz
from sharplab.core.tree import PyTree
from sharplab.optimizers import OPTIMIZERS, Optimizer, metric_of_state
from sharplab.tracking.in_norms import Geometry, geometry_of, step_of
from sharplab.tracking.measurement import Measurement, TrackerState
from sharplab.tracking.observables import Recorded, Spectral, find_observables

if TYPE_CHECKING:
    import pandas as pd


def _metric_like(name: str, value: Any) -> None:
    """An optimizer, its name, or a function."""
    if not (isinstance(value, str | Optimizer) or callable(value)):
        raise ValueError(
            f"{name} must be an optimizer's name, as 'adam', an Optimizer, as of sharplab.optimizers.adam(b2=0.95), or "
            f"a function (params, opt_state) → D, not a {type(value).__name__}."
        )


class Tracker:
    """Records observables along anyone's own training loop.

    Args:
        loss: `loss(params, batch)` → mean over examples; with `model`, `loss(outputs, targets)`.
        batch: the probe batch on which train loss and curvature are measured.
        observables: names out of `sharplab.tracking.observables.OBSERVABLES`, such as "train_loss" and "sharpness", and
            "hessian_top10", "gauss_newton_top10", "ntk_top10" (or any number): the largest eigenvalues of an operator,
            in the metric where there is one. Your own are a function of (params, batch) → scalar, or a
            `sharplab.tracking.Observable`.
        model: `model(params, inputs)` → outputs.
        metric: what "sharpness" is measured in: an optimizer's name, as "sgd" or "adam" with the constants of optax, an
            `sharplab.optimizers.Optimizer` with others, as `sharplab.optimizers.adam(b2=0.95)`, or your own
            `metric(params, opt_state)` → D, like params. Of Adam it is NaN before the first step.
        norm: of steps that have norm 1, in which "sharpness" is then measured, over the dual norm of the gradient, as
            `sharplab.norm_sharpness` does it: "linf" of Lion's and of signs, "spectral" of Muon's. Of steps with
            factors, −η · factors · d, `metric` gives these: 0 for what another optimizer steps, as Adam does biases.
        matrices: by path, the axes of leaves with more than two that are rows and columns, for norm "spectral".
        eval_batch: the held-out examples of "eval_loss" and "eval_accuracy".
        eval_model: the model in the mode of evaluation, where that is another, as with batch statistics.
        learning_rate: a number or a schedule step → η, written into each row; "midpoint_sharpness" needs it.
        chunk: examples whose activations curvature holds in memory at a time; all at once unless told.
        weight: what each example of `batch` counts in the mean that the loss takes, where that differs, as of
            `sharplab.curvature.hessian`.
        update: `update(gradient, params, opt_state)` → the optimizer's step at learning rate 1, like params, given the
            gradient on `batch`: what "critical_sharpness" follows. −D times the gradient without, and with `norm` the
            step without momentum. Of an optax transformation `lambda g, w, s: transformation.update(g, s, w)[0]`, in
            units of its own learning rate.
        key: for the random part of Lanczos starts.

    Arrays that these functions hold in a closure, rather than take as arguments, are compiled in at the first record
    and stay as they were: what changes between records, such as batch statistics, belongs to `state` of `record`.

    Each eigenvalue comes with `…_error` (estimate), `…_residual` (an eigenvalue lies that near, always) and
    `…_identity`, a number that stays with an eigenvector through crossings: that of the record before with which it
    shares more than half its square. Per operator there are `…_matvecs` and `…_missed`. Solves start from the vectors
    of the record before, the next one below included, with a tenth of random direction. Where two eigenvalues cross
    between records the lower may still be reported for the higher (its residual holds, its error then does not): so
    every eighth record is audited by a cold solve, whose pairs are taken, and `…_missed` set, if it finds more.

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

    @checked(metric=_metric_like, norm=text, eval_model=function, update=function, observables=several)
    def __init__(
        self,
        loss: Callable[..., jax.Array],
        batch: PyTree,
        observables: Sequence[str | Recorded | Callable[..., jax.Array]],
        *,
        model: Callable[..., Any] | None = None,
        metric: str | Optimizer | Callable[[PyTree, PyTree], PyTree] | None = None,
        norm: str | None = None,
        matrices: Mapping[str, tuple[Sequence[int], Sequence[int]]] | None = None,
        eval_batch: PyTree | None = None,
        eval_model: Callable[..., Any] | None = None,
        learning_rate: float | Callable[[int], float] | None = None,
        chunk: int | None = None,
        weight: jax.Array | None = None,
        update: Callable[[PyTree, PyTree, PyTree], PyTree] | None = None,
        key: jax.Array | None = None,
    ) -> None:
        found = find_observables(observables)
        given = {"model": model, "metric": metric, "eval_batch": eval_batch, "learning_rate": learning_rate}
        for entry in found:
            if entry.name in ("step", "learning_rate"):
                raise ValueError(f"observable {entry.name!r} has the name of another column: give it its own.")
            in_norm = norm is not None and isinstance(entry, Spectral)
            for need in entry.needs:
                if given[need] is None and not (in_norm and need == "metric"):
                    raise ValueError(f"observable {entry.name!r} needs {need}=.")
        geometry = _geometry(norm, matrices, metric)
        own = None if geometry else _metric(metric)
        step = step_of(geometry) if geometry and update is None else update
        self.measurement = Measurement(loss, found, model, own, chunk, eval_model, step, geometry)
        self._gradient = self.measurement.gradient
        self.batch, self.eval_batch, self.learning_rate = batch, eval_batch, learning_rate
        self.weight = weight
        self.key = jax.random.key(0) if key is None else key
        self.state: TrackerState | None = None
        self.rows: list[dict[str, float]] = []
        self._restored: list[np.ndarray] | None = None
        self._captured: dict[str, Any] | None = {}  # what functions read at the first record; None once warned of

    @checked(step=finite)
    def record(self, step: int, params: PyTree, opt_state: PyTree = None, state: PyTree = None) -> dict[str, float]:
        """One row of values, measured now and kept in `rows`: Python's floats by column, as loggers take them.

        Args:
            step: of the training, a whole number as a rule, and then an int in the row.
            params: any pytree of floats.
            opt_state: of the optimizer, for `metric`.
            state: what else changes between records, such as batch statistics: given as `state=` to those of loss,
                model and eval_model that have such an argument.

        A function whose closure holds other arrays than at the first record is warned of, once.

        Raises:
            ValueError: for params that are not all floats, a state that neither loss nor model takes, and params that
                a restored tracker did not record.
        """
        params = tree.floats(params, "params")
        self._warn_of_captured((params, opt_state, state))
        if self.state is None:
            self.measurement.check(params, self.batch, state, self.weight)
            self.state = self.measurement.init(params, self.batch, state)
            if self._restored is not None:
                self.state, self._restored = self._continued(self.state, self._restored), None
        loop = choose_loop(self._gradient, params, self.batch, state)
        row: dict[str, float] = {"step": np.asarray(step).item()}
        if self.learning_rate is not None:
            rate = self.learning_rate
            row["learning_rate"] = float(rate(step) if callable(rate) else rate)
        observe = _observe_compiled if loop == "compiled" else _observe
        self.state, values = observe(
            self.measurement,
            loop,
            state,
            self.weight,
            row.get("learning_rate"),
            self.state,
            self.batch,
            self.eval_batch,
            params,
            opt_state,
            self.key,
        )
        self.rows.append(row | {name: float(value) for name, value in jax.device_get(values).items()})
        return dict(self.rows[-1])  # whoever logs it may take things out

    def _continued(self, state: TrackerState, leaves: list[np.ndarray]) -> TrackerState:
        """The restored state, in the place of an empty one."""
        try:
            return _filled(state, leaves)
        except ValueError:
            self.rows, self.state, self._restored = [], None, None  # they are of another run
            raise

    def _warn_of_captured(self, given: PyTree) -> None:
        """Warn where functions read other arrays or numbers than at first, beside what each record is given."""
        if self._captured is None:
            return
        own = self.measurement
        held = captured(
            loss=own.loss,
            model=own.model,
            metric=own.metric or own.geometry,
            eval_model=own.eval_model,
            update=own.update,
        )
        now = {place: fingerprint(value) for place, value in held.items()}
        if not self._captured:
            anew = set(map(id, jax.tree.leaves(given)))
            self._captured = {place: now[place] for place, value in held.items() if id(value) not in anew}
        changed = [place for place, was in self._captured.items() if now.get(place) != was]
        if changed:
            warnings.warn(
                f"{', '.join(changed)}: read by a function and no longer what it was at the first record, whose values "
                "the compiled program keeps. Let the function take such arrays as state=, and give them to record.",
                stacklevel=4,
            )
            self._captured = None

    def save(self, path: str | Path) -> None:
        """Write rows and state (vectors, identities, audits) to a file, whole or not at all."""
        leaves = [] if self.state is None else jax.device_get(jax.tree.leaves(self.state))
        write_arrays(Path(path), leaves, {"rows": self.rows, "observables": self._names})

    def restore(self, path: str | Path) -> None:
        """Go on from what `save` wrote, as if never interrupted; the arguments must be those of the saved tracker.

        Raises:
            ValueError: for a file that is not as `save` wrote it, or of a tracker of other observables; the tracker is
                then as it was.
            OSError: if it cannot be read.
        """
        rows, names, leaves = _saved(Path(path))
        if names is not None and names != self._names:
            raise ValueError(f"tracker file {path} is of the observables {names}: restore it in a tracker of these.")
        self.rows, self.state, self._restored = rows, None, leaves or None

    @property
    def _names(self) -> list[str]:
        return [entry.name for entry in self.measurement.observables]

    @property
    def curves(self) -> "pd.DataFrame":
        """All rows so far, one per record."""
        import pandas as pd

        return pd.DataFrame(self.rows)


def _metric(metric: str | Optimizer | Callable[[PyTree, PyTree], PyTree] | None) -> Any:
    """D as a function of params and optimizer state, or None."""
    found = lookup("metric", metric, OPTIMIZERS) if isinstance(metric, str) else metric
    return _metric_of(found) if isinstance(found, Optimizer) else found


@lru_cache(maxsize=256)  # one function per optimizer, so that its programs are compiled once
def _metric_of(optimizer: Optimizer) -> Callable[[PyTree, PyTree], PyTree]:
    if optimizer.preconditioner is None:
        norms = " or ".join(f"norm={norm!r}" for norm in optimizer.norms.values())
        remedy = f"give {norms} in its place" if norms else "record 'critical_sharpness' with update="
        raise ValueError(
            f"metric is of an optimizer that has none, for no diagonal turns gradients into its steps: {remedy}."
        )
    return partial(metric_of_state, optimizer)


def _geometry(norm: str | None, matrices: Any, metric: Any) -> Geometry | None:
    """The geometry of steps in a norm, `metric` their factors; None without a norm."""
    if norm is None:
        if matrices:
            raise ValueError("matrices are of the norm 'spectral': give norm='spectral' too, or leave them out.")
        return None
    if norm not in ("spectral", "linf"):
        raise ValueError(f"norm must be 'spectral', as of Muon, or 'linf', as of Lion, not {norm!r}.")
    if matrices and norm != "spectral":
        raise ValueError(f"matrices are of the norm 'spectral', and norm is {norm!r}: leave them out.")
    if isinstance(metric, str | Optimizer):
        raise ValueError(
            "metric is of an optimizer, and norm is given: let it be the factors of steps, or leave it out."
        )
    return geometry_of(norm, matrices, metric)


def _saved(path: Path) -> tuple[list[dict[str, float]], Any, list[np.ndarray]]:
    """The rows, the names of the observables (None in files of early versions), and the leaves of the state."""
    try:
        leaves, note = read_arrays(path)
    except DamagedFile as damage:
        # Files once were npz archives without a digest.
        with suppress(*NO_ARCHIVE), path.open("rb") as file:
            saved = read_npz(file)
            leaves, note = [saved[f"leaf_{i}"] for i in range(len(saved) - 1)], {"rows": json.loads(str(saved["rows"]))}
            return _checked(path, note), None, leaves
        raise ValueError(f"tracker file {path} {damage}: restore an earlier one, or record anew.") from damage
    return _checked(path, note), note.get("observables"), leaves


def _checked(path: Path, note: Any) -> list[dict[str, float]]:
    rows = note.get("rows") if isinstance(note, dict) else None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values()) for row in rows
    ):
        raise ValueError(f"tracker file {path} holds no rows: it is of something else than a tracker.")
    return rows


def _filled(state: TrackerState, leaves: list[np.ndarray]) -> TrackerState:
    empty, treedef = jax.tree.flatten(state)
    if [jnp.shape(leaf) for leaf in empty] != [leaf.shape for leaf in leaves]:
        raise ValueError("the restored tracker recorded other observables or parameters: restore it for those.")
    return jax.tree.unflatten(treedef, [jnp.asarray(x, like.dtype) for x, like in zip(leaves, empty, strict=True)])


def _observe(
    measurement: Measurement,
    loop: Loop,
    model_state: PyTree,
    weight: jax.Array | None,
    learning_rate: float | None,
    *args: PyTree,
) -> tuple[TrackerState, dict[str, jax.Array]]:
    return measurement.observe(*args, loop=loop, model_state=model_state, weight=weight, learning_rate=learning_rate)


_observe_compiled = jax.jit(_observe, static_argnums=(0, 1))
