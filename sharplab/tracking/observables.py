"""The table of what can be recorded along training: each with its unit, its meaning, its needs, and how it is computed.

Whoever adds an entry here adds it everywhere: to experiments, trackers, and the descriptions of exported columns.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sharplab.core.imports import find

if TYPE_CHECKING:
    import jax

    from sharplab.curvature import LinearOperator
    from sharplab.tracking.context import Context
    from sharplab.tracking.quantities import Row

NEEDS = ("model", "metric", "eval_batch", "learning_rate")


@dataclass(frozen=True)
class Observable:
    """A number recorded along training, as a pure function of one point of the run.

    Attributes:
        name: of its column, and of the one of its error with `_error` behind it.
        unit, meaning: for the description of the column.
        needs: what it needs out of "model", "metric", "eval_batch" and "learning_rate".
        compute: context → the scalar columns `name` and, where it is an estimate, `name_error`.
        recalls: whether `compute` asks for `context.last[name]`, what it was at the record before.

    >>> def compute(context):
    ...     return {"log_loss": jnp.log(context.objective(context.params, context.probe))}
    >>> Observable("log_loss", "", "logarithm of the loss on the probe batch", (), compute).name
    'log_loss'
    """

    name: str
    unit: str
    meaning: str
    needs: tuple[str, ...]
    compute: "Callable[[Context], Mapping[str, jax.Array]]"
    recalls: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", tuple(self.needs))  # hashable, however it was given
        if unknown := set(self.needs) - set(NEEDS):
            raise ValueError(f"observable {self.name!r}: needs may hold {', '.join(NEEDS)}, not {', '.join(unknown)}.")

    def columns(self, context: "Context") -> "Row":
        """The scalars that it is at this point, by column.

        Raises:
            ValueError: for columns of other names, and for values that are no scalars.
        """
        import jax.numpy as jnp

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
        above: with c, those eigenvalues alone that exceed c/η, at most k of them: their number is the column
            `…_count`, and `…_full` is 1 where there may be more than k. Another c than that of "above_threshold" by
            `dataclasses.replace`, under a name of one's own; 28.5 is to Adam's 38/η what 1.5 is to 2/η.
    """

    name: str
    unit: str
    meaning: str
    needs: tuple[str, ...]
    operator: "Callable[[Context], LinearOperator]"
    of_outputs: bool = False
    k: int = 1
    above: float | None = None

    @property
    def prefix(self) -> str:
        """What the names of its columns begin with."""
        return self.name.partition("_top")[0]

    def columns(self) -> list[str]:
        """The column of each eigenvalue, the largest first."""
        return [self.name] if self.prefix == self.name else [f"{self.prefix}_{i + 1}" for i in range(self.k)]


Recorded = Observable | Spectral


@dataclass(frozen=True)
class _Quantity:
    """A function of `sharplab.tracking.quantities`, imported when it is called: to read the table takes no jax."""

    name: str

    def __call__(self, context: "Context") -> Any:
        return getattr(import_module("sharplab.tracking.quantities"), self.name)(context)


