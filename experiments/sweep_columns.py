"""What figures share: presets, and columns of a sweep each, with the optimum above and the sharpness below."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.curves import LATE, with_metric
from sharplab.gallery.finding import Finding, Verdict
from sharplab.optimizers import OPTIMIZERS
from sharplab.plotting import (
    draw_curves,
    draw_spread,
    draw_sweep,
    draw_threshold,
    house_style,
    leave_room_below,
    log_ticks,
    size_colours,
    size_legend,
)

METRIC = "train_loss"
BATCH = "batch_sharpness"
FINDINGS = {"transfers": "stays", "shifts": "moves", "inconclusive": "may stay or move"}
KEYS = ["parameterization", "optimizer", "width", "depth", "learning_rate", "seed"]
LOSS_LABELS = {"cross_entropy": "train loss (nats)", "squared_error": "train loss, ½‖f − y‖²"}


def octaves(low: int, high: int, to_each: int = 1) -> tuple[float, ...]:
    """The learning rates from 2^low to 2^high, so many to each octave."""
    return tuple(2.0 ** (i / to_each) for i in range(low * to_each, high * to_each + 1))


# What the presets of many figures have in common. Learning-rate sweeps: "quick", and what the other presets change.
SWEEP = sl.Experiment(
    model="residual_mlp",
    depths=(2,),
    widths=(32, 64, 128, 256),
    base_width=32,
    parameterizations=("mup",),
    optimizer="adam",
    learning_rates=octaves(-8, -5),
    seeds=3,
    steps=256,
    batch_size=128,
    probe_size=2048,
    records=2,
    schedule="linear",
    refine=True,
)
FULL_SWEEP: Mapping[str, Any] = {"widths": (32, 64, 128, 256, 512), "seeds": 10}
SMALL: Mapping[str, Any] = {"seeds": 2, "steps": 16, "probe_size": 256, "data": "gaussian-clusters"}
SMALL_SWEEP: Mapping[str, Any] = {**SMALL, "widths": (8, 16), "base_width": 8, "refine": False}
CIFAR: Mapping[str, Any] = {"data": "cifar-10", "augment": "crop_and_flip"}
CIFAR_SWEEP: Mapping[str, Any] = {**CIFAR, "seeds": 3, "steps": 7820}
VIT_SWEEP: Mapping[str, Any] = {**CIFAR, "seeds": 3, "steps": 15_640, "batch_size": 64, "probe_size": 1024}
CONVNET_SWEEP: Mapping[str, Any] = {
    **CIFAR_SWEEP,
    "model": "figure1_convnet",
    "widths": (64, 128, 256, 512, 1024),
    "base_width": 1,
    "optimizer": "sgd",
    "learning_rates": octaves(-3, 2),
    "schedule": "constant",
}
# Trajectories at one learning rate.
TRAJECTORIES = sl.Experiment(
    model="residual_mlp",
    depths=(3,),
    widths=(32, 64, 128, 256),
    base_width=1,
    parameterizations=("mup",),
    learning_rates=(0.25,),
    seeds=3,
    steps=256,
    batch_size=128,
    probe_size=1024,
    observables=("train_loss", "eval_loss", "eval_accuracy", "sharpness"),
    records=17,
)
SMALL_TRAJECTORIES: Mapping[str, Any] = {**SMALL, "widths": (8, 16), "records": 5}
CONVNET_TRAJECTORIES: Mapping[str, Any] = {
    **CIFAR,
    "model": "figure1_convnet",
    "widths": (64, 256, 1024),
    "learning_rates": (0.5,),
    "seeds": 3,
    "steps": 19_550,
    "records": 51,
}


@dataclass(frozen=True)
class Column:
    """One sweep of one parameterization and optimizer, and the trajectories of its runs at one learning rate."""

    title: str  # what tells it from the others
    over: str  # "width" or "depth"
    finals: sl.Records  # the sweep's runs
    metric: str  # of their losses
    found: sl.Transfer  # where their optimum is at each size, and whether it moves
    trajectories: sl.Records  # runs at `rate` with `quantity` recorded along training
    rate: float
    quantity: str  # "sharpness", or "sharpness_raw" for optimizers without a metric or a norm
    threshold: float | None  # the sharpness at which `rate` is at the edge of stability; None where there is none
    plateaus: tuple[float, float] | None = None  # of batch sharpness, recorded where small and large batches differ


def measure(
    title: str, sweep: sl.Experiment, rate: float, store: Path, *, over: str = "width", probe_size: int = 512
) -> Column:
    """The column of a sweep of one parameterization, with trajectories of two seeds at `rate`.

    Its metric is the final train loss where the learning rate falls, and the mean over the last quarter of training
    where it is constant: near the edge of stability single steps differ widely. Runs that the store lacks are trained.
    Trajectories are measured on `probe_size` examples at most.
    """
    optimizer = OPTIMIZERS[sweep.optimizer]
    plateaus = None if optimizer.plateaus is None else optimizer.plateaus(rate)
    if plateaus is not None and plateaus[0] == plateaus[1]:
        plateaus = None
    quantity = "sharpness_raw" if optimizer.threshold is None else "sharpness"
    along = replace(
        sweep,
        learning_rates=(rate,),
        seeds=2,
        schedule="constant",  # so that there is one threshold
        observables=(METRIC, quantity) if plateaus is None else (METRIC, quantity, BATCH),
        records=min(9, sweep.steps + 1),
        probe_size=min(probe_size, sweep.probe_size),
        refine=False,
    )
    metric = f"{LATE}{METRIC}" if sweep.schedule == "constant" else METRIC
    finals = with_metric(sl.run(sweep, store), metric)
    (found,) = sl.transfer(finals, over=over, metric=metric).values()
    threshold = None if optimizer.threshold is None else optimizer.threshold(rate)
    return Column(title, over, finals, metric, found, sl.run(along, store), rate, quantity, threshold, plateaus)


def smoke(sweep: sl.Experiment, rates: tuple[float, ...], steps: int, **sizes: Any) -> sl.Experiment:
    """A sweep of seconds for networks that take long to compile: its runs are its trajectories too."""
    return replace(
        sweep,
        **sizes,
        learning_rates=rates,
        seeds=2,
        steps=steps,
        schedule="constant",
        observables=(METRIC, "sharpness"),
        records=3,
        probe_size=4,
        refine=False,
    )


def finding(
    columns: Sequence[Column], claim: str, verdict: Verdict, more: Mapping | None = None, note: str = ""
) -> Finding:
    """The finding of sweeps side by side, with `more` numbers and a `note` under the picture."""
    return Finding(draw(columns, note), table(columns), claim, verdict, numbers(columns) | (more or {}))


def contrast(first: sl.Transfer, second: sl.Transfer) -> dict:
    """The numbers of the second shift less the first, with its interval."""
    difference, interval = sl.shift_difference(first, second)
    return {"difference": difference, "interval": interval}


MOST_COLUMNS = 4  # side by side


def draw(columns: Sequence[Column], note: str = "") -> Figure:
    """The figure of sweeps side by side, with a `note` under the picture.

    Above, the final loss against the base learning rate, with each size's optimum (diamond) and its 95 % interval
    (bar); below, the sharpness along training at one learning rate, with its stability threshold.
    """
    bands = -(-len(columns) // MOST_COLUMNS)
    across = -(-len(columns) // bands)
    sizes = sorted({int(size) for column in columns for size in column.found.sizes})  # a colour has one meaning
    with house_style():
        figure, axes = plt.subplots(2 * bands, across, figsize=(0.6 + 3.3 * across, 6.0 * bands), squeeze=False)
        places = axes.reshape(bands, 2, across).transpose(0, 2, 1).reshape(-1, 2)
        for ax in places[len(columns) :].ravel():
            ax.set_axis_off()
        for (above, below), column in zip(places, columns, strict=False):
            found, size = column.found, column.over
            optima = dict(zip(found.sizes, zip(found.optimum, found.optimum_interval, strict=True), strict=True))
            draw_sweep(above, column.finals.runs, column.metric, optima, size=size, sizes=sizes)
            low, high = found.shift_interval
            above.set_title(
                f"{column.title}\nthe optimum {FINDINGS[found.verdict]}\n"
                f"{found.shift:+.2f} [{low:+.2f}, {high:+.2f}] octaves/doubling"
            )
            when = "late" if column.metric.startswith(LATE) else "final"
            above.set_ylabel(f"{when} {LOSS_LABELS[column.finals.runs['loss'].iloc[0]]}")
            log_ticks(above)
            leave_room_below(above, 0.08 * len(found.sizes))
            curves = column.trajectories.curves
            draw_curves(below, curves, column.quantity, size=size, sizes=sizes)
            below.set_ylabel(_label(column))
            below.set_title(
                f"η = $2^{{{np.log2(column.rate):g}}}$" + (", dotted: of batches" if column.plateaus else "")
            )
            if column.plateaus is not None:
                colours = size_colours(sizes)
                for value, means in curves.groupby([size, "step"])[BATCH].mean().groupby(size):
                    below.plot(means.index.get_level_values("step"), means, ":", color=colours[value])
                draw_threshold(below, column.plateaus[0], "2(1−β)/η, small batches")
            log_ticks(below)
            if column.threshold is not None:
                draw_threshold(below, column.threshold, f"{column.threshold * column.rate:.3g}/η")
        handles = size_legend(sizes, size=columns[0].over)
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        figure.supxlabel(note, fontsize=9)
        plt.close(figure)
    return figure


def _label(column: Column) -> str:
    """What the lower panel of a column shows."""
    if column.quantity != "sharpness":
        return "raw sharpness $\\lambda_{max}(H)$"
    norms = OPTIMIZERS[column.finals.runs["optimizer"].iloc[0]].norms
    return {
        "linf": "ℓ∞ sharpness / $\\|g\\|_1$",
        "spectral": "spectral-norm sharpness of\nhidden matrices / $\\|g\\|_*$",
        "": "effective sharpness",
    }[next(iter(norms.values()), "")]


def table(columns: Sequence[Column]) -> pd.DataFrame:
    """The runs behind the figure: final losses of the sweeps, and the trajectories."""
    parts = []
    for column in columns:
        runs, curves = column.finals.runs, column.trajectories.curves
        losses = list(dict.fromkeys((METRIC, column.metric)))
        finals = runs[[*KEYS, "steps", *losses, "diverged"]].rename(columns={"steps": "step"})
        optimizer = column.trajectories.runs["optimizer"].iloc[0]
        trajectory = curves.assign(optimizer=optimizer)[
            [*KEYS, "step", METRIC, *(f"{q}{error}" for q in _recorded(column) for error in ("", "_error"))]
        ]
        parts += [
            finals.assign(column=column.title, part="sweep"),
            trajectory.assign(column=column.title, part="course"),
        ]
    return pd.concat(parts, ignore_index=True)


def numbers(columns: Sequence[Column]) -> dict[str, Mapping]:
    """The numbers of the JSON file on each column."""
    return {column.title: _numbers(column) for column in columns}


def _recorded(column: Column) -> tuple[str, ...]:
    return (column.quantity,) if column.plateaus is None else (column.quantity, BATCH)


def _numbers(column: Column) -> Mapping:
    stated = transfer_numbers(column.found) | {"seeds": int(column.finals.runs["seed"].nunique())}
    stated |= {f"late_{quantity}": _late(column, quantity) for quantity in _recorded(column)}
    if column.plateaus is not None:
        stated |= {"batch_sharpness_plateaus": column.plateaus}
    return stated if column.threshold is None else stated | {"threshold": column.threshold}


def transfer_numbers(found: sl.Transfer) -> dict:
    """The numbers of a `Transfer`: the optimum at each size, shifts, regret, verdict, and what they advise."""
    return {
        "optimum": {str(size): dict(row) for size, row in found.table().set_index(found.over).iterrows()},
        "shift_per_doubling": found.shift,
        "shift_interval": found.shift_interval,
        "edge_shift_per_doubling": found.edge_shift,
        "edge_shift_interval": found.edge_shift_interval,
        "regret_at_largest": found.regret,
        "regret_interval": found.regret_interval,
        "regret_fraction": found.regret_fraction,
        "regret_fraction_interval": found.regret_fraction_interval,
        "from_size": found.from_size,
        "verdict": found.verdict,
        "advice": found.advice,
        "wanted": None if found.wanted is None else found.wanted.says,
    }


def consistency_numbers(found: Mapping[str, sl.Consistency]) -> dict:
    """The numbers of a `Consistency` of each quantity: late slope over sizes, its growth, and verdict."""
    return {
        name: {
            "late_slope": one.slope,
            "late_slope_interval": one.slope_interval,
            "growth": one.growth,
            "growth_interval": one.growth_interval,
            "verdict": one.verdict,
            "wanted": None if one.wanted is None else one.wanted.says,
            "records_left_out": one.left_out,
        }
        for name, one in found.items()
    }


def _late(column: Column, quantity: str) -> Mapping:
    """The mean of a quantity over the second half of training at each size, and its slope in octaves per doubling."""
    curves = column.trajectories.curves
    (found,) = sl.consistency(column.trajectories, quantity, over=column.over).values()
    late = curves[curves["step"] >= curves["step"].max() / 2].groupby(column.over)[quantity].mean()
    return {
        "learning_rate": column.rate,
        "mean": {str(size): value for size, value in late.items()},
        "slope_octaves_per_doubling": found.slope,
        "slope_interval": found.slope_interval,
    }


def against_standard(
    sweep: sl.Experiment, rate: float, store: Path, claim: str, *, probe_size: int = 512, differ: bool = True
) -> Finding:
    """The finding of a sweep's standard parameterization beside muP, by `judge_contrast`.

    `differ`: whether the difference of their shifts is among the numbers.
    """
    standard, mup = (
        measure(title, replace(sweep, parameterizations=(name,)), rate, store, probe_size=probe_size)
        for name, title in (("standard", "standard"), ("mup", "muP"))
    )
    more = {"mup_shift_less_standard_shift": contrast(standard.found, mup.found)} if differ else None
    return finding((standard, mup), claim, judge_contrast(standard.found, mup.found), more)


def shifts_over(setting: str, sweeps: Iterable[sl.Records]) -> dict[int, sl.Transfer]:
    """The shift of the optimum with a setting that is no size, at each width, in octaves per doubling of the setting.

    Each sweep has one value of the setting, a whole multiple of the least: these multiples are the `sizes` found.
    """
    runs = pd.concat([sweep.runs for sweep in sweeps], ignore_index=True)
    values = runs.pop(setting)
    found = {}
    for width, table in runs.groupby("width"):
        in_its_place = sl.Records(table.assign(width=values[table.index] / values.min()))
        (found[int(width)],) = sl.transfer(in_its_place, over="width", metric=METRIC).values()
    return found


def judge_all(found: Iterable[sl.Transfer]) -> Verdict:
    """The verdict "holds" if the optimum transfers in every sweep, "fails" if it shifts in any, else "inconclusive"."""
    verdicts = {transfer.verdict for transfer in found}
    if "shifts" in verdicts:
        return "fails"
    return "holds" if verdicts == {"transfers"} else "inconclusive"


def judge_contrast(standard: sl.Transfer, mup: sl.Transfer) -> Verdict:
    """The verdict on a contrast of parameterizations.

    "holds" if the optimum transfers under muP and falls under standard; "fails" if it shifts under muP or transfers
    under standard; else "inconclusive".
    """
    if mup.verdict == "shifts" or standard.verdict == "transfers":
        return "fails"
    falls = standard.verdict == "shifts" and standard.shift < 0
    return "holds" if mup.verdict == "transfers" and falls else "inconclusive"


def draw_trajectories(
    curves: Mapping[str, pd.DataFrame],
    found: Mapping[str, sl.Consistency],
    titles: Mapping[str, tuple[str, str]],
    *,
    legend: str = "upper left",
) -> Figure:
    """The figure of the effective sharpness in units of 2/η, two columns: the curves above, their spread below.

    `titles` are what each column's title says before and after the learning rate; `legend` is the place of the legend
    of widths among the curves.
    """
    with house_style():
        figure, axes = plt.subplots(
            2, 2, figsize=(7.5, 5.6), height_ratios=(2, 1), sharex=True, sharey="row", squeeze=False
        )
        for (above, below), (name, one) in zip(axes.T, found.items(), strict=True):
            table = curves[name]
            rate = float(table["learning_rate"].iloc[0])
            draw_curves(above, table.assign(sharpness=table["sharpness"] * rate / 2), "sharpness")
            draw_threshold(above, 1.0, "stability threshold 2/η")
            before, after = titles[name]
            above.set_title(f"{before}, η = {rate:g}: {after}")
            above.set_xlabel("")
            draw_spread(below, one.steps, one.spread, one.noise)
        axes[0, 0].set_ylabel("effective sharpness, in units of 2/η")
        axes[1, 0].set_ylabel("spread over\nwidths (octaves)")
        for ax in axes[:, 0]:
            ax.set_ylim(bottom=0)
        sizes = next(iter(found.values())).sizes
        axes[0, 1].legend(handles=size_legend([int(size) for size in sizes]), loc=legend)
        axes[1, 0].legend(loc="upper right")
        plt.close(figure)
    return figure
