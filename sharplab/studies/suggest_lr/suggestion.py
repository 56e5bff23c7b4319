"""A learning rate for a large network, from sweeps of small ones of the same kind."""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sharplab.analysis import Transfer, transfer
from sharplab.analysis.consistent import Consistency, consistency
from sharplab.checks.trainee import Build, Loss
from sharplab.core.arguments import checked, function_or_name
from sharplab.core.grid import whole
from sharplab.optimizers import Optimizer, find_optimizer
from sharplab.records import Records
from sharplab.studies.suggest_lr.budget import CLOCK, Clock, Deadline
from sharplab.studies.suggest_lr.budgeted_sweep import SweptWidths, sweep_widths
from sharplab.studies.suggest_lr.extrapolation import Extrapolation, extrapolate, losses_of, predicted_regret
from sharplab.studies.suggest_lr.result import Suggestion
from sharplab.studies.suggest_lr.settings import StudySettings, first_rates, small_widths
from sharplab.studies.suggest_lr.sharpness import sharpness_along, threshold_of
from sharplab.studies.suggest_lr.small_runs import Place, small_runs
from sharplab.sweep.live import LiveTracker

CONFIDENCE = 0.95

# (width, learning rate, steps, threshold) → curves as of `sharpness_along`
Curves = Callable[[int, float, int, float], pd.DataFrame]


@checked(build=function_or_name, loss=function_or_name)
def suggest_learning_rate(
    build: str | Build,
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
    store: Path | str | None = None,
    executor: Executor | None = None,
    trackers: Sequence[LiveTracker] = (),
) -> Suggestion:
    """The base learning rate for `width`, from sweeps of smaller widths under muP.

    Each of `widths`, scaled by `sharplab.mup` from `base`, is trained at a grid of learning rates, each from the same
    weights and with the same batches in the same order (`studies.suggest_lr.budgeted_sweep.sweep_widths`). The
    suggestion is halfway, in octaves, between what the trend of the optima reads at `width` and the optimum of the
    largest width trained, but no more than the largest learning rate at which that one is stable. The interval holds
    the optimum whether its drift goes on or dies out as networks widen
    (`studies.suggest_lr.extrapolation.extrapolate`).

    The effective sharpness λmax(D^½ H D^½) at the suggestion is recorded along training at each width, in units of the
    threshold above which the optimizer's steps are unstable (2/η for SGD, 38/η for Adam).

    Args:
        build: `build(width, rngs)` → a Flax NNX module, called on the inputs of a batch; or its name, "module:build".
        data: (inputs, targets), arrays with examples along their first axis; a loader of such batches, of which as many
            examples are read as a run trains on, and 2,048 at least if there are; a function without arguments that
            returns either; or the name of a data set, with held-out examples of its own, as an `Experiment` takes it.
        base: the width at which learning rates are quoted.
        width: the width that is to be trained.
        widths: the widths to train now; unless told, half the base to 4 times the base, those less than `width`.
        held_out: what the final loss is measured on, given as `data` are, up to 2,048 examples; or else training data.
        loss: "cross_entropy", "squared_error", your own as "module:function", or a function of (outputs, targets).
        optimizer: a name of `sharplab.optimizers.OPTIMIZERS`, your own as "module:make", or an `Optimizer`.
        learning_rates: the grid to begin with at every width, numbers or texts such as "2^-10:2^-4"; unless told,
            octaves about the usual one of the optimizer.
        seeds: the number of seeds, 2 at least, of weights and of the order of the data.
        batch_size, steps: of each run. Both move the optimum: choose what resembles the training to come.
        minutes: the time there is; what does not fit is named in `left_out` (`studies.suggest_lr.budget.plan_within`).
        clock: the seconds by which `minutes` is counted.
        store: a directory where runs are kept, as of `sharplab.sweep.run`: the same call goes on from there. What
            `build`, `loss` and `optimizer` are must then have a name, "module:name", by which it is found again.
        executor, trackers: as of `sharplab.sweep.run`; workers find data by their name alone.

    Raises:
        ValueError: for bad arguments, a module whose muP cannot be told, or too few minutes.
        SweepError: if training failed.

    >>> from flax import nnx
    >>> def build(width, rngs):
    ...     return nnx.Sequential(nnx.Linear(4, width, rngs=rngs), nnx.tanh, nnx.Linear(width, 2, rngs=rngs))
    >>> inputs = np.random.default_rng(0).standard_normal((256, 4), dtype=np.float32)
    >>> data = inputs, (inputs[:, 0] * inputs[:, 1] > inputs[:, 2]).astype(int)
    >>> found = suggest_learning_rate(build, data, base=8, width=256, widths=(8, 16), steps=50, optimizer="lion")
    >>> found.conclusive, found.interval[0] <= found.learning_rate <= found.interval[1]
    (True, True)
    """
    deadline = Deadline.after(minutes, clock)
    base, width = whole("base", base), whole("width", width)
    chosen = find_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    settings = StudySettings(
        base=base,
        width=width,
        widths=small_widths(widths, base=base, width=width),
        optimizer=optimizer,
        learning_rates=first_rates(learning_rates, chosen),
        seeds=whole("seeds", seeds, 2),
        batch_size=whole("batch_size", batch_size),
        steps=whole("steps", steps, 2),
        metric="train_loss" if held_out is None and not isinstance(data, str) else "eval_loss",
    )
    place = Place(None if store is None else Path(store), executor, trackers)
    trained = small_runs(build, data, held_out, loss, settings, place)
    with tempfile.TemporaryDirectory() as passing:
        trained = replace(trained, place=replace(place, store=place.store or Path(passing)))
        swept = sweep_widths(trained, settings, deadline)
        return conclude(swept, settings, deadline, partial(sharpness_along, trained))


