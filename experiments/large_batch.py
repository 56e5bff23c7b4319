"""Large batches, LARS and LAMB: the root of the batch size, tuned rivals, and LAMB's learning rate over the width.

Papers: You et al., arXiv 1904.00962 (LAMB) and 1708.03888 (LARS), whose learning rates go as the root of the batch size
at a fixed number of epochs; Nado et al., arXiv 2102.06356, who find tuned Adam and Nesterov momentum no worse. Here
(quick): residual MLP of two blocks on 8,192 images of Fashion-MNIST; final train loss, the learning rate rising over a
quarter of the steps and falling linearly to 0. Over batch sizes: width 32, 8 epochs of batches of 32 to 2,048 (32 steps
of the largest), SGD with momentum, AdamW, LARS and LAMB, each with its own grid at each batch size, refined to a factor
of √2. Over widths: LAMB, 32 to 256, 4 epochs of batch 128; "out of the box" every weight has one learning rate.

Why it should move with the width: a step of LAMB is a share of the weight's norm. Under muP hidden weights are drawn
with a norm that grows as width^½, and are to move by a matrix whose norm stays: their learning rate is to fall as
width^−½, other weights' is to stay. Where all have one, the optimum lies between: between 0 and −½ octave per doubling,
and under standard parameterization, whose readout is too large as well, as low as −1. "Mended" hidden weights have the
factor width^−½, as `sl.mup` and the lab's parameterization "mup" give them.

Upper right: the trust ratio of each layer of LAMB, of width 32 at one learning rate, against what it multiplies: the
largest eigenvalue of the layer's own block of the Hessian in Adam's metric, on 512 images. Were the ratios to even out
curvature, layers at one time would lie on a line of slope −1 (dashed); the slope is stated and not judged.

Rule of the verdict, of three parts: "fails" if one fails, "holds" if all hold, else "inconclusive".
Root: holds if the exponent of LAMB's best learning rate in the batch size, by `sharplab.transfer`, has its 95 %
interval within ½ ± ¼; fails if it lies outside.
Ahead: holds if LAMB's loss at the largest batch less that of the better of AdamW and momentum, each at the best rate
of its grid, has its 95 % interval below 0; fails if above.
Width: holds if the optimum transfers over the width mended, and falls out of the box under muP, by `sharplab.transfer`
with a tolerance of ±0.25 octaves per doubling; fails if it shifts mended or transfers out of the box.
Grids, epochs and the warm-up are from a trial of batch sizes with another seed, at width 32; of widths there was none.
A first run, of 3 seeds over batch sizes and 5 to 3 over widths, left two parts open and said that more would decide.

Cost: about four minutes on two cores, ten at full. Expected: the root under LARS and LAMB, less under AdamW, whose
learning rate is bounded by its stability at large batches; LAMB about as good as AdamW. Found at full: exponents of
0.39 [0.34, 0.43] under LAMB and 0.49 under LARS; AdamW's and momentum's best rates rise with the batch as far as 512
and fall at 2,048. There LAMB is 0.041 [0.019, 0.063] nats ahead; at 32 and 128 AdamW is, by 0.006 and 0.004. Over the
width the optimum falls by 0.61 octaves per doubling under standard parameterization, stays mended, −0.09
[−0.15, −0.03], and falls by 0.31 [0.19, 0.44] out of the box under muP: surely, and by 0.22 [0.09, 0.36] more than
mended, but not surely by more than the tolerance, which leaves the verdict open. More seeds would hardly decide, as
half of it is the step from 32 to 64, and from there on it falls by about the tolerance. The losses of standard
parameterization are the lowest. Trust ratios do not even out curvature. Found at quick: the same, with LAMB's lead
and what is mended open too.

    make figure-large-batch
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sweep_columns as shared
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.trend import Measured
from sharplab.core.evidence import measured
from sharplab.core.statistics import mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import draw_sweep, house_style, leave_room_below, log_ticks, size_legend
from sharplab.studies.large_batch import BatchScaling, ahead, at_batch_size, batch_scaling, trust_by_layer

CLAIM = (
    "At a fixed number of epochs LAMB's best learning rate goes as the root of the batch size, and LAMB is ahead of "
    "tuned AdamW and momentum at the largest; over widths it falls under muP, unless hidden weights have the factor "
    "width^−½."
)
METRIC = "train_loss"
ROOT, AROUND = 0.5, 0.25
RIVALS = ("adamw", "momentum")
# At batch 128: the grid's ends in octaves, and the power of the batch size with which the search begins elsewhere.
GRIDS: Mapping[str, tuple[int, int, float]] = {
    "momentum": (0, 2, 0.5),
    "adamw": (-7, -5, 0.0),
    "lars": (-8, -6, 0.5),
    "lamb": (-7, -5, 0.5),
}
NAMES: Mapping[str, str] = {"momentum": "SGD, momentum 0.9", "adamw": "AdamW", "lars": "LARS", "lamb": "LAMB"}
COLOURS: Mapping[str, str] = {"momentum": "#4d4d4d", "adamw": "#0072b2", "lars": "#e69f00", "lamb": "#d55e00"}
OUT, MENDED = "muP, out of the box", "muP, mended"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "standard": {"parameterizations": ("standard",), "learning_rates": shared.octaves(-7, -5)},
    OUT: {"optimizer": "sharplab.studies.large_batch:lamb_out_of_the_box@1"},
    MENDED: {},
}


class Preset(NamedTuple):
    """The size of the figure; experiments are of LAMB, at batch 128."""

    batches: sl.Experiment
    sizes: tuple[int, ...]
    optimizers: tuple[str, ...]
    widths: sl.Experiment
    layers: sl.Experiment


QUICK = replace(
    shared.SWEEP,
    widths=(32,),
    base_depth=2,
    optimizer="lamb",
    learning_rates=shared.octaves(-7, -5),
    steps=512,
    schedule="wsd(warmup=0.25, decay=0.75)",
    seeds=6,
)
WIDTHS = replace(QUICK, widths=(32, 64, 128, 256), seeds={32: 12, 64: 10, 128: 8, 256: 6}, steps=256)
LAYERS = replace(
    QUICK, seeds=3, learning_rates=2.0**-6, steps=256, schedule="constant", records=9, probe_size=512, refine=False
)
ALL = tuple(GRIDS)
SMALL: Mapping[str, Any] = {**shared.SMALL_SWEEP, "widths": (8,), "depths": (1,), "base_depth": 1}
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(
        replace(QUICK, **SMALL),
        (64, 128),
        ("adamw", "lamb"),
        replace(WIDTHS, **SMALL | {"widths": (8, 16)}),
        replace(LAYERS, **SMALL | {"model": "mlp", "steps": 4}, records=3),
    ),
    "quick": Preset(QUICK, (32, 128, 512, 2048), ALL, WIDTHS, LAYERS),
    "full": Preset(
        replace(QUICK, seeds=24),
        (32, 128, 512, 2048),
        ALL,
        replace(WIDTHS, widths=(32, 64, 128, 256, 512), seeds={32: 24, 64: 20, 128: 16, 256: 12, 512: 8}),
        replace(LAYERS, seeds=8),
    ),
    "paper": Preset(
        replace(QUICK, **shared.CIFAR, widths=(256,), seeds=8, steps=39_100),
        (128, 512, 2048, 8192, 32_768),
        ALL,
        replace(WIDTHS, **shared.CIFAR, widths=(128, 256, 512, 1024), seeds=5, steps=7820),
        replace(LAYERS, **shared.CIFAR, steps=7820),
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, follow the trust ratios, draw the figure, and judge the claim."""
    size = PRESETS[preset]
    batches = sl.Records(pd.concat(list(over_batches(size, store)), ignore_index=True))
    scalings = batch_scaling(batches, metric=METRIC)
    sweeps = {title: sl.run(replace(size.widths, **changes), store) for title, changes in VARIANTS.items()}
    transfers = {title: transfer_of(sweep) for title, sweep in sweeps.items()}
    layers = measured("layers", lambda: trust_by_layer(size.layers))
    less = ahead(scalings["lamb"], [scalings[name] for name in RIVALS if name in scalings])
    parts = {
        "root": judge_root(scalings["lamb"].exponent),
        "ahead": judge_ahead(less[max(less)]),
        "width": shared.judge_contrast(transfers[OUT], transfers[MENDED]),
    }
    numbers = {
        "parts": parts,
        "batch_sizes": {name: batch_numbers(found) for name, found in scalings.items()},
        "lamb_less_best_rival": {str(batch): vars(value) for batch, value in less.items()},
        "widths": {title: shared.transfer_numbers(found) for title, found in transfers.items()},
        "mended_shift_less_out_of_the_box": shared.contrast(transfers[OUT], transfers[MENDED]),
        "log_trust_ratio_per_log_curvature": vars(evening_out(layers)),
    }
    verdict = overall(parts.values())
    picture = draw(scalings, sweeps, transfers, layers, less)
    return Finding(picture, table(batches, sweeps, layers), CLAIM, verdict, numbers)


