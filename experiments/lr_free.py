"""Learning-rate-free methods: are they as soon at a target as NadamW of one setting, and does what they find transfer?

Paper: Medapati et al., arXiv 2505.24005, where methods that need no learning rate come out slightly behind one setting
of NadamW that was calibrated over all workloads together. The question of this lab: at each width such a method finds a
learning rate of its own. Does it stay with width under muP, and under standard parameterization, and where does it lie
against the edge of stability?

Here (quick): five workloads, each at three widths a factor of 2 apart: an MLP of two hidden layers on a ReLU teacher
(squared error), a residual MLP of two blocks, the Figure-1 ConvNet and a ViT of one block on 8,192 images of
Fashion-MNIST, and a GPT of one block on the King James text in bytes; 240 steps of 8 to 32 examples. The methods are
those of `sharplab.studies.lr_free` at optax's defaults. All but schedule-free and COCOB, which have no place for it,
follow the same linear decay of a factor from 1 to 0, and so does NadamW. Methods run in the units of the
parameterization (`units_of`): what they find is a base learning rate, quoted at the narrowest width. There the two
parameterizations are the same under Adam; under SGD the units of muP are those of weights of variance 1.

Target: of each workload, width and parameterization, the train loss (on a probe, mean over seeds) that NadamW has after
half of the steps at the learning rate, in octaves, that ends lowest there; a trial with three quarters left nearly all
methods of the GPT without a time. Time: steps until a run's own loss is at or below it, by lines through log loss
between records; never, where it is not by the end. One setting: the learning rate of NadamW whose mean over the four
*other* workloads of log (last loss / that of the best rate) is least.

Rule of the verdict, under standard parameterization as in the paper: the score of a method is the mean over τ from 1 to
4 of the share of its runs whose time is at most τ times the least of all methods with the same seed. "fails" if for any
method the interval of its score less NadamW's lies above 0; "holds" if for every one it lies below 0; else
"inconclusive". Intervals are of seeds drawn anew, simultaneous for all methods by Bonferroni (95 % together), and about
these workloads. muP's scores are stated, not judged.

What a method finds: the geometric mean of the learning rate that it uses in the second quarter of the steps, schedule
included. Its slope in octaves per doubling of width is that of each workload, averaged, with a t interval over the
workloads; within ±0.25 it is said to transfer, unless it is the same in all runs, as at a bound. The edge: the
effective sharpness on the probe after half of the steps over the threshold of the learning rate then used, of NadamW at
its best. Neither is judged, nor how far what is found lies from NadamW's best.

Left: performance profiles, NadamW dashed. Middle: the learning rate that each method finds against width, mean over
workloads, in the units of the optimizer that it is made of; schedule-free's is given, and COCOB has none. Right:
effective sharpness over threshold.

Cost: eight minutes of one core, about five on two. Expected: the methods of Adam's kind near NadamW, those of SGD's
kind far behind on the transformers; what Prodigy and D-Adaptation find stays under muP, where distances in the units of
the parameterization are the same at each width, and falls with width under standard. Found at full, the same with 18
seeds in three quarters of an hour: D-Adaptation is ahead of NadamW of one setting under standard, by a score of 0.08
[0.02, 0.13], against the claim; Prodigy is not told from it; the other seven are behind for sure. The two are later, as
they begin from 1e-6, and reach more of the targets, 97 and 90 % against 80 %, since NadamW's best rate moves with width
and one setting does not. Under muP one setting of NadamW is ahead of all nine, of D-Adaptation by 0.07 [0.02, 0.12].
Under standard what these two find falls by 0.9 octaves per doubling, NadamW's best by 0.6; under muP it stays, −0.06
[−0.18, 0.05] and −0.11 [−0.24, 0.01]. What D-Adaptation finds is NadamW's best rate on average, but two octaves off on
some workloads. DoWG keeps its learning rate at 0.7 of the edge everywhere. Found at quick, with three seeds: these two
were not told from NadamW under standard. Intervals leave out that NadamW's one setting was chosen on the same runs and
to an octave.

    make figure-lr-free
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lr_free_runs import REFERENCE, Setting, best_rate, train_all
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharplab.analysis.trend import Measured, lies_outside, lies_within, trend_of_means
from sharplab.core.evidence import measured_parts
from sharplab.core.statistics import mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import NAMES, house_style
from sharplab.studies.performance import PerformanceProfile, performance_profile

CLAIM = (
    "No learning-rate-free method at its defaults reaches the targets as soon as NadamW with one calibrated setting."
)
TAUS = np.geomspace(1, 4, 25)
TOLERANCE = 0.25
COLOURS: Mapping[str, str] = {
    "prodigy": "#0072b2",
    "dadapt": "#56b4e9",
    "mechanic": "#009e73",
    "momo-adam": "#d55e00",
    "schedule-free": "#cc79a7",
    "cocob": "#e69f00",
    "momo": "#882255",
    "dog": "#999933",
    "dowg": "#aaaaaa",
    REFERENCE: "black",
}
MARKS: Mapping[str, str] = {"dog": "s", "dowg": "s", "momo": "s"}  # of SGD's kind


QUICK = Setting()
PRESETS: Mapping[str, Setting] = {
    "smoke": Setting(("MLP, teacher",), (4,), seeds=2, steps=16, octaves=(-6, -5), records=8, probe=16),
    "quick": QUICK,
    "full": replace(QUICK, seeds=18),
    "paper": replace(QUICK, widths=(64, 128, 256, 512, 1024), seeds=5, steps=10_000, octaves=(-12, -3), probe=1024),
}


def find(preset: str, store: Path) -> Finding:
    """Train all methods, draw the figure, and judge the claim."""
    (runs,) = measured_parts(["runs"], train_all(PRESETS[preset]))
    chosen = calibrated(runs)
    profiles = {name: profile(part, chosen[name]) for name, part in runs.groupby("parameterization", sort=False)}
    gains = {name: behind(each) for name, each in profiles.items()}
    verdict = judge(gains["standard"])
    slopes, edges, bound = transfer_of_found(runs), over_threshold(runs), at_bound(runs)
    numbers = {
        "score": {name: each.scores["score"].to_dict() for name, each in profiles.items()},
        "score_less_nadamw": {name: stated(each) for name, each in gains.items()},
        "seeds": int(runs["seed"].nunique()),
        "seeds_wanted": seeds_wanted(gains["standard"], runs["seed"].nunique()),
        "calibrated_learning_rate": chosen,
        "reached": {name: reached(part, chosen[name]) for name, part in runs.groupby("parameterization", sort=False)},
        "best_method": {name: max(each, key=lambda m, of=each: of[m].value) for name, each in gains.items()},
        "found_octaves_per_doubling": {name: stated(each) for name, each in slopes.items()},
        "transfers": {
            name: {method: transfer_verdict(slope) for method, slope in each.items() if method not in bound[name]}
            for name, each in slopes.items()
        },
        "at_its_bound": bound,
        "found_over_best_of_nadamw_octaves": {name: stated(each) for name, each in found_over_best(runs).items()},
        "sharpness_over_threshold_at_largest_width": {name: stated(each) for name, each in edges.items()},
        "diverged": int((~np.isfinite(runs["loss"])).sum()),
        "runs": len(runs),
    }
    shares = pd.concat([each.shares.assign(parameterization=name) for name, each in profiles.items()])
    parts = np.where(runs["method"] == REFERENCE, "learning rates of NadamW", "what is found")
    table = pd.concat([runs.assign(part=parts), shares.assign(part="profile")], ignore_index=True)
    return Finding(draw(runs, profiles, slopes, verdict), table, CLAIM, verdict, numbers)


def stated(values: Mapping[str, Measured]) -> dict[str, dict[str, float]]:
    """Values as the figure's numbers say them."""
    return {name: vars(value) for name, value in values.items()}


