"""Which curvature sits at the edge of stability: the largest, the gradient's, that of batches, or the update's own?

Papers: Kalra et al., arXiv 2601.16979, on the critical sharpness 2/η_c, η_c the least learning rate at which the
optimizer's update raises the loss; Cohen et al., arXiv 2103.00065 and 2207.14484, on λmax at its threshold; Andreyev
and Beneventano, arXiv 2412.20553, on batches; Islamov et al., arXiv 2603.05002, on the sharpness in the norm of Lion's
and Muon's steps. Here (quick): a residual MLP of two blocks and width 64 under muP on 8,192 images of Fashion-MNIST,
512 steps at one constant learning rate for each of SGD, AdamW, Lion and Muon, batches of 512 and 128, four seeds; all
is measured on the first 1,024 training images, the update of an optimizer's state as if they were its batch.

Upper rows, a row per batch size: median over seeds of each curvature in units of its threshold, shaded from the lowest
to the highest seed. The threshold is the optimizer's own (2/η under SGD, (1 + β₁)/(1 − β₁) times 2/η − γ under AdamW)
for the largest curvature, in the norm of the steps under Lion and Muon, and for gradient and batches in the metric,
which Lion and Muon have not; and 2/η for what is measured along the update. Bottom row: at the plateau, the second half
of training, with 95 % intervals; filled for the large batches, hollow for the small ones.

Rule of the verdict. Of a run, a curvature's place is the median over the records of the plateau, over its threshold; of
an optimizer and batch size its mean over seeds with a 95 % t interval. It sits at the threshold if the interval lies
within 0.9 and 1.1, and does not if it lies wholly outside. "holds" if the critical sharpness sits at 2/η for every
optimizer and both batch sizes; "fails" if it does not for one; else "inconclusive". The others are stated, not judged.
What single records are off by (a bracket of 1/16, eigenvalues to 0.1 %) is less than the tolerance.

The learning rates are from a trial of other seeds, each the largest at which training was still orderly.

Cost: about four minutes on two cores. Expected: as in that trial, along the update near 2/η with batches of 512, the
largest curvature above its threshold under SGD and Lion and below under AdamW and Muon; with batches of 128, whose
noise keeps the network where the full loss is flatter, all of it below under SGD, so that the claim fails there. Found
at quick: the critical sharpness is within a third of 2/η under every optimizer, 0.65 to 0.94 of it, and within a tenth
for sure under Lion with large batches alone; the largest curvature lies between 0.08 and 1.27 of its threshold. Found
at full, at width 128 and along 1,024 steps: the critical sharpness is at 0.60 to 0.86 of 2/η, below nine tenths for
sure in seven of the eight settings (AdamW with large batches: 0.80 [0.70, 0.90]); the largest curvature lies between
0.08 and 2.1 of its threshold, above it under Lion and, with large batches, SGD. Batches of the batch sharpness were
consecutive images then.

    make figure-instruments
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import sweep_columns as shared
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

import sharplab as sl
from sharplab.analysis.stable_time import threshold_of
from sharplab.analysis.trend import Measured, lies_outside, lies_within
from sharplab.core.statistics import mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.optimizers import OPTIMIZERS
from sharplab.plotting import draw_threshold, house_style

CLAIM = (
    "At the plateau of training the critical sharpness, the curvature along the optimizer's own update, sits at 2/η "
    "under SGD, AdamW, Lion and Muon, with large batches and with small ones."
)
RATES: Mapping[str, float] = {"sgd": 8.0, "adamw": 2.0**-6, "lion": 2.0**-9, "muon": 2.0**-6}
TITLES: Mapping[str, str] = {"sgd": "SGD", "adamw": "AdamW", "lion": "Lion", "muon": "Muon"}
IN_METRIC = ("directional_sharpness", "batch_sharpness")  # which Lion and Muon have none of
QUANTITIES: Mapping[str, tuple[str, str]] = {  # what it is called, and its colour
    "sharpness": ("largest", "#000000"),
    "directional_sharpness": ("along the gradient", "#56b4e9"),
    "batch_sharpness": ("of batches", "#009e73"),
    "critical_sharpness": ("critical", "#d55e00"),
    "update_sharpness": ("along the update", "#cc79a7"),
    "midpoint_sharpness": ("half-way along it", "#e69f00"),
}
TOLERANCE = 0.1
SEEDS = tuple(range(1, 13))  # the trial had 0
QUICK = replace(
    shared.TRAJECTORIES,
    widths=(64,),
    base_width=32,
    depths=(2,),
    seeds=SEEDS[:4],
    steps=512,
    batch_size=512,
    records=33,
    observables=("train_loss", *QUANTITIES),
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL, widths=(8,), base_width=8, depths=(1,), batch_size=128, records=3),
    "quick": QUICK,
    "full": replace(QUICK, widths=(128,), seeds=SEEDS, steps=1024),
    "paper": replace(QUICK, **shared.CIFAR, widths=(512,), seeds=SEEDS[:4], steps=19_550, records=51),
}
LEAST, MOST = 2.0**-4, 2.0**2  # of what is shown
FEWER: Mapping[str, tuple[str, ...]] = {"smoke": ("sgd", "lion")}  # optimizers: each compiles programs of its own
SMALLER = 4  # times smaller the small batches are


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    large = PRESETS[preset].batch_size
    batch_sizes = (large, large // SMALLER)
    experiments = [
        replace(PRESETS[preset], optimizer=name, learning_rates=(RATES[name],), batch_size=batch_size)
        for name in FEWER.get(preset, RATES)
        for batch_size in batch_sizes
    ]
    records = sl.run(experiments, store)
    of_runs = records.runs[["run_id", "optimizer", "batch_size"]]
    curves = relative(records.curves.merge(of_runs, on="run_id"))
    found = plateau(curves)
    places = {key: found[key] for name in RATES for size in batch_sizes if (key := (name, size)) in found}
    numbers = {
        f"{TITLES[name]}, batches of {size}": {QUANTITIES[q][0]: vars(place) for q, place in found.items()}
        for (name, size), found in places.items()
    }
    verdict = judge({key: found["critical_sharpness"] for key, found in places.items()})
    return Finding(draw(curves, places, batch_sizes), curves, CLAIM, verdict, numbers)


def relative(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves with every curvature over its threshold, without those that an optimizer has not."""
    parts = []
    for (name, rate), part in curves.groupby(["optimizer", "learning_rate"], sort=False):
        part = part[["optimizer", "batch_size", "learning_rate", "seed", "step", "train_loss", *QUANTITIES]].copy()
        if OPTIMIZERS[name].preconditioner is None:
            part = part.drop(columns=list(IN_METRIC))
        for quantity in QUANTITIES.keys() & part.columns:
            part[quantity] /= threshold_of(name, quantity)(rate)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def plateau(curves: pd.DataFrame) -> dict[tuple[str, int], dict[str, Measured]]:
    """By optimizer and batch size, where each curvature is over the second half of training."""
    late = curves[curves["step"] > curves["step"].max() / 2]
    found = {}
    for key, part in late.groupby(["optimizer", "batch_size"], sort=False):
        places = part.groupby("seed")[list(QUANTITIES)].median()
        found[key] = {quantity: _mean(places[quantity]) for quantity in QUANTITIES if part[quantity].notna().any()}
    return found


