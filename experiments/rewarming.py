"""Re-warming: does the critical learning rate of a decayed checkpoint tell whether going back up spikes?

Papers: Gupta et al., arXiv 2308.04014, and Ibrahim et al., arXiv 2403.08763, where a decayed checkpoint goes back up to
a peak over a warm-up, the loss rises at first on the same data too, and the peak sets adaptation against forgetting;
Kalra et al., arXiv 2601.16979, on the critical sharpness 2/η_c, η_c the least learning rate at which the optimizer's
update raises the loss, and the relative one, of another data's loss along that update.

Here (quick): MLPs of two hidden layers of 8, 32 or 128, in standard parameterization, on Fashion-MNIST of 14 × 14
pixels. A first training, 400 steps of batch 64 with a tenth of each batch out of classes 5 to 9, by SGD or AdamW, with
a cosine to 0 from one of three peaks, a factor of 4 apart, on each of three seeds: 54 checkpoints. From each, 400 steps
up to each of six peaks, alike for all checkpoints of an optimizer, over a warm-up of 0, ½, 1 or 2 % of the steps and by
a cosine to 0; on the same data, and with half or nine tenths of classes 5 to 9. The optimizer's state is carried over.
Losses are on 512 training images of each mixture. A spike: in the first 40 steps the loss of what is trained on rises
by half a nat above its start. η_c is that of the checkpoint on this data, along the update that the optimizer comes to
there on its gradient (`sharplab.studies.rewarming.settled_update`), and 0 where no learning rate lowers the loss.
Rivals are the effective sharpness λ over its threshold at the peak; the peak itself, over the optimizer's middle one;
and the peak over that of the checkpoint's first training.

Upper row: losses from one checkpoint, solid without warm-up, dashed with the longest; the height of the spike against
the peak over the optimizer's middle peak (spread sideways), and against the peak over η_c. Lower row: areas under the
ROC curve of each score; forgetting (the rise of the old data's loss) against the peak over the relative critical
learning rate, at the right edge where none lowers the old loss; the share of runs that spike against the warm-up.

Rule of the verdict, for runs without warm-up, all data together: "holds" if the area of the peak over η_c has its 95 %
interval above 0.8, and so have its differences to the areas of the peak itself and of the peak over the earlier one
theirs above 0; "fails" if the area's interval lies below 0.8 or that of a difference below 0; else "inconclusive", as
with fewer than 20 checkpoints, whose intervals are too narrow; the numbers say how many would decide. Intervals are of
checkpoints drawn anew, as runs from one are not independent; those of one width and seed share their start. Half a nat,
the grid of peaks and the first peaks are from a trial of another seed; the rule's 0.8 is a guess at what is useful. The
effective sharpness, other heights, and each data and optimizer by itself are stated, not judged.

Forgetting: the correlation of ranks of relative critical sharpness and forgetting among checkpoints of one optimizer,
peak and data, the shifted ones. Warm-up: 2 % less none, the mean over runs of a checkpoint, spikes counted as at most
10 nats and final losses as at most log 10.

Cost: three minutes on two cores. Expected: on the same data the critical learning rate tells; with other classes, where
the first updates lower a high loss along a direction that soon turns, less so. Found at full, 288 checkpoints in half
an hour: each score has an area above 0.87, and over all runs the critical learning rate is as good as the peak itself,
by 0.002 [−0.008, 0.012], too near for any number of checkpoints to tell (9,600 would), because the two optimizers spike
at other multiples of it, while the middle peak that the rival is divided by is of each optimizer. Within one optimizer
the critical rate is ahead for sure, by 0.04 [0.03, 0.05] under SGD and 0.06 [0.04, 0.07] under AdamW. The effective
sharpness, whose threshold knows of the optimizer, has the largest area, 0.93. The relative critical sharpness tells
little of forgetting at one peak, a correlation of ranks of 0.2 [0.1, 0.3]. A warm-up of 2 % keeps 4 % of the runs from
spiking and lowers the final loss by 0.02. Found at quick, with 54 checkpoints: the same, less surely.

    make figure-rewarming
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rewarming_checkpoints import MIDDLE, Preset, train_all

from sharplab.analysis.prediction import group_interval, roc_area
from sharplab.analysis.trend import Measured
from sharplab.core.evidence import measured_parts
from sharplab.core.statistics import mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.optimizers import OPTIMIZERS
from sharplab.plotting import house_style

CLAIM = (
    "Whether going back up from a decayed checkpoint spikes is told by the peak over the checkpoint's critical "
    "learning rate, better than by the peak itself or by the peak over that of the training before."
)
SPIKE, HEIGHTS, USEFUL, FEWEST = 0.5, (0.1, 0.25, 0.5, 1.0), 0.8, 20
MOST_SPIKE, MOST_LOSS = 10.0, math.log(10)
SCORES: Mapping[str, tuple[str, str]] = {
    "over_critical": ("peak / critical rate", "#d55e00"),
    "over_effective": ("sharpness / threshold", "#000000"),
    "over_middle": ("the peak itself", "#0072b2"),
    "over_earlier": ("peak / earlier peak", "#009e73"),
}
JUDGED, RIVALS = "over_critical", ("over_middle", "over_earlier")
COLOURS: Mapping[str, str] = {"same": "#4d4d4d", "half": "#e69f00", "shifted": "#cc79a7"}
DATA: Mapping[str, str] = {"same": "same data", "half": "half of other classes", "shifted": "90 % of other classes"}
MARKS: Mapping[str, str] = {"sgd": "o", "adamw": "^"}


PEAKS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(("sgd",), (8,), 2, 64, 16, (0.5, 4.0), (0.0, 0.02)),
    "quick": Preset(("sgd", "adamw"), (8, 32, 128), 3, 400, 64, PEAKS),
    "full": Preset(("sgd", "adamw"), (8, 32, 128, 256), 12, 400, 64, PEAKS),
    "paper": Preset(("sgd", "adamw"), (32, 128, 512, 2048), 8, 8000, 256, PEAKS),
}


def find(preset: str, store: Path) -> Finding:
    """Train checkpoints and what follows them, draw the figure, and judge the claim."""
    size = PRESETS[preset]
    runs, curves = measured_parts(["runs", "curves"], train_all(size))
    runs = scored(runs)
    found = areas(runs)
    checkpoints = runs["checkpoint"].nunique()
    verdict = judge(found, checkpoints)
    numbers = {
        "checkpoints": int(checkpoints),
        "runs": len(runs),
        "spiking": float((runs["spike"] > SPIKE).mean()),
        "roc_area": {key: {name: vars(value) for name, value in of.items()} for key, of in found.items()},
        "area_by_height_of_a_spike": by_height(runs),
        "at_score_1": at_threshold(runs),
        "rank_correlation_with_forgetting": forgetting(runs),
        "warm_up_of_2_percent_less_none": warming(runs),
        "checkpoints_wanted": wanted(found["all"], checkpoints),
    }
    table = runs.drop(columns=["over_middle", "over_earlier", "over_relative"])  # which follow from the others
    return Finding(draw(runs, curves, found, numbers, verdict), table, CLAIM, verdict, numbers)


def scored(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the number of their checkpoint and each score."""
    keys = ["optimizer", "width", "seed", "earlier"]
    threshold = [OPTIMIZERS[name].threshold(peak) for name, peak in zip(runs["optimizer"], runs["peak"], strict=True)]
    with np.errstate(divide="ignore"):
        return runs.assign(
            checkpoint=runs.groupby(keys, sort=False).ngroup(),
            over_critical=np.divide(runs["peak"], runs["critical"]),
            over_relative=np.divide(runs["peak"], runs["relative"]),
            over_effective=runs["effective_sharpness"] / threshold,
            over_middle=runs["peak"] / runs["optimizer"].map(MIDDLE),
            over_earlier=runs["peak"] / runs["earlier"],
        )