def over_batches(size: Preset, store: Path) -> Iterable[pd.DataFrame]:
    """The runs of each optimizer and batch size."""
    for name in size.optimizers:
        low, high, power = GRIDS[name]
        grid = replace(size.batches, optimizer=name, learning_rates=shared.octaves(low, high))
        for batch in size.sizes:
            yield sl.run(at_batch_size(grid, batch, exponent=power), store).runs


def transfer_of(sweep: sl.Records) -> sl.Transfer:
    """The shift of the optimum over the width."""
    (found,) = sl.transfer(sweep, metric=METRIC).values()
    return found


def judge_root(exponent: Measured) -> Verdict:
    """The verdict on the first part, by the rule in the docstring of this module."""
    if exponent.low >= ROOT - AROUND and exponent.high <= ROOT + AROUND:
        return "holds"
    return "fails" if exponent.high < ROOT - AROUND or exponent.low > ROOT + AROUND else "inconclusive"


def judge_ahead(less: Measured) -> Verdict:
    """The verdict on the second part: on LAMB's loss less its best rival's at the largest batch."""
    return "holds" if less.high < 0 else "fails" if less.low > 0 else "inconclusive"


def overall(parts: Iterable[Verdict]) -> Verdict:
    """The verdict on the claim."""
    found = set(parts)
    return "fails" if "fails" in found else "holds" if found == {"holds"} else "inconclusive"