def conclude(swept: SweptWidths, settings: StudySettings, deadline: Deadline, curves_of: Curves) -> Suggestion:
    """The suggestion that follows from the runs; the sharpness at it is measured as long as there is time."""
    metric = settings.metric
    found_transfer = transfer(Records(swept.runs), metric=metric, confidence=CONFIDENCE)["mup"]
    sizes, grids = losses_of(swept.runs, metric)
    extrapolation = extrapolate(sizes, grids, settings.width, confidence=CONFIDENCE)
    last_optimum = float(np.log2(found_transfer.optimum[-1]))
    edge = _edge(found_transfer, grids[-1].rates[-1])
    guess = extrapolation.optimum if np.isfinite(extrapolation.optimum) else last_optimum
    rate = float(np.minimum(guess, edge))
    regret = predicted_regret(rate, extrapolation, grids[-1], last_optimum, confidence=CONFIDENCE)
    learning_rate = float(2.0**rate)
    curves, missing, left_out = _sharpness(swept, settings, learning_rate, deadline, curves_of)
    columns = {"optimizer": settings.optimizer_name, "base_width": settings.base}
    columns |= {"steps": swept.steps, "batch_size": settings.batch_size}
    records = Records(swept.runs.assign(**columns), curves)
    return Suggestion(
        learning_rate=learning_rate,
        interval=(float(2.0 ** extrapolation.interval[0]), float(2.0 ** extrapolation.interval[1])),
        width=settings.width,
        base=settings.base,
        optimizer=settings.optimizer_name,
        metric=metric,
        steps=swept.steps,
        batch_size=settings.batch_size,
        transfer=found_transfer,
        regret=regret.expected,
        regret_interval=regret.interval,
        edge_distance=edge - rate,
        capped=guess > edge,
        extrapolated=float(2.0**extrapolation.trend),
        sharpness=_consistency(records),
        sharpness_missing=missing,
        records=records,
        reasons=_reasons(extrapolation, found_transfer),
        left_out=(*swept.left_out, *left_out),
    )


def _edge(found: Transfer, largest: float) -> float:
    """log₂ of the largest learning rate at which the largest width is surely stable, as far as it was trained."""
    low, _ = found.edge_interval[-1]
    return float(np.log2(low)) if 0 < low < np.inf else float(largest)


def _reasons(extrapolation: Extrapolation, found: Transfer) -> tuple[str, ...]:
    if np.isfinite(extrapolation.interval).all():
        return ()
    all_diverged = [str(size) for size, optimum in zip(found.sizes, found.optimum, strict=True) if np.isnan(optimum)]
    if all_diverged:
        return (f"every run diverged at width {', '.join(all_diverged)}: give lower learning_rates.",)
    at_edge = [str(size) for size, at in zip(found.sizes, found.at_grid_edge, strict=True) if at]
    if at_edge:
        return (f"the best is the last of the grid at width {', '.join(at_edge)}: extend learning_rates there.",)
    if len(found.sizes) < 2:
        return ("one width shows no trend: add widths, or minutes.",)
    return ("no optimum can be fitted at any width: add seeds, or learning_rates nearer to the optimum.",)


def _sharpness(
    swept: SweptWidths, settings: StudySettings, learning_rate: float, deadline: Deadline, curves_of: Curves
) -> tuple[pd.DataFrame | None, str, tuple[str, ...]]:
    """The curves, or why there are none; and what was left out."""
    threshold = threshold_of(settings.optimizer, learning_rate)
    if threshold is None:
        return None, f"{settings.optimizer_name} has no metric: no diagonal turns gradients into its steps", ()
    if np.isnan(learning_rate):
        return None, "there is no learning rate to measure it at", ()
    tables, left_out = [], []
    for width in swept.runs["width"].unique().tolist():
        cost = swept.costs.get(width)
        if cost is not None and not deadline.allows(cost.sharpness(swept.steps)):
            left_out.append(f"the sharpness at width {width} was left out for lack of time")
            continue
        tables.append(curves_of(width, learning_rate, swept.steps, threshold))
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