_LOSS = "nats (cross-entropy) or squared units of the targets (squared error)"
_CURVATURE = "1/learning rate"  # a step −η D g is stable up to a multiple of it
_TABLE: tuple[Recorded, ...] = (
    Observable("train_loss", _LOSS, "mean loss on the probe batch of training examples", (), _Quantity("train_loss")),
    Observable("eval_loss", _LOSS, "mean loss on the held-out examples", ("eval_batch",), _Quantity("eval_loss")),
    Observable(
        "eval_accuracy",
        "share, 0 to 1",
        "share of the held-out examples whose largest output is the target",
        ("eval_batch", "model"),
        _Quantity("eval_accuracy"),
    ),
    Observable(
        "gradient_norm",
        "√(loss/learning rate)",
        "‖D^½ g‖, g the gradient on the probe batch, D the metric of the optimizer (1 without one)",
        (),
        _Quantity("gradient_norm"),
    ),
    Observable(
        "directional_sharpness",
        _CURVATURE,
        "gᵀD H D g / gᵀD g: the curvature along the optimizer's step",
        (),
        _Quantity("directional_sharpness"),
    ),
    Observable(
        "batch_sharpness",
        _CURVATURE,
        "the mean over batches drawn from the probe of gᵀD H D g / gᵀD g, g and H of the batch",
        (),
        _Quantity("batch_sharpness"),
    ),
    Observable(
        "critical_sharpness",
        _CURVATURE,
        "2/η, η the least learning rate at which a step along the optimizer's update raises the loss on the probe",
        (),
        _Quantity("critical_sharpness"),
        recalls=True,
    ),
    Observable(
        "update_sharpness",
        _CURVATURE,
        "ΔᵀHΔ / (−gᵀΔ), Δ the optimizer's update: what the critical sharpness is where the loss is quadratic",
        (),
        _Quantity("update_sharpness"),
    ),
    Observable(
        "midpoint_sharpness",
        _CURVATURE,
        "ΔᵀH′Δ / (−gᵀΔ), Δ the optimizer's update, H′ half-way along its step of the learning rate",
        ("learning_rate",),
        _Quantity("midpoint_sharpness"),
    ),
    Observable(
        "gradient_noise_scale",
        "examples",
        "tr(D^½ Σ D^½) / gᵀD g, Σ the covariance of single examples' gradients: about the critical batch size",
        (),
        _Quantity("gradient_noise_scale"),
    ),
    Observable("hessian_trace", _CURVATURE, "tr(D^½ H D^½)", (), _Quantity("hessian_trace")),
    Spectral(
        "sharpness_raw", "loss/parameter²", "λmax(H) of the loss on the probe batch", (), _Quantity("raw_hessian")
    ),
    Spectral(
        "sharpness",
        _CURVATURE,
        "λmax(D^½ H D^½), D the metric of the optimizer: the effective sharpness; of Lion and Muon, without one, "
        "the largest dᵀHd that ascents find over directions d of norm 1, that of their steps, over the dual norm of g",
        ("metric",),
        _Quantity("hessian"),
    ),
)
OBSERVABLES: Mapping[str, Recorded] = {entry.name: entry for entry in _TABLE}
# Recorded as "hessian_top10", or any other number of eigenvalues.
SPECTRA: Mapping[str, Spectral] = {
    entry.name: entry
    for entry in (
        Spectral("hessian", _CURVATURE, "D^½ H D^½", (), _Quantity("hessian")),
        Spectral(
            "gauss_newton", _CURVATURE, "D^½ G D^½, G the Gauss-Newton matrix", ("model",), _Quantity("gauss_newton")
        ),
        Spectral(
            "ntk",
            "output²/(loss × learning rate)",
            "J D Jᵀ/n, the empirical NTK of the n probe examples",
            ("model",),
            _Quantity("kernel"),
            of_outputs=True,
        ),
        Spectral(
            "above_threshold",
            _CURVATURE,
            "D^½ H D^½, of those above 1.5/η",
            ("learning_rate",),
            _Quantity("hessian"),
            above=1.5,
        ),
    )
}
_SEVERAL = re.compile(rf"({'|'.join(SPECTRA)})_top([1-9]\d*)")


def find_observables(given: "Iterable[str | Recorded | Callable[..., jax.Array]]") -> tuple[Recorded, ...]:
    """Observables by name, each as of `find_observable`.

    Raises:
        ValueError: for one that is no observable, and for two of one name.
    """
    found = tuple(dict.fromkeys(map(find_observable, given)))
    names = [entry.name for entry in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"observables have the name {', '.join(repeated)} more than once: give each its own.")
    return found


def find_observable(given: "str | Recorded | Callable[..., jax.Array]") -> Recorded:
    """What is recorded under a name, or as one's own.

    Args:
        given: a name of `OBSERVABLES`; "hessian_top10", "gauss_newton_top10" or "ntk_top10" (or any other number), or
            "above_threshold_top10" for all eigenvalues of the Hessian above 1.5/η, at most so many; an
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


def _of_function(function: "Callable[..., jax.Array]", given: object) -> Observable:
    name = getattr(function, "__name__", "")
    if not (callable(function) and name.isidentifier()):
        raise ValueError(f"observable {given!r} is no function with a name: give a named one, or an Observable.")
    return Observable(name, "", f"{name}(params, probe batch)", (), _OfParams(function))


@dataclass(frozen=True)
class _OfParams:
    """A plain function of params and probe batch as an observable's `compute`."""

    function: "Callable[..., jax.Array]"

    def __call__(self, context: "Context") -> "Row":
        from sharplab.tracking.quantities import of_params

        return {self.function.__name__: of_params(self.function, context.params, context.probe)}