def cold(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs without warm-up."""
    return runs[runs["warmup"] == 0]


def parts(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs that are judged, and parts of them that are stated."""
    without = cold(runs)
    yield "all", without
    for by in ("data", "optimizer"):
        for name, part in without.groupby(by, sort=False):
            yield str(name), part
    if runs["warmup"].max() > 0:
        yield "warm-up of 2 %", runs[runs["warmup"] == runs["warmup"].max()]


def areas(runs: pd.DataFrame) -> dict[str, dict[str, Measured]]:
    """By part of the runs, the area of each score, and of the judged one less each rival's."""
    return {name: areas_of(part) for name, part in parts(runs)}


def areas_of(part: pd.DataFrame) -> dict[str, Measured]:
    """The areas of each score, and of the judged one less those of the others."""
    scores = {name: part[name].to_numpy(float) for name in SCORES}
    spikes = part["spike"].to_numpy(float) > SPIKE

    def statistic(rows: np.ndarray) -> np.ndarray:
        each = np.array([roc_area(score[rows], spikes[rows]) for score in scores.values()])
        return np.append(each, each[0] - each[1:])

    less = [f"{JUDGED} less {name}" for name in list(SCORES)[1:]]
    return intervals([*SCORES, *less], statistic, part)


def intervals(names: list[str], statistic: Any, part: pd.DataFrame) -> dict[str, Measured]:
    """A statistic of rows of a table, with intervals over its checkpoints."""
    ends = group_interval(statistic, part["checkpoint"].to_numpy())
    values = np.atleast_1d(statistic(np.arange(len(part))))
    low, high = (np.atleast_1d(end) for end in ends)
    return {name: Measured(*(float(x[i]) for x in (values, low, high))) for i, name in enumerate(names)}


def bounds() -> dict[str, float]:
    """What each judged number is compared with."""
    return {JUDGED: USEFUL, **{f"{JUDGED} less {rival}": 0.0 for rival in RIVALS}}


def judge(found: Mapping[str, Mapping[str, Measured]], checkpoints: int) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if checkpoints < FEWEST:
        return "inconclusive"
    places = [(found["all"][name], bound) for name, bound in bounds().items()]
    if any(place.high < bound for place, bound in places):
        return "fails"
    return "holds" if all(place.low > bound for place, bound in places) else "inconclusive"


def wanted(found: Mapping[str, Measured], checkpoints: int) -> dict[str, float]:
    """About how many checkpoints would decide each open comparison, were its value as found; intervals go as 1/√n."""
    many = {}
    for name, bound in bounds().items():
        place = found[name]
        if place.low <= bound <= place.high:
            off = place.value - bound
            side = place.value - place.low if off > 0 else place.high - place.value
            many[name] = checkpoints * (side / off) ** 2 if off else math.inf
    return many


def by_height(runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The areas where other heights count as a spike, without warm-up."""
    part = cold(runs)
    return {f"{h:g}": {name: roc_area(part[name], part["spike"] > h) for name in SCORES} for h in HEIGHTS}


def at_threshold(runs: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Sensitivity and specificity of a score above 1, without warm-up."""
    part = cold(runs)
    spikes = part["spike"].to_numpy(float) > SPIKE
    found = {}
    for name in ("over_critical", "over_effective"):
        above = part[name].to_numpy(float) > 1

        def statistic(rows: np.ndarray, above: np.ndarray = above) -> np.ndarray:
            of, told = spikes[rows], above[rows]
            return np.array([(told & of).sum() / max(of.sum(), 1), (~told & ~of).sum() / max((~of).sum(), 1)])

        found[name] = {k: vars(v) for k, v in intervals(["sensitivity", "specificity"], statistic, part).items()}
    return found


def forgetting(runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The correlation of ranks with forgetting among checkpoints of one optimizer, peak and data."""
    part = cold(runs)
    part = part[part["data"] != "same"]
    cells = part.groupby(["optimizer", "peak", "data"])
    found = {}
    names = ["forgetting", "over_relative", "over_critical"]
    # Of mean ½ in each cell, whatever its size, so that cells as such correlate nothing.
    ranks = (cells[names].rank() - 0.5) / cells[names].transform("size").to_numpy()[:, None]
    for name in ("over_relative", "over_critical"):
        for data in ("half", "shifted"):
            of = (part["data"] == data).to_numpy()
            x, y = (ranks[each][of].to_numpy() for each in (name, "forgetting"))

            def statistic(rows: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> float:
                return correlation(x[rows], y[rows])

            found[f"{name}, {data}"] = vars(intervals(["r"], statistic, part[of])["r"])
    return found


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's, NaN where one does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else math.nan


def warming(runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What the longest warm-up changes, by paired differences: the mean over each checkpoint's runs, t intervals."""
    capped = runs.assign(
        spike=runs["spike"].clip(upper=MOST_SPIKE),
        final=runs["final"].clip(upper=MOST_LOSS),
        spiking=(runs["spike"] > SPIKE).astype(float),
    )
    found = {}
    for quantity in ("spike", "spiking", "final"):
        by = capped.pivot_table(index="checkpoint", columns="warmup", values=quantity)
        value, (low, high) = mean_interval((by.iloc[:, -1] - by.iloc[:, 0]).to_numpy(), 0.95)
        found[quantity] = {"value": value, "low": low, "high": high}
    return found


TITLES: Mapping[Verdict, str] = {
    "holds": "A decayed checkpoint's critical learning rate tells spikes better than the peak",
    "fails": "A decayed checkpoint's critical learning rate does not tell spikes better than the peak",
    "inconclusive": "A decayed checkpoint's critical learning rate may tell spikes better than the peak",
}


def draw(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    found: Mapping[str, Mapping[str, Measured]],
    numbers: Mapping[str, Any],
    verdict: Verdict,
) -> Figure:
    """The figure: curves and heights of spikes above; areas, forgetting and warm-up below."""
    without = cold(runs)
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(11.5, 7.2))
        draw_curves(axes[0, 0], curves)
        for ax, name, label in (
            (axes[0, 1], "over_middle", "the peak itself, over the optimizer's middle one"),
            (axes[0, 2], "over_critical", "peak / critical learning rate of the checkpoint"),
        ):
            draw_heights(ax, without, name, spread=name == "over_middle")
            ax.set_xlabel(label)
            ax.set_title("ROC area {:.2f} [{:.2f}, {:.2f}]".format(*vars(found["all"][name]).values()))
        draw_areas(axes[1, 0], found)
        draw_forgetting(axes[1, 1], without, numbers["rank_correlation_with_forgetting"])
        draw_warming(axes[1, 2], runs)
        change = numbers["warm_up_of_2_percent_less_none"]["final"]
        axes[1, 2].set_title(
            "final loss with 2 % less without:\n{value:+.3f} [{low:+.3f}, {high:+.3f}] nats".format(**change)
        )
        dots = [Line2D([], [], color=c, marker="o", linestyle="", label=DATA[name]) for name, c in COLOURS.items()]
        shown = [name for name in MARKS if (runs["optimizer"] == name).any()]
        dots += [Line2D([], [], color="0.3", marker=MARKS[n], mfc="none", linestyle="", label=n) for n in shown]
        figure.legend(handles=dots, loc="outside lower center", ncols=len(dots))
        figure.suptitle(TITLES[verdict], fontsize=10)
        plt.close(figure)
    return figure


def draw_curves(ax: Axes, curves: pd.DataFrame) -> None:
    """The loss of the same data from one checkpoint, a colour per peak; dashed with the longest warm-up."""
    one = curves[(curves["optimizer"] == curves["optimizer"].iloc[0]) & (curves["data"] == "same")]
    peaks = sorted(one["peak"].unique())
    start = one["loss"].iloc[0]
    for shade, peak in zip(np.linspace(0, 0.85, len(peaks)), peaks, strict=True):
        for warmup, style in ((one["warmup"].min(), "-"), (one["warmup"].max(), "--")):
            lane = one[(one["peak"] == peak) & (one["warmup"] == warmup) & (one["step"] > 0)]
            label = f"{peak / one['critical'].iloc[0]:.2f}" if style == "-" else None
            ax.plot(lane["step"], lane["loss"], style, color=plt.get_cmap("plasma")(shade), linewidth=1.1, label=label)
    ax.axhline(start, color="0.25", linestyle=":", linewidth=1)
    ax.axhline(start + SPIKE, color="0.6", linestyle=":", linewidth=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(0.6 * start, 60 * start)
    ax.set_xlabel("step after the checkpoint")
    ax.set_ylabel("train loss (nats)")
    ax.set_title(
        f"one {one['optimizer'].iloc[0]} checkpoint, same data\n(dashed: warm-up of {one['warmup'].max():.0%})"
    )
    ax.legend(title="peak / critical", loc="upper right", ncols=2)


def draw_heights(ax: Axes, runs: pd.DataFrame, name: str, *, spread: bool) -> None:
    """The height of the spike of each run against a score; `spread` sets those of one score beside each other."""
    low, high = 0.01, 100.0
    rng = np.random.default_rng(0)
    for (data, optimizer), part in runs.groupby(["data", "optimizer"], sort=False):
        x = part[name].to_numpy(float) * (2.0 ** rng.uniform(-0.3, 0.3, len(part)) if spread else 1.0)
        x = np.clip(x, 2.0**-7, 2.0**7)
        style = {"color": COLOURS[data], "marker": MARKS[optimizer], "linestyle": "", "markersize": 3, "alpha": 0.6}
        ax.plot(x, part["spike"].clip(low, high), **style)
    ax.axhline(SPIKE, color="0.6", linestyle=":", linewidth=1)
    if not spread:
        ax.axvline(1.0, color="0.25", linestyle="--", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_ylabel("height of the spike (nats)")


def draw_areas(ax: Axes, found: Mapping[str, Mapping[str, Measured]]) -> None:
    """The area of each score with its interval, by part of the runs."""
    for i, part in enumerate(found):
        for j, (name, (_, colour)) in enumerate(SCORES.items()):
            place, at = found[part][name], len(found) - 1 - i + 0.3 - 0.2 * j
            ax.plot(np.clip([place.low, place.high], 0, 1), [at, at], color=colour, linewidth=1.8)
            ax.plot(place.value, at, "o", color=colour, markersize=4)
    ax.axvline(USEFUL, color="0.25", linestyle="--", linewidth=1)
    ax.axvline(0.5, color="0.6", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(found)), list(found)[::-1])
    ax.set_xlabel("area under the ROC curve of a spike (dotted: chance)")
    handles = [Line2D([], [], color=colour, marker="o", label=label) for label, colour in SCORES.values()]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.25, 1.0), ncols=2)


def draw_forgetting(ax: Axes, runs: pd.DataFrame, correlations: Mapping[str, Mapping[str, float]]) -> None:
    """The rise of the old loss against the peak over the relative critical rate."""
    edge = 2.0**10
    for (data, optimizer), part in runs[runs["data"] != "same"].groupby(["data", "optimizer"], sort=False):
        style = {"color": COLOURS[data], "marker": MARKS[optimizer], "linestyle": "", "markersize": 3, "alpha": 0.6}
        ax.plot(part["over_relative"].clip(2.0**-8, edge), part["forgetting"].clip(-1, 2.5), **style)
    ax.axvline(1.0, color="0.25", linestyle="--", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("peak / relative critical learning rate")
    ax.set_ylabel("forgetting (nats), at most 2.5")
    text = (f"{data} {{value:+.2f}} [{{low:+.2f}}, {{high:+.2f}}]" for data in ("half", "shifted"))
    found = (correlations[f"over_relative, {data}"] for data in ("half", "shifted"))
    lines = "\n".join(line.format(**each) for line, each in zip(text, found, strict=True))
    ax.set_title(f"rank correlation at one peak:\n{lines}")


def draw_warming(ax: Axes, runs: pd.DataFrame) -> None:
    """The share of the runs of a checkpoint that spike against the warm-up, with t intervals over checkpoints."""
    for data, part in runs.groupby("data", sort=False):
        share = part.assign(spiking=part["spike"] > SPIKE).pivot_table(
            index="checkpoint", columns="warmup", values="spiking", aggfunc="mean"
        )
        places = [mean_interval(share[warmup].to_numpy(float), 0.95) for warmup in share]
        means, ends = [place[0] for place in places], np.array([place[1] for place in places])
        x = 100 * share.columns.to_numpy(float)
        ax.plot(x, means, "o-", color=COLOURS[data])
        ax.fill_between(x, *np.clip(ends.T, 0, 1), color=COLOURS[data], alpha=0.15, linewidth=0)
    ax.set_ylim(0, 1)
    ax.set_xlabel("warm-up (% of the steps)")
    ax.set_ylabel("share of runs that spike")
