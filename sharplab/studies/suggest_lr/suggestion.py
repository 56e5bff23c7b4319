"""A learning rate for a large network, from small ones of the same kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sharplab.analysis import Transfer, transfer
from sharplab.analysis.consistent import Consistency, consistency
from sharplab.analysis.trend import Interval
from sharplab.checks.trainee import Build, Loss
from sharplab.core.grid import parse_positive, whole
from sharplab.core.naming import lookup
from sharplab.losses import LOSSES
from sharplab.optimizers import OPTIMIZERS, Optimizer
from sharplab.records import Records
from sharplab.studies.suggest_lr.budget import CLOCK, Clock
from sharplab.studies.suggest_lr.budgeted_sweep import SweptWidths, sweep_widths
from sharplab.studies.suggest_lr.extrapolation import Extrapolation, extrapolate, losses_of, predicted_regret
from sharplab.studies.suggest_lr.sharpness_evidence import sharpness_along, threshold_of
from sharplab.studies.suggest_lr.small_networks import SmallNetwork, make_examples, prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENCE = 0.95
# In the middle of the first grid, for networks at their base width.
USUAL: Mapping[str, float] = MappingProxyType(
    {
        "sgd": 2.0**-2,
        "momentum": 2.0**-5,
        "nesterov": 2.0**-5,
        "adam": 2.0**-8,
        "adamw": 2.0**-8,
        "lion": 2.0**-11,
        "muon": 2.0**-6,
    }
)


@dataclass(frozen=True, eq=False)
class Suggestion:
    """The base learning rate for a width that was not trained: made by `suggest_learning_rate`.

    Give it to `sharplab.mup(build, base=base, width=width, optimizer=…).optimizer(learning_rate)`.

    Attributes:
        learning_rate: the suggestion; where `conclusive` is False, the best guess there is, or nan.
        interval: of the optimum at this width; (0, inf) where it is not known.
        width, base: for which width, and at which learning rates are quoted.
        steps, batch_size: of the runs: a longer training or another batch may want another learning rate.
        transfer: the optimum and the end of stability at each width trained.
        regret, regret_interval: how much higher the loss is at the suggestion than at the optimum, expected and from 0
            to the worst case (`sharplab.studies.suggest_lr.extrapolation.predicted_regret`), in units of the metric.
        edge_distance: by how many octaves the suggestion lies below the end of stability at the largest width trained,
            the lower end of that one's interval; where no run diverged, below the largest learning rate trained.
        capped: whether it was brought down to that end.
        extrapolated: what the trend of the optima reads at `width`; nan where there is none.
        sharpness: whether the effective sharpness, in units of the optimizer's threshold, follows one trajectory at
            every width; None with `sharpness_missing` the reason.
        records: the runs, and as curves the sharpness along training at the suggestion.
        reasons: why it is not conclusive, and what to do.
        left_out: what the budget did not allow.
    """

    learning_rate: float
    interval: Interval
    width: int
    base: int
    optimizer: str
    metric: str
    steps: int
    batch_size: int
    transfer: Transfer
    regret: float
    regret_interval: Interval
    edge_distance: float
    capped: bool
    extrapolated: float
    sharpness: Consistency | None
    sharpness_missing: str
    records: Records
    reasons: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def conclusive(self) -> bool:
        """Whether there is an interval."""
        return not self.reasons

    def table(self) -> pd.DataFrame:
        """One row per width trained: optimum and edge with intervals, and the late sharpness in units of the threshold.

        `sharpness` is the mean over seeds of the second half of training, `sharpness_error` the largest error of the
        eigenvalues in it; NaN where it is not known.
        """
        columns = [f"{what}{end}" for what in ("optimum", "edge") for end in ("", "_low", "_high")]
        table = self.transfer.table().set_index("width")[columns].assign(sharpness=np.nan, sharpness_error=np.nan)
        curves = self.records.curves
        if curves is not None:
            late = curves[curves["step"] >= curves["step"].max() / 2].groupby("width")
            per_unit = curves["share"].div(curves["sharpness"]).median()
            table["sharpness"] = late["share"].mean()
            table["sharpness_error"] = late["sharpness_error"].max() * per_unit
        return table.reset_index()

    def draw(self) -> "Figure":
        """The sweeps, the optimum over width with the extrapolation, and the sharpness along training."""
        from sharplab.studies.suggest_lr.picture import draw_suggestion

        return draw_suggestion(self)

    def __str__(self) -> str:
        from sharplab.studies.suggest_lr.text import describe

        return describe(self)


def suggest_learning_rate(
    build: Build,
    data: Any,
    *,
    base: int,
    width: int,
    widths: Sequence[int] | None = None,
    held_out: Any | None = None,
    loss: str | Loss = "cross_entropy",
    optimizer: str | Optimizer = "adam",
    learning_rates: Sequence[float | str] | None = None,
    seeds: int = 3,
    batch_size: int = 64,
    steps: int = 200,
    minutes: float | None = None,
    clock: Clock = CLOCK,
) -> Suggestion:
    """The base learning rate for `width`, from sweeps of smaller widths under muP.

    Each of `widths`, scaled by `sharplab.mup` from `base`, is trained at a grid of learning rates (the rule of
    `sweep_widths` in `studies.suggest_lr.budgeted_sweep`), every learning rate from the same weights and with the same
    batches in the same order. The suggestion is halfway (in octaves) between what the trend of the optima reads at
    `width` and the optimum of the largest width trained, but no more than the largest learning rate at which that one
    is stable.
    The interval holds the optimum whether its drift goes on or dies out as networks widen (`extrapolate`): in
    simulated sweeps with 3 seeds it covers the optimum at 8 times the largest width in 95 to 100 % of cases, for
    drifts of −0.3 to 0.5 octaves per doubling, steady or dying out. An optimum pooled over the widths, without a
    trend, would hardly ever cover it from 0.17 octaves per doubling on.

    The effective sharpness λmax(D^½ H D^½) at the suggestion is recorded along training at each width, in units of the
    threshold above which the optimizer's steps are unstable (2/η for SGD, 38/η for Adam).

    Args:
        build: `build(width, rngs)` → a Flax NNX module, called on the inputs of a batch.
        data: (inputs, targets), arrays with examples along their first axis.
        base: the width at which learning rates are quoted.
        width: the one that is to be trained.
        widths: the ones to train now; unless told, half the base to 4 times the base, those that are less than `width`.
        held_out: (inputs, targets) on which the final loss is measured, up to 2,048 of them; or else on training data.
        loss: "cross_entropy", "squared_error", or a function of (outputs, targets).
        optimizer: a name of `sharplab.optimizers.OPTIMIZERS`, or an `Optimizer`.
        learning_rates: the grid to begin with at every width, numbers or texts such as "2^-10:2^-4"; unless told,
            octaves about the usual one of the optimizer.
        seeds: how many, 2 at least: of weights and of the order of the data.
        batch_size, steps: of each run. Both move the optimum: choose what resembles the training to come.
        minutes: the time there is; what does not fit is left out (`plan_within` of `studies.suggest_lr.budget`) and
            said.
        clock: seconds, of which `minutes` is counted.

    Raises:
        ValueError: for bad arguments, a module whose muP cannot be told, or too few minutes.

    >>> from flax import nnx
    >>> def build(width, rngs):
    ...     return nnx.Sequential(nnx.Linear(4, width, rngs=rngs), nnx.tanh, nnx.Linear(width, 2, rngs=rngs))
    >>> inputs = np.random.default_rng(0).standard_normal((256, 4), dtype=np.float32)
    >>> data = inputs, (inputs[:, 0] * inputs[:, 1] > inputs[:, 2]).astype(int)
    >>> found = suggest_learning_rate(build, data, base=8, width=256, widths=(8, 16), steps=50, optimizer="lion")
    >>> found.conclusive, found.interval[0] <= found.learning_rate <= found.interval[1]
    (True, True)
    """
    deadline = np.inf if minutes is None else clock() + 60 * _minutes(minutes)
    small = _small_widths(widths, base=whole("base", base), width=whole("width", width))
    whole("seeds", seeds, 2)
    whole("steps", steps, 2)
    if isinstance(optimizer, str):
        lookup("optimizer", optimizer, OPTIMIZERS)
    rates = _rates(learning_rates, optimizer)
    examples = make_examples(data, held_out, whole("batch_size", batch_size))
    objective = lookup("loss", loss, LOSSES) if isinstance(loss, str) else loss

    def prepared(size: int) -> SmallNetwork:
        return prepare(
            build, examples, base=base, width=size, loss=objective, optimizer=optimizer, seeds=seeds, steps=steps
        )

    swept = sweep_widths(
        prepared,
        small,
        usual=USUAL.get(optimizer) if isinstance(optimizer, str) else None,
        learning_rates=rates,
        steps=steps,
        metric="train_loss" if held_out is None else "eval_loss",
        deadline=deadline,
        clock=clock,
    )
    return conclude(swept, base, width, optimizer, batch_size, deadline, clock)


def conclude(
    swept: SweptWidths,
    base: int,
    width: int,
    optimizer: str | Optimizer,
    batch_size: int,
    deadline: float,
    clock: Clock,
) -> Suggestion:
    """The suggestion that what was trained makes; the sharpness at it is measured as long as there is time."""
    metric, name = swept.metric, optimizer if isinstance(optimizer, str) else "an optimizer of your own"
    moved = transfer(Records(swept.runs), metric=metric, confidence=CONFIDENCE)["mup"]
    sizes, grids = losses_of(swept.runs, metric)
    found = extrapolate(sizes, grids, width, confidence=CONFIDENCE)
    lowest = float(np.log2(moved.optimum[-1]))
    edge = _edge(moved, grids[-1].rates[-1])
    guess = found.optimum if np.isfinite(found.optimum) else lowest
    rate = float(np.minimum(guess, edge))
    regret = predicted_regret(rate, found, grids[-1], lowest, confidence=CONFIDENCE)
    learning_rate = float(2.0**rate)
    curves, missing, left_out = _sharpness(swept, name, optimizer, learning_rate, deadline, clock)
    settings = {"optimizer": name, "base_width": base, "steps": swept.steps, "batch_size": batch_size}
    records = Records(swept.runs.assign(**settings), curves)
    return Suggestion(
        learning_rate=learning_rate,
        interval=(float(2.0 ** found.interval[0]), float(2.0 ** found.interval[1])),
        width=width,
        base=base,
        optimizer=name,
        metric=metric,
        steps=swept.steps,
        batch_size=batch_size,
        transfer=moved,
        regret=regret.expected,
        regret_interval=regret.interval,
        edge_distance=edge - rate,
        capped=guess > edge,
        extrapolated=float(2.0**found.trend),
        sharpness=_consistency(records),
        sharpness_missing=missing,
        records=records,
        reasons=_reasons(found, moved),
        left_out=(*swept.left_out, *left_out),
    )


def _edge(moved: Transfer, largest: float) -> float:
    """log₂ of the largest learning rate at which the largest width is surely stable, as far as it was trained."""
    low, _ = moved.edge_interval[-1]
    return float(np.log2(low)) if 0 < low < np.inf else float(largest)


def _reasons(found: Extrapolation, moved: Transfer) -> tuple[str, ...]:
    if np.isfinite(found.interval).all():
        return ()
    lost = [str(size) for size, optimum in zip(moved.sizes, moved.optimum, strict=True) if np.isnan(optimum)]
    if lost:
        return (f"every run diverged at width {', '.join(lost)}: give lower learning_rates.",)
    bare = [str(size) for size, at in zip(moved.sizes, moved.at_grid_edge, strict=True) if at]
    if bare:
        return (f"the best is the last of the grid at width {', '.join(bare)}: extend learning_rates there.",)
    if len(moved.sizes) < 2:
        return ("one width shows no trend: add widths, or minutes.",)
    return ("no width shows a valley of the loss: add seeds, or learning_rates nearer to the optimum.",)


def _sharpness(
    swept: SweptWidths, name: str, optimizer: str | Optimizer, learning_rate: float, deadline: float, clock: Clock
) -> tuple[pd.DataFrame | None, str, tuple[str, ...]]:
    """The curves, or why there are none; and what was left out."""
    threshold = threshold_of(optimizer, learning_rate)
    if threshold is None:
        return None, f"{name} has no metric: no diagonal turns gradients into its steps", ()
    if np.isnan(learning_rate):
        return None, "there is no learning rate to measure it at", ()
    tables, left_out = [], []
    for network in swept.networks:
        cost = swept.costs.get(network.width)
        if cost is not None and clock() + cost.evidence(swept.steps) > deadline:
            left_out.append(f"the sharpness at width {network.width} was left out for lack of time")
            continue
        tables.append(sharpness_along(network, learning_rate, swept.steps, threshold))
    if not tables:
        return None, "there was no time for it", tuple(left_out)
    curves = pd.concat(tables, ignore_index=True)
    return (curves, "", tuple(left_out)) if _measured(curves) else (None, "every run diverged", tuple(left_out))


def _measured(curves: pd.DataFrame) -> set[int]:
    """The widths at which some seed has a sharpness at the last record."""
    last = curves[curves["step"] == curves["step"].max()]
    return set(last.loc[last["share"] > 0, "width"])


def _consistency(records: Records) -> Consistency | None:
    if records.curves is None:
        return None
    runs, curves = (table[table["width"].isin(_measured(records.curves))] for table in (records.runs, records.curves))
    return consistency(Records(runs, curves), "share")["mup"]


def _minutes(minutes: float) -> float:
    if not 0 < minutes < np.inf:
        raise ValueError(f"minutes must be positive and finite, not {minutes!r}.")
    return minutes


def _small_widths(widths: Sequence[int] | None, *, base: int, width: int) -> tuple[int, ...]:
    if widths is None:
        usual = (base // 2, base, 2 * base, 4 * base) if base % 2 == 0 else (base, 2 * base, 4 * base)
        small = tuple(size for size in usual if size < width)
    else:
        small = tuple(sorted({whole("widths", size) for size in widths}))
        if small and small[-1] >= width:
            raise ValueError(f"widths must be smaller than width {width}, not {small[-1]}: they are to predict it.")
    if len(small) < 2:
        raise ValueError(f"widths must hold at least two, smaller than width {width}, not {list(small)}.")
    return small


def _rates(learning_rates: Sequence[float | str] | None, optimizer: str | Optimizer) -> tuple[float, ...]:
    if learning_rates is None:
        if not isinstance(optimizer, str):
            raise ValueError("learning_rates is needed for an optimizer of your own: give about seven, octaves apart.")
        return ()
    rates = tuple(sorted(parse_positive("learning_rates", learning_rates)))
    if len(rates) < 3:
        raise ValueError(f"learning_rates must hold at least three, to show a lowest point, not {list(rates)}.")
    return rates
