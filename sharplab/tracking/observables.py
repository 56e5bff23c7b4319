"""The table of what can be recorded along training: each with its unit, its meaning, its needs, and how it is computed.

Whoever adds an entry here adds it everywhere: to experiments, trackers, and the descriptions of exported columns.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

from sharplab.core import tree
from sharplab.core.imports import find
from sharplab.core.tree import PyTree
from sharplab.curvature import LinearOperator, directional_sharpness, gauss_newton, hessian, ntk, precondition
from sharplab.spectrum.estimate import mean_of
from sharplab.spectrum.products import each
from sharplab.spectrum.stochastic import unchecked_trace
from sharplab.tracking.context import Context, Objective

TRACE_MATVECS = 30  # of a recorded trace, whose standard error is then of some per cent
NEEDS = ("model", "metric", "eval_batch")

Row = dict[str, jax.Array]


@dataclass(frozen=True)
class Observable:
    """A number recorded along training, as a pure function of one point of the run.

    Attributes:
        name: of its column, and of the one of its error with `_error` behind it.
        unit, meaning: for the description of the column.
        needs: what it needs out of "model", "metric" and "eval_batch".
        compute: context → the scalar columns `name` and, where it is an estimate, `name_error`.

    >>> def compute(context):
    ...     return {"log_loss": jnp.log(context.objective(context.params, context.probe))}
    >>> Observable("log_loss", "", "logarithm of the loss on the probe batch", (), compute).name
    'log_loss'
    """

    name: str
    unit: str
    meaning: str
    needs: tuple[str, ...]
    compute: Callable[[Context], Mapping[str, jax.Array]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", tuple(self.needs))  # hashable, however it was given
        if unknown := set(self.needs) - set(NEEDS):
            raise ValueError(f"observable {self.name!r}: needs may hold {', '.join(NEEDS)}, not {', '.join(unknown)}.")

    def columns(self, context: Context) -> Row:
        """The scalars that it is at this point, by column.

        Raises:
            ValueError: for columns of other names, and for values that are no scalars.
        """
        found = self.compute(context)
        if other := set(found) - {self.name, f"{self.name}_error"}:
            raise ValueError(f"observable {self.name!r} has no column {', '.join(other)}: give it its name, or _error.")
        row = {column: jnp.asarray(value) for column, value in found.items()}
        for column, value in row.items():
            if value.ndim:
                raise ValueError(f"observable {column!r} must be a scalar, not of shape {value.shape}.")
        return row


@dataclass(frozen=True)
class Spectral:
    """The upper end of a spectrum as an observable: the k largest eigenvalues of an operator, tracked along the run.

    Attributes:
        name: "hessian_top3" has the columns hessian_1, hessian_2 and hessian_3, all others one of their own name.
        unit: of the eigenvalues.
        meaning: of the eigenvalue or, where there are several, of the operator.
        needs: as of `Observable`.
        operator: context → the operator.
        of_outputs: whether its vectors are like the outputs on the probe batch, not like the params.
        k: how many eigenvalues.
    """

    name: str
    unit: str
    meaning: str
    needs: tuple[str, ...]
    operator: Callable[[Context], LinearOperator]
    of_outputs: bool = False
    k: int = 1

    @property
    def prefix(self) -> str:
        """What the names of its columns begin with."""
        return self.name.partition("_top")[0]

    def columns(self) -> list[str]:
        """The column of each eigenvalue, the largest first."""
        return [self.name] if self.prefix == self.name else [f"{self.prefix}_{i + 1}" for i in range(self.k)]


Recorded = Observable | Spectral


def _in_metric(op: LinearOperator, context: Context) -> LinearOperator:
    """D^½ A D^½, or A without a metric."""
    return op if context.root is None else precondition(op, context.root)


def _raw_hessian(context: Context) -> LinearOperator:
    return hessian(context.loss, context.params, context.probe, model=context.model, chunk=context.chunk)


def _hessian(context: Context) -> LinearOperator:
    return _in_metric(_raw_hessian(context), context)


def _gauss_newton(context: Context) -> LinearOperator:
    assert context.model is not None
    op = gauss_newton(context.model, context.loss, context.params, context.probe, chunk=context.chunk)
    return _in_metric(op, context)


def _kernel(context: Context) -> LinearOperator:
    assert context.model is not None
    inputs = context.probe[0]
    kernel = ntk(context.model, context.params, inputs, scale=context.metric, chunk=context.chunk)
    return kernel / len(jax.tree.leaves(inputs)[0])


def _gradient_in_metric(context: Context) -> PyTree:
    """D^½ g."""
    if context.root is None:
        return context.gradient
    return jax.tree.map(jnp.multiply, context.root, context.gradient)


def _train_loss(context: Context) -> Row:
    return {"train_loss": context.objective(context.params, context.probe)}


def _evaluated(name: str, context: Context) -> Row:
    """A column of the evaluation: none where it has none, as the accuracy of a regression."""
    return {name: context.evaluation[name]} if name in context.evaluation else {}


def _gradient_norm(context: Context) -> Row:
    return {"gradient_norm": tree.norm(_gradient_in_metric(context))}


def _directional_sharpness(context: Context) -> Row:
    return {"directional_sharpness": directional_sharpness(_hessian(context), _gradient_in_metric(context))}


def _batch_sharpness(context: Context) -> Row:
    """The mean over the probe's whole batches of `chunk` examples, and its standard error."""
    size = len(jax.tree.leaves(context.probe)[0])
    chunk = min(context.chunk or size, size)
    batches = jax.tree.map(lambda x: x[: size // chunk * chunk].reshape(-1, chunk, *x.shape[1:]), context.probe)

    def one(i: jax.Array) -> jax.Array:
        batch = jax.tree.map(lambda x: x[i], batches)
        return _sharpness_of_batch(context.objective, context.params, batch, context.metric)

    mean, stderr = mean_of(each(one, jnp.arange(size // chunk), context.loop))
    return {"batch_sharpness": mean, "batch_sharpness_error": stderr}


@jax.jit
def _sharpness_of_batch(objective: Objective, params: PyTree, batch: PyTree, D: PyTree) -> jax.Array:
    """gᵀD H D g / gᵀD g of one batch."""
    with jax.default_matmul_precision("highest"):
        g, curve = jax.linearize(jax.grad(lambda w: objective(w, batch)), params)
        step = g if D is None else jax.tree.map(jnp.multiply, D, g)
        return tree.dot(step, curve(step)) / tree.dot(g, step)


def _hessian_trace(context: Context) -> Row:
    key = jax.random.fold_in(context.key, 1)
    estimate = unchecked_trace(_hessian(context), key, TRACE_MATVECS, context.loop)
    return {"hessian_trace": estimate.value, "hessian_trace_error": estimate.stderr}


_LOSS = "nats (cross-entropy) or squared units of the targets (squared error)"
_CURVATURE = "1/learning rate"  # a step −η D g is stable up to a multiple of it
_TABLE: tuple[Recorded, ...] = (
    Observable("train_loss", _LOSS, "mean loss on the probe batch of training examples", (), _train_loss),
    Observable(
        "eval_loss", _LOSS, "mean loss on the held-out examples", ("eval_batch",), partial(_evaluated, "eval_loss")
    ),
    Observable(
        "eval_accuracy",
        "share, 0 to 1",
        "share of the held-out examples whose largest output is the target",
        ("eval_batch", "model"),
        partial(_evaluated, "eval_accuracy"),
    ),
    Observable(
        "gradient_norm",
        "√(loss/learning rate)",
        "‖D^½ g‖, g the gradient on the probe batch, D the metric of the optimizer (1 without one)",
        (),
        _gradient_norm,
    ),
    Observable(
        "directional_sharpness",
        _CURVATURE,
        "gᵀD H D g / gᵀD g: the curvature along the optimizer's step",
        (),
        _directional_sharpness,
    ),
    Observable(
        "batch_sharpness",
        _CURVATURE,
        "the mean over batches of the probe of gᵀD H D g / gᵀD g, g and H of the batch",
        (),
        _batch_sharpness,
    ),
    Observable("hessian_trace", _CURVATURE, "tr(D^½ H D^½)", (), _hessian_trace),
    Spectral("sharpness_raw", "loss/parameter²", "λmax(H) of the loss on the probe batch", (), _raw_hessian),
    Spectral(
        "sharpness",
        _CURVATURE,
        "λmax(D^½ H D^½), D the metric of the optimizer: the effective sharpness",
        ("metric",),
        _hessian,
    ),
)
OBSERVABLES: Mapping[str, Recorded] = {entry.name: entry for entry in _TABLE}
# Recorded as "hessian_top10", or any other number of eigenvalues.
SPECTRA: Mapping[str, Spectral] = {
    entry.name: entry
    for entry in (
        Spectral("hessian", _CURVATURE, "D^½ H D^½", (), _hessian),
        Spectral("gauss_newton", _CURVATURE, "D^½ G D^½, G the Gauss-Newton matrix", ("model",), _gauss_newton),
        Spectral(
            "ntk",
            "output²/(loss × learning rate)",
            "J D Jᵀ/n, the empirical NTK of the n probe examples",
            ("model",),
            _kernel,
            of_outputs=True,
        ),
    )
}
_SEVERAL = re.compile(rf"({'|'.join(SPECTRA)})_top([1-9]\d*)")


def find_observables(given: Iterable[str | Recorded | Callable[..., jax.Array]]) -> tuple[Recorded, ...]:
    """Observables by name, each as of `find_observable`.

    Raises:
        ValueError: for one that is no observable, and for two of one name.
    """
    found = tuple(dict.fromkeys(map(find_observable, given)))
    names = [entry.name for entry in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"observables have the name {', '.join(repeated)} more than once: give each its own.")
    return found


def find_observable(given: str | Recorded | Callable[..., jax.Array]) -> Recorded:
    """What is recorded under a name, or as one's own.

    Args:
        given: a name of `OBSERVABLES`; "hessian_top10", "gauss_newton_top10" or "ntk_top10" (or any other number); an
            `Observable`; a function of (params, batch) → scalar, whose name the column takes, the batch being the
            probe; or either of the last two by its name "module:attribute@tag".

    Raises:
        ValueError: for what is none of these, or has the name of another observable.

    >>> find_observable("hessian_top3").columns()
    ['hessian_1', 'hessian_2', 'hessian_3']
    """
    if isinstance(given, str) and (several := _SEVERAL.fullmatch(given)):
        return replace(SPECTRA[several[1]], name=given, k=int(several[2]))
    own = find("observable", given, _KNOWN) if isinstance(given, str) else given
    found = own if isinstance(own, Observable | Spectral) else _of_function(own, given)
    if OBSERVABLES.get(found.name, found) != found:
        raise ValueError(f"observable {found.name!r} is the lab's own: give yours another name.")
    return found


_KNOWN = {**OBSERVABLES, **{f"{name}_top10": spectral for name, spectral in SPECTRA.items()}}


def _of_function(function: Callable[..., jax.Array], given: object) -> Observable:
    name = getattr(function, "__name__", "")
    if not (callable(function) and name.isidentifier()):
        raise ValueError(f"observable {given!r} is no function with a name: give a named one, or an Observable.")
    return Observable(name, "", f"{name}(params, probe batch)", (), _OfParams(function))


@dataclass(frozen=True)
class _OfParams:
    """A plain function of params and probe batch as an observable's `compute`."""

    function: Callable[..., jax.Array]

    def __call__(self, context: Context) -> Row:
        return {self.function.__name__: _called(self.function, context.params, context.probe)}


@partial(jax.jit, static_argnums=0)
def _called(function: Callable[..., jax.Array], params: PyTree, batch: PyTree) -> jax.Array:
    return function(params, batch)