def evening_out(layers: pd.DataFrame) -> Measured:
    """The slope of log trust ratio against log curvature without it, among layers at one time: mean over seeds."""
    slopes = []
    for _, run in layers.groupby("seed"):
        logs = np.log2(pd.DataFrame({"ratio": run["trust_ratio"], "bare": run["sharpness"] / run["trust_ratio"]}))
        within = logs - logs.groupby(run["step"]).transform("mean")
        slopes.append(float((within["ratio"] * within["bare"]).sum() / (within["bare"] ** 2).sum()))
    value, (low, high) = mean_interval(slopes, 0.95)
    return Measured(value, low, high)


def batch_numbers(found: BatchScaling) -> dict[str, Any]:
    """The numbers of one optimizer over batch sizes."""
    rows = found.table().set_index("batch_size")
    return {
        "exponent": found.exponent.value,
        "exponent_interval": found.exponent.interval,
        "at": {str(batch): dict(row) for batch, row in rows.iterrows()},
        "wanted": None if found.optima.wanted is None else found.optima.wanted.says,
    }


def table(batches: sl.Records, sweeps: Mapping[str, sl.Records], layers: pd.DataFrame) -> pd.DataFrame:
    """The runs behind the figure, and the trust ratios."""
    keys = ["learning_rate", "seed", METRIC, "eval_loss", "diverged"]
    parts = [batches.runs[["optimizer", "batch_size", *keys]].assign(part="batch sizes")]
    parts += [s.runs[["width", *keys]].assign(part="widths", column=title) for title, s in sweeps.items()]
    parts.append(layers.drop(columns=["parameterization", "width", "depth", "learning_rate"]).assign(part="layers"))
    return pd.concat(parts, ignore_index=True)


def draw(
    scalings: Mapping[str, BatchScaling],
    sweeps: Mapping[str, sl.Records],
    transfers: Mapping[str, sl.Transfer],
    layers: pd.DataFrame,
    less: Mapping[int, Measured],
) -> Figure:
    """The figure: batch sizes and layers above, the width below."""
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(11.0, 7.4))
        draw_losses(axes[0, 0], scalings, less)
        draw_optima(axes[0, 1], scalings)
        draw_layers(axes[0, 2], layers)
        for ax, (title, found) in zip(axes[1], transfers.items(), strict=True):
            optima = dict(zip(found.sizes, zip(found.optimum, found.optimum_interval, strict=True), strict=True))
            draw_sweep(ax, sweeps[title].runs, METRIC, optima)
            low, high = found.shift_interval
            ax.set_title(
                f"LAMB, {title}\nthe optimum {shared.FINDINGS[found.verdict]} over the width\n"
                f"{found.shift:+.2f} [{low:+.2f}, {high:+.2f}] octaves/doubling"
            )
            ax.set_ylabel("train loss (nats)")
            log_ticks(ax)
            leave_room_below(ax, 0.08 * len(found.sizes))
        sizes = [int(size) for size in next(iter(transfers.values())).sizes]
        figure.legend(handles=size_legend(sizes), loc="outside lower center", ncols=len(sizes))
        plt.close(figure)
    return figure