def calibrated(runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """NadamW's one learning rate for each workload, chosen on the others (on itself if there are none)."""
    cells = ["parameterization", "workload", "width"]
    means = runs[runs["method"] == REFERENCE].groupby([*cells, "learning_rate"])["loss"].mean()
    excess = np.log(means / means.groupby(cells).transform("min"))
    by_workload = excess.groupby(["parameterization", "workload", "learning_rate"]).mean().unstack()
    chosen: dict[str, dict[str, float]] = {}
    for (scaling, workload), own in by_workload.iterrows():
        of_all = by_workload.loc[scaling]
        others = of_all.drop(index=workload) if len(of_all) > 1 else own.to_frame().T
        chosen.setdefault(scaling, {})[workload] = float(others.mean().idxmin())
    return chosen


def compared(runs: pd.DataFrame, chosen: Mapping[str, float]) -> pd.DataFrame:
    """The runs without those of NadamW at learning rates that were not chosen."""
    return runs[runs["learning_rate"].isna() | (runs["learning_rate"] == runs["workload"].map(chosen))]


def profile(runs: pd.DataFrame, chosen: Mapping[str, float]) -> PerformanceProfile:
    """The profile of the methods, a workload at a width being one workload, with NadamW at the chosen rates."""
    times = compared(runs, chosen).pivot(index=["workload", "width"], columns=["method", "seed"], values="time")
    return performance_profile({name: times[name].to_numpy() for name in runs["method"].unique()}, TAUS)


def reached(runs: pd.DataFrame, chosen: Mapping[str, float]) -> dict[str, float]:
    """The share of each method's runs that reach the target."""
    of = compared(runs, chosen)
    return np.isfinite(of["time"]).groupby(of["method"]).mean().to_dict()


def behind(profile: PerformanceProfile) -> dict[str, Measured]:
    """Each method's score less NadamW's, 95 % together."""
    others = [name for name in profile.scores.index if name != REFERENCE]
    return {name: profile.less(name, REFERENCE, 1 - 0.05 / len(others)) for name in others}


def judge(gains: Mapping[str, Measured]) -> Verdict:
    """The rule of the verdict."""
    if any(gain.low > 0 for gain in gains.values()):
        return "fails"
    return "holds" if all(gain.high < 0 for gain in gains.values()) else "inconclusive"


def seeds_wanted(gains: Mapping[str, Measured], seeds: int) -> float:
    """How many seeds would tell the best method's score from NadamW's, if their difference is as found."""
    best = max(gains.values(), key=lambda gain: gain.value)
    half = (best.high - best.low) / 2
    return float(np.ceil(seeds * (half / best.value) ** 2)) if best.value else np.inf


def transfer_of_found(runs: pd.DataFrame) -> dict[str, dict[str, Measured]]:
    """The octaves per doubling of width of what each method finds, and of NadamW's best rate: means over workloads."""
    found: dict[str, dict[str, Measured]] = {}
    tuned = runs[runs["method"] == REFERENCE].groupby(["parameterization", "workload", "width"]).apply(best_rate)
    for scaling, part in runs.groupby("parameterization", sort=False):
        slopes, widths = {}, sorted(part["width"].unique())
        for method, of in part[part["found"] > 0].groupby("method", sort=False):
            if method == REFERENCE:
                continue
            each = []
            for _, one in of.groupby("workload", sort=False):
                groups = [np.log2(at["found"].to_numpy(float)) for _, at in one.groupby("width")]
                each.append(trend_of_means(widths, groups).slope)
            slopes[method] = over_workloads(each)
        best = [
            trend_of_means(widths, np.log2(by.to_numpy())[:, None]).slope
            for _, by in tuned[scaling].groupby("workload", sort=False)
        ]
        found[scaling] = slopes | {f"{REFERENCE}, best": over_workloads(best)}
    return found


def over_workloads(values: list[float]) -> Measured:
    """The mean with its t interval."""
    mean, (low, high) = mean_interval(values, 0.95)
    return Measured(mean, low, high)


def transfer_verdict(slope: Measured) -> str:
    """ "transfers", "shifts" or "inconclusive", by an interval of octaves per doubling."""
    if lies_within(slope.interval, TOLERANCE):
        return "transfers"
    return "shifts" if lies_outside(slope.interval, TOLERANCE) else "inconclusive"


def at_bound(runs: pd.DataFrame) -> dict[str, list[str]]:
    """The methods whose learning rate is the same to 1 % in all runs: given, not found."""
    ends = runs[runs["found"] > 0].groupby(["parameterization", "method"])["found"].agg(["min", "max"])
    alike = ends[ends["max"] <= 1.01 * ends["min"]].index
    return {scaling: [m for s, m in alike if s == scaling] for scaling in runs["parameterization"].unique()}


def found_over_best(runs: pd.DataFrame) -> dict[str, dict[str, Measured]]:
    """How far what methods of Adam's kind find lies above NadamW's best rate, in octaves: means over workloads."""
    cells = ["parameterization", "workload", "width"]
    reference = runs[runs["method"] == REFERENCE]
    best = reference.groupby(cells).apply(best_rate).rename("best").reset_index()
    used = reference.merge(best, on=cells).query("learning_rate == best").groupby(cells)["found"].first()
    own = runs[(runs["found"] > 0) & ~runs["method"].isin([REFERENCE, *MARKS])].join(used.rename("used"), on=cells)
    octaves = np.log2(own["found"] / own["used"]).groupby([own[c] for c in ("parameterization", "method", "workload")])
    found: dict[str, dict[str, Measured]] = {}
    for (scaling, method), of in octaves.mean().groupby(["parameterization", "method"]):
        found.setdefault(scaling, {})[method] = over_workloads(of.to_list())
    return found


def over_threshold(runs: pd.DataFrame) -> dict[str, dict[str, Measured]]:
    """Sharpness over threshold at the largest width: geometric means over workloads, with t intervals."""
    found: dict[str, dict[str, Measured]] = {}
    wide = runs[(runs["width"] == runs["width"].max()) & (runs["sharpness"] > 0)]
    logs = np.log(wide["sharpness"] / wide["threshold"]).groupby(
        [wide[c] for c in ("parameterization", "method", "workload")]
    )
    for (scaling, method), of in logs.mean().groupby(["parameterization", "method"]):
        log = over_workloads(of.to_list())
        found.setdefault(scaling, {})[method] = Measured(*(float(np.exp(x)) for x in vars(log).values()))
    return found


TITLES: Mapping[Verdict, str] = {
    "holds": "Each learning-rate-free method is later at the target than NadamW with one setting",
    "fails": "A learning-rate-free method is sooner at the target than NadamW with one setting",
    "inconclusive": "Some learning-rate-free methods may be as soon at the target as NadamW with one setting",
}


def draw(
    runs: pd.DataFrame,
    profiles: Mapping[str, PerformanceProfile],
    slopes: Mapping[str, Mapping[str, Measured]],
    verdict: Verdict,
) -> Figure:
    """The figure: profiles, found learning rates and sharpness over threshold, a row per parameterization."""
    with house_style():
        figure, axes = plt.subplots(
            len(profiles), 3, figsize=(11.5, 3.3 * len(profiles)), squeeze=False, sharex="col", sharey="col"
        )
        for row, (scaling, each) in zip(axes, profiles.items(), strict=True):
            of = runs[runs["parameterization"] == scaling]
            draw_profile(row[0], each)
            row[0].set_ylabel(f"{NAMES[scaling]}: share of runs within τ")
            draw_found(row[1], of)
            found = "\n".join(
                f"{name} {slopes[scaling][name]:+.2f}" for name in ("prodigy", "dadapt", f"{REFERENCE}, best")
            )
            row[1].set_title(f"octaves per doubling of width\n{found}")
            draw_threshold_share(row[2], of)
        for ax, label in zip(axes[-1], ("τ: time to target / least of all methods", "width", "width"), strict=True):
            ax.set_xlabel(label)
        axes[0, 0].set_title("how soon at the target")
        axes[0, 2].set_title("sharpness / threshold, halfway")
        shown = sorted(COLOURS, key=lambda m: -profiles["standard"].scores["score"][m])
        handles = [
            Line2D(
                [], [], color=COLOURS[m], marker=MARKS.get(m, "o"), linestyle="--" if m == REFERENCE else "-", label=m
            )
            for m in shown
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
        figure.suptitle(TITLES[verdict], fontsize=10)
        plt.close(figure)
    return figure


def draw_profile(ax: Axes, profile: PerformanceProfile) -> None:
    """The share of runs within τ of the best, with bands of 95 %, and its score at the right end."""
    for name, part in profile.shares.groupby("method", sort=False):
        style = {"linestyle": "--", "linewidth": 2.2, "zorder": 5} if name == REFERENCE else {"linewidth": 1.4}
        ax.step(part["tau"], part["share"], where="post", color=COLOURS[name], **style)
        ax.fill_between(
            part["tau"], part["low"], part["high"], step="post", color=COLOURS[name], alpha=0.1, linewidth=0
        )
    ax.set_xlim(1, 4)
    ax.set_ylim(-0.02, 1.02)


def draw_found(ax: Axes, runs: pd.DataFrame) -> None:
    """What each method finds against width, geometric means over workloads and seeds; of NadamW its best, as used."""
    for name, part in by_method(runs[runs["found"] > 0]):
        logs = np.log(part["found"]).groupby(part["width"])
        ax.plot(np.exp(logs.mean()), **line(name))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sorted(runs["width"].unique()), map(str, sorted(runs["width"].unique())))
    ax.set_ylabel("learning rate that is found")


def draw_threshold_share(ax: Axes, runs: pd.DataFrame) -> None:
    """The effective sharpness over the threshold of the rate in use, geometric means over workloads and seeds."""
    for name, part in by_method(runs[runs["sharpness"] > 0]):
        logs = np.log(part["sharpness"] / part["threshold"]).groupby(part["width"])
        ax.plot(np.exp(logs.mean()), **line(name))
    ax.axhline(1.0, color="0.25", linestyle=":", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(runs["width"].unique()), map(str, sorted(runs["width"].unique())))
    ax.set_yscale("log")
    ax.set_ylabel("effective sharpness / threshold")


def by_method(runs: pd.DataFrame) -> Any:
    """The runs of each method, those of NadamW at the best learning rate of their cell."""
    keys = ["parameterization", "workload", "width"]
    best = runs[runs["method"] == REFERENCE].groupby(keys).apply(best_rate).rename("best")
    kept = runs.join(best, on=keys)
    return kept[kept["learning_rate"].isna() | (kept["learning_rate"] == kept["best"])].groupby("method", sort=False)


def line(name: str) -> dict[str, Any]:
    """How a method's line is drawn."""
    return {
        "color": COLOURS[name],
        "marker": MARKS.get(name, "o"),
        "markersize": 4,
        "linestyle": "--" if name == REFERENCE else "-",
        "linewidth": 1.4,
    }
