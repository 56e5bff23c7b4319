"""Tasks in sequence: does knowledge accumulate, does the best rate carry over, and does sharpness tell forgetting?

Papers: Lesort et al., arXiv 2207.04543 (SCoLe), where plain SGD through long sequences of tasks, each of a few classes
that come back, forgets the last task at each switch and still gains on all classes, more so where the softmax is
masked: over the classes of the batch alone; Mirzadeh et al., arXiv 2006.06958, where forgetting is ½ΔᵀHΔ, hence at most
in proportion to the sharpness of the old task's loss; Kalra et al., arXiv 2601.16979, on the critical learning rate.

Here (quick): MLPs of two hidden layers of 16, 32, 64 or 128 in muP (base width 32), on Fashion-MNIST of 14 × 14 pixels.
64 tasks of two classes drawn out of ten, each of 16 steps of SGD with batch 32, at one of 13 learning rates, half an
octave apart, that stays; 8 seeds of start, tasks and batches, others at each width. Plain softmax or masked. One epoch:
a task's 512 images are all different; at width 64 also four epochs over 128, and for comparison all ten classes
together in each task. Losses and accuracies are on 64 images of each class that are not trained on. At every
eighth switch, on 128 images of each task: sharpness of the old and of the next task's loss over the threshold 2/η; η
over the critical rate along the next task's update, of its own loss and of the old one; and, as what is no sharpness,
the slope: the rise of the old loss by one such update to first order.

Upper row: accuracy on all classes; the masked loss on all classes after the first 8 and the last 16 tasks, against the
learning rate, with each width's optimum. Lower row, plain: the rise of the old task's loss over the next task, which
shares no class with it, against the sharpness of the next task's loss over its threshold and against the slope
(beyond either end at it); areas under the ROC curve of each score, for switches at which half the old accuracy goes.

Rule of the verdict, of three parts: "holds" if all do, "fails" if one does, else "inconclusive", as with fewer than 8
seeds. Knowledge accumulates: at the learning rate of the highest accuracy over the last 16 tasks, at the largest
width, plain and masked, the least-squares slope of the accuracy on all classes times the tasks after the first has its
95 % interval above 0.05; not: in one below. Transfer is preserved: of the masked loss over the last 16 tasks,
`sl.transfer` over widths says "transfers"; not: "shifts". Sharpness tells forgetting: plain, one of the two
sharpnesses over the threshold has its area above 0.8 and above the learning rate's, both surely; not: both have one of
these surely below. Intervals of areas are of seeds drawn anew, those of each width apart. The grid, the length of tasks
and "half the accuracy" are from a trial of other seeds at widths 32 and 128, which showed areas from 0.6 to 0.7 for
sharpness and the slope ahead of it; 0.05 and 0.8 are guesses at what is useful. All else is stated, not judged.

Cost: four minutes on two cores. Expected: accuracy gains, masked more; the best rate late stays over widths; the
sharpness tells little, as how much the next task's gradient opposes the old one's has no part in it. Found at quick:
accuracy gains 0.28 plain, most at the lowest rate of the grid, and 0.45 masked. The late optimum for all classes moves
by −0.13 [−0.28, 0.02] octaves per doubling, a little too open for a verdict; that for the task just trained on stays.
Plain, the sharpnesses have areas of 0.58 and 0.63, no better than the rate's own 0.64, and the slope 0.73. At one rate
and width the rise of the old loss goes with the slope, by a correlation of ranks of 0.47, and little or not with the
sharpnesses, 0.16 and 0.01. Masked, 4 % of the switches forget, and only the rate tells them. One epoch is as good as
four. Found at full, widths up to 256, 256 tasks and 16 seeds: the best rate late moves by +0.08 [0.02, 0.14]
octaves per doubling, and transfer is preserved; accuracy gains 0.22 plain and 0.26 masked over longer sequences, to
0.65 and 0.80; the sharpnesses have areas of 0.56 and 0.61 where the rate has 0.67 and the slope 0.68.

    make figure-task-sequence
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from task_sequence_runs import ARMS, MAIN, Preset, train_all

import sharplab as sl
from sharplab.analysis.trend import Measured
from sharplab.core.evidence import measured_parts
from sharplab.core.statistics import mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import draw_sweep, house_style, size_colours
from sharplab.studies.forgetting import told

CLAIM = (
    "Through a sequence of tasks whose classes come back, accuracy on all classes accumulates, the best learning rate "
    "is that of other widths late as well, and the sharpness at a switch tells whether the old task is forgotten."
)
GAIN, USEFUL, FEWEST = 0.05, 0.8, 8
WHEN, OF = ("early", "late"), ("loss", "current")
CELLS = ("learning_rate", "width", "shared")
TOLD: Mapping[str, str] = {"roc_area": "area", "area_less_rate": "less_rate", "rank_correlation": "within"}
SHARPNESSES = ("old_over_threshold", "new_over_threshold")
LABELS: Mapping[str, str] = {
    "old_over_threshold": "old\nsharpness",
    "new_over_threshold": "next\nsharpness",
    "over_critical": "critical",
    "over_relative": "relative\ncritical",
    "slope": "first-\norder",
    "learning_rate": "rate",
}


COLOURS = dict(zip(ARMS, ("#d55e00", "#0072b2", "#e69f00", "#56b4e9", "#4d4d4d"), strict=True))


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset((8,), 2, 8, 4, (-5.0, -4.0), 2),
    "quick": Preset((16, 32, 64, 128), 8, 64, 16, (-8.0, -2.0)),
    "full": Preset((16, 32, 64, 128, 256), 16, 256, 16, (-8.0, -2.0), 16),
    "paper": Preset((32, 64, 128, 256, 512), 16, 1000, 64, (-8.0, -2.0), 16),
}


def find(preset: str, store: Path) -> Finding:
    """Train through the sequences, draw the figure, and judge the claim."""
    size = PRESETS[preset]
    runs, curves, switches = measured_parts(["runs", "curves", "switches"], train_all(size))
    widest, compared = size.widths[-1], size.compared
    gains = {arm: mean_of(at_best(runs, arm, widest)["gain"]) for arm in MAIN}
    shifts = {(arm, when, of): best_rates(runs, arm, when, of) for arm in MAIN for when in WHEN for of in OF}
    scores = {arm: told(switches[switches["arm"] == arm].drop(columns="arm"), cells=CELLS) for arm in MAIN}
    parts = {
        "knowledge accumulates": accumulates(list(gains.values())),
        "transfer is preserved": preserved(shifts["masked", "late", "loss"].verdict),
        "sharpness tells forgetting": tells(scores["plain"]),
    }
    verdict = judge(list(parts.values()), size.seeds)
    numbers = {
        "parts": parts,
        "gain_in_accuracy": {arm: vars(gain) for arm, gain in gains.items()},
        "late_accuracy": {arm: vars(mean_of(at_best(runs, arm, compared)["late_accuracy"])) for arm in ARMS},
        "one_epoch_less_four": {arm: vars(less_four_epochs(runs, arm, compared)) for arm in MAIN},
        "shift_per_doubling": {", ".join(key): shift_of(found) for key, found in shifts.items()},
        "octaves_from_early_to_late_optimum": {arm: drift(shifts, arm) for arm in MAIN},
        **{name: {arm: column(found, key) for arm, found in scores.items()} for name, key in TOLD.items()},
        "share_forgotten": {arm: float(forgotten(switches[switches["arm"] == arm]).mean()) for arm in MAIN},
    }
    figure = draw(runs, curves, switches, shifts, scores, parts, compared)
    return Finding(figure, curves.rename(columns={"arm": "part"}), CLAIM, verdict, numbers)


def at_best(runs: pd.DataFrame, arm: str, width: int) -> pd.DataFrame:
    """The runs of an arm and width at the learning rate of the highest late accuracy, a row per seed."""
    part = runs[(runs["arm"] == arm) & (runs["width"] == width)]
    best = part.groupby("learning_rate")["late_accuracy"].mean().idxmax()
    return part[part["learning_rate"] == best].set_index("seed")


def mean_of(values: pd.Series) -> Measured:
    """The mean over seeds with its interval."""
    value, interval = mean_interval(values.to_numpy(float), 0.95)
    return Measured(value, *interval)


def less_four_epochs(runs: pd.DataFrame, arm: str, width: int) -> Measured:
    """How much higher the late accuracy is with one epoch than with four, each at its best, by pairs of seeds."""
    one, four = (at_best(runs, name, width)["late_accuracy"] for name in (arm, f"{arm}, 4 epochs"))
    return mean_of(one - four)


def best_rates(runs: pd.DataFrame, arm: str, when: str, of: str) -> sl.Transfer:
    """The best learning rates of an arm over widths."""
    (found,) = sl.transfer(sl.Records(runs[runs["arm"] == arm]), metric=f"{when}_{of}").values()
    return found


def shift_of(found: sl.Transfer) -> dict[str, Any]:
    """The shift of the best learning rate per doubling of the width, in octaves."""
    low, high = found.shift_interval
    open_ = {} if found.wanted is None else {"wanted": found.wanted.says}
    return {"value": found.shift, "low": low, "high": high, "verdict": found.verdict, **open_}


def drift(shifts: Mapping[tuple[str, str, str], sl.Transfer], arm: str) -> dict[str, dict[str, float]]:
    """How far the best learning rate for all classes moves from early to late tasks, by width, in octaves."""
    found = {}
    for early, late in zip(*(shifts[arm, when, "loss"].by_size for when in WHEN), strict=True):
        with np.errstate(divide="ignore"):
            logs = [Measured(*np.log2([x.value, x.low, x.high])) for x in (late.optimum, early.optimum)]
        found[f"{late.size:g}"] = vars(logs[0].less(logs[1]))
    return found


def forgotten(switches: pd.DataFrame) -> pd.Series:
    """Whether half of the accuracy on the old task, or more, goes at each switch."""
    return switches["old_accuracy_after"] <= 0.5 * switches["old_accuracy"]


def column(scores: pd.DataFrame, name: str) -> dict[str, dict[str, float]]:
    """A column of what `told` found, by score."""
    ends = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {score: {end: float(row[key]) for end, key in ends.items()} for score, row in scores.iterrows()}


def accumulates(gains: Sequence[Measured]) -> Verdict:
    """The verdict on the first part, by the gains of both arms."""
    if any(gain.high < GAIN for gain in gains):
        return "fails"
    return "holds" if all(gain.low > GAIN for gain in gains) else "inconclusive"


def preserved(verdict: str) -> Verdict:
    """The verdict on the second part, by that of `sl.transfer`."""
    verdicts: Mapping[str, Verdict] = {"transfers": "holds", "shifts": "fails"}
    return verdicts.get(verdict, "inconclusive")


def tells(scores: pd.DataFrame) -> Verdict:
    """The verdict on the third part, by areas as of `told`."""
    part = scores.loc[list(SHARPNESSES)]
    if ((part["area_low"] > USEFUL) & (part["less_rate_low"] > 0)).any():
        return "holds"
    below = (part["area_high"] < USEFUL) | (part["less_rate_high"] < 0)
    return "fails" if below.all() else "inconclusive"


def judge(parts: Sequence[Verdict], seeds: int) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if seeds < FEWEST or not {"fails", "inconclusive"} & set(parts):
        return "inconclusive" if seeds < FEWEST else "holds"
    return "fails" if "fails" in parts else "inconclusive"


def draw(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    switches: pd.DataFrame,
    shifts: Mapping[tuple[str, str, str], sl.Transfer],
    scores: Mapping[str, pd.DataFrame],
    parts: Mapping[str, Verdict],
    width: int,
) -> Figure:
    """The figure: accuracy and valleys above; forgetting and what tells it below."""
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(11.5, 7.2))
        draw_accuracy(axes[0, 0], curves, runs, width)
        for ax, when, title in zip(axes[0, 1:], WHEN, ("first 8 tasks", "last quarter"), strict=True):
            draw_valleys(ax, runs[runs["arm"] == "masked"], shifts["masked", when, "loss"], f"{when}_loss", title)
        of_plain = switches[(switches["arm"] == "plain") & (switches["shared"] == 0)]
        for ax, name in zip(axes[1, :2], ("new_over_threshold", "slope"), strict=True):
            draw_forgetting(ax, of_plain, name, scores["plain"].loc[name])
        draw_areas(axes[1, 2], scores)
        figure.suptitle("; ".join(f"{name}: {verdict}" for name, verdict in parts.items()), fontsize=10)
        plt.close(figure)
    return figure


def draw_accuracy(ax: Axes, curves: pd.DataFrame, runs: pd.DataFrame, width: int) -> None:
    """The accuracy on all classes along the sequence, of each arm at its best learning rate, ± a standard error."""
    for arm, colour in COLOURS.items():
        best = at_best(runs, arm, width)["learning_rate"].iloc[0]
        part = curves[(curves["arm"] == arm) & (curves["width"] == width) & (curves["learning_rate"] == best)]
        ax.plot(part["step"], part["accuracy"], color=colour, label=f"{arm} (2^{np.log2(best):.2g})")
        ends = (part["accuracy"] + sign * part["accuracy_stderr"] for sign in (-1, 1))
        ax.fill_between(part["step"], *ends, color=colour, alpha=0.2, linewidth=0)
    ax.set_ylim(0, 1)
    ax.set_xlabel("step, of 16 to a task" if len(part) > 8 else "step")
    ax.set_ylabel("accuracy on all classes")
    ax.set_title(f"width {width}, each at its best rate")
    ax.legend(loc="lower right")


def draw_valleys(ax: Axes, runs: pd.DataFrame, found: sl.Transfer, metric: str, title: str) -> None:
    """Loss on all classes against the learning rate, a colour per width, with the optima."""
    optima = {size.size: (size.optimum.value, size.optimum.interval) for size in found.by_size}
    draw_sweep(ax, runs, metric, optima)
    low, high = found.shift_interval
    ax.set_title(f"masked, {title}: octaves per\ndoubling {found.shift:+.2f} [{low:+.2f}, {high:+.2f}]")
    ax.set_ylabel("loss on all classes (nats)")
    lowest = runs.groupby(["width", "learning_rate"])[metric].mean().min()
    ax.set_ylim(0.6 * lowest, 2.2 * lowest)
    handles = [plt.Line2D([], [], color=colour, label=f"{size:g}") for size, colour in size_colours(optima).items()]
    if metric == "early_loss":
        ax.legend(handles=handles, title="width", loc="upper left", ncols=2)


def draw_forgetting(ax: Axes, switches: pd.DataFrame, name: str, score: pd.Series) -> None:
    """The rise of the old loss against a score, a colour per learning rate."""
    rise = (switches["old_loss_after"] - switches["old_loss"]).to_numpy(float)
    x = switches[name].to_numpy(float)
    finite = np.isfinite(rise) & np.isfinite(x)
    low, high = np.quantile(x[finite], [0.01, 0.99])
    if name == "slope":
        ax.set_xscale("symlog", linthresh=0.01)
        ax.set_xlabel("first-order rise of it by one update (nats)")
    else:
        ax.set_xscale("log", base=2)
        ax.axvline(1.0, color="0.25", linestyle="--", linewidth=1)
        ax.set_xlabel("sharpness of the next task's loss / threshold")
    dots = ax.scatter(
        np.clip(x[finite], low, high),
        np.clip(rise[finite], -1, 8),
        c=np.log2(switches["learning_rate"].to_numpy()[finite]),
        cmap="plasma",
        s=5,
        alpha=0.5,
        linewidth=0,
    )
    ax.figure.colorbar(dots, ax=ax, label="log₂ learning rate")
    ax.set_ylabel("rise of the old task's loss (nats)")
    ax.set_title(
        "plain, no class shared; rank correlation\nat one rate and width {:+.2f} [{:+.2f}, {:+.2f}]".format(
            *score[["within", "within_low", "within_high"]]
        )
    )


def draw_areas(ax: Axes, scores: Mapping[str, pd.DataFrame]) -> None:
    """The area of each score with its interval, plain and masked."""
    for arm, shift in zip(MAIN, (0.13, -0.13), strict=True):
        for at, name in enumerate(reversed(LABELS)):
            area, low, high = scores[arm].loc[name, ["area", "area_low", "area_high"]].to_numpy(float)
            ax.plot(np.clip([low, high], 0, 1), [at + shift] * 2, color=COLOURS[arm], linewidth=1.8)
            ax.plot(area, at + shift, "o", color=COLOURS[arm], markersize=4, label=arm if not at else None)
    ax.axvline(USEFUL, color="0.25", linestyle="--", linewidth=1)
    ax.axvline(0.5, color="0.6", linestyle=":", linewidth=1)
    ax.set_xlim(0, 1)
    ax.set_yticks(range(len(LABELS)), list(LABELS.values())[::-1])
    ax.set_xlabel("ROC area of forgetting (dotted: chance)")
    ax.set_title("what tells that half the old accuracy goes:\nsharpness / threshold, rate / critical rate, …")
    ax.legend(loc="lower left")