def batch_axis(ax: Axes, scalings: Mapping[str, BatchScaling]) -> None:
    """The batch size along the horizontal axis."""
    sizes = next(iter(scalings.values())).optima.sizes
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.set_xlabel("batch size")
    ax.minorticks_off()


def draw_losses(ax: Axes, scalings: Mapping[str, BatchScaling], less: Mapping[int, Measured]) -> None:
    """The loss at the best learning rate against the batch size."""
    for name, found in scalings.items():
        values = list(found.losses.values())
        ends = np.abs(np.array([[one.value - one.low, one.high - one.value] for one in values])).T
        style: dict[str, Any] = {"color": COLOURS[name], "marker": "o", "markersize": 3.5, "capsize": 2}
        ax.errorbar(list(found.losses), [one.value for one in values], ends, label=NAMES[name], **style)
    batch_axis(ax, scalings)
    log_ticks(ax)
    ax.set_ylabel("train loss at the best rate (nats)")
    ax.set_title(f"LAMB less its best rival at {max(less)}:\n{less[max(less)]:+.3f} nats")
    ax.legend()


def draw_optima(ax: Axes, scalings: Mapping[str, BatchScaling]) -> None:
    """The best learning rate over that at the smallest batch, with its interval, and a line of the root."""
    for i, (name, found) in enumerate(scalings.items()):
        sizes, first = np.array(found.optima.sizes, float), found.optima.optimum[0]
        optima = np.array(found.optima.optimum) / first
        ends = np.array(found.optima.optimum_interval) / first
        colour, spread = COLOURS[name], sizes * 2.0 ** (0.12 * (i - (len(scalings) - 1) / 2))
        ax.plot(spread, optima, color=colour, marker="D", markersize=4, label=f"{NAMES[name]}: {found.exponent:+.2f}")
        ax.vlines(spread, *np.clip(ends, optima[:, None] / 4, optima[:, None] * 4).T, color=colour, linewidth=1.8)
    ax.plot(sizes, np.sqrt(sizes / sizes[0]), color="0.25", linestyle="--", linewidth=1)
    batch_axis(ax, scalings)
    ax.set_yscale("log", base=2)
    ax.set_ylim(top=4 * ax.get_ylim()[1])  # room for the legend
    ax.set_ylabel("best rate / that of the smallest batch")
    ax.set_title("exponent of the best learning rate\nin the batch size (dashed: ½)")
    ax.legend()


def draw_layers(ax: Axes, layers: pd.DataFrame) -> None:
    """The trust ratio of each layer along training against its curvature in Adam's metric, means over seeds."""
    bare = np.log2(layers.assign(bare=layers["sharpness"] / layers["trust_ratio"])[["bare", "trust_ratio"]])
    means = 2 ** bare.groupby([layers["parameter"], layers["step"]], sort=False).mean()
    for i, (name, course) in enumerate(means.groupby(level=0, sort=False)):
        x, y = course["bare"].to_numpy(), course["trust_ratio"].to_numpy()
        (line,) = ax.plot(x, y, marker="o", markersize=2.5, color=f"C{i}", label=name.removesuffix("/kernel"))
        ax.plot(x[-1:], y[-1:], marker="s", markersize=6, color=line.get_color())
    middle = np.exp2(np.log2(means).mean())
    x = np.array([means["bare"].min(), means["bare"].max()])
    y = middle["trust_ratio"] * middle["bare"] / x
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    low, high = ax.get_ylim()
    ax.plot(x, y, color="0.25", linestyle="--", linewidth=1)
    ax.set_ylim(0.7 * low, high)  # room for the legend
    ax.set_xlabel("curvature of the layer in Adam's metric")
    ax.set_ylabel("trust ratio of LAMB")
    ax.set_title(f"layers along training (square: its end)\nlog-log slope at one time {evening_out(layers):+.2f}")
    ax.legend(loc="lower left", ncols=2)