def _mean(places: pd.Series) -> Measured:
    value, (low, high) = mean_interval(places, 0.95)
    return Measured(value, low, high)


def judge(critical: Mapping[tuple[str, int], Measured]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    off = [(place.low - 1, place.high - 1) for place in critical.values()]
    if any(lies_outside(interval, TOLERANCE) for interval in off):
        return "fails"
    return "holds" if all(lies_within(interval, TOLERANCE) for interval in off) else "inconclusive"


def draw(
    curves: pd.DataFrame, places: Mapping[tuple[str, int], Mapping[str, Measured]], batch_sizes: tuple[int, int]
) -> Figure:
    """The figure: a column per optimizer, curves of large and of small batches above, their plateaus below."""
    with house_style():
        shown = list(dict.fromkeys(name for name, _ in places))
        figure, axes = plt.subplots(3, len(shown), figsize=(3.0 * len(shown), 8.5), sharey=True, squeeze=False)
        for column, name in zip(axes.T, shown, strict=True):
            for ax, size in zip(column, batch_sizes, strict=False):
                of_cell = curves[(curves["optimizer"] == name) & (curves["batch_size"] == size)]
                draw_ratios(ax, of_cell)
                ax.set_title(f"{TITLES[name]}, η = 2^{math.log2(RATES[name]):.0f}, batches of {size}")
            draw_places(column[-1], {size: places[name, size] for size in batch_sizes})
            critical = " and ".join(f"{places[name, size]['critical_sharpness'].value:.2f}" for size in batch_sizes)
            column[-1].set_title(f"{TITLES[name]}, plateau: critical at {critical}")
        for ax in axes[:, 0]:
            ax.set_ylabel("curvature over its threshold")
        lines = [Line2D([], [], color=colour, label=label) for label, colour in QUANTITIES.values()]
        for size, filled in zip(batch_sizes, ("0.3", "white"), strict=True):
            dot = {"marker": "o", "color": "0.3", "markerfacecolor": filled, "linestyle": ""}
            lines.append(Line2D([], [], label=f"batches of {size}", **dot))
        figure.legend(handles=lines, loc="outside upper center", ncols=len(lines))
        plt.close(figure)
    return figure


def draw_ratios(ax: Axes, curves: pd.DataFrame) -> None:
    """Each curvature over its threshold along training, median and range over seeds."""
    for quantity, (_, colour) in QUANTITIES.items():
        seeds = curves.pivot(index="step", columns="seed", values=quantity).dropna(how="all")
        ax.plot(seeds.index, seeds.median(axis=1), color=colour)
        ax.fill_between(seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=colour, alpha=0.12, linewidth=0)
    _ratio_axis(ax)
    draw_threshold(ax, 1.0, "threshold")
    ax.set_xlabel("step")


def draw_places(ax: Axes, by_size: Mapping[int, Mapping[str, Measured]]) -> None:
    """Where each curvature is at the plateau, large batches filled, small ones hollow."""
    labels = [label for label, _ in QUANTITIES.values()]
    for shift, (size, found) in zip((-0.13, 0.13), by_size.items(), strict=True):
        for quantity, place in found.items():
            label, colour = QUANTITIES[quantity]
            at = labels.index(label) + shift
            ax.plot([at, at], [max(place.low, LEAST), min(place.high, MOST)], color=colour, linewidth=1.5)
            filled = colour if size == max(by_size) else "white"
            ax.plot(at, place.value, "o", color=colour, markerfacecolor=filled, markersize=5)
    ax.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color="0.85", zorder=0)
    ax.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
    _ratio_axis(ax)


def _ratio_axis(ax: Axes) -> None:
    ax.set_yscale("log", base=2)
    ax.set_ylim(LEAST, MOST)
    ticks = [2.0**i for i in range(-4, 3)]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.yaxis.set_minor_formatter(NullFormatter())
