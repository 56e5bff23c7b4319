"""Stopping early: is a run's final loss told by earlier runs near it, by collapse, or by the annealing law?

Papers: predictive models of learning curves that ask the runs near the one in question; the collapse of loss curves,
arXiv 2507.02119; the annealing law, arXiv 2408.11029. `sharplab.studies.early_stop` has all three, each with intervals
of its errors on the runs that are left.

Here (quick): residual MLPs of two blocks and width 16, 32 or 64 in muP on 8,192 images of Fashion-MNIST, 256 steps of
SGD with batch 64, at seven learning rates an octave apart, falling by a cosine or to 0 over the last half ("wsd"), 2
seeds: 84 runs. Each is stopped after a quarter, a half or three quarters of its steps and told from those of other
settings: seeds of a setting do not tell each other. Train loss on 1,024 images; the final loss is the geometric mean
over the last fiftieth of the run. Near: a root mean square of differences of the log loss of at most 0.05 over the part
that is known. Runs that diverge are left out.

Left: the median of |log error| against where runs are stopped, for the runs that proximity tells, with 95 % intervals.
Middle: told against true final losses, half-way. Right: by tolerance, half-way, the share of runs that proximity tells
and the median of |log error| of those.

Rule of the verdict, for runs stopped half-way that proximity tells: by the difference of |log error|, at most log 2 and
log 2 where nothing is told, between proximity and each of collapse and the law, meaned over the same runs with settings
drawn anew. "holds" if both have their 95 % interval below 0; "fails" if one lies above; else "inconclusive", as where
fewer than 20 settings are told. How often 90 % intervals cover is stated, with Jeffreys' interval as if runs were
independent. The tolerance, 0.05, and the grid are guesses made before any run; the mean of all runs is to compare with.

Cost: two minutes on two cores, most for fits of the law. Expected: proximity is ahead for the runs that it tells, as
near runs have the same schedule to come; the law has not seen rates fall far, and is now and then far off. Found at
quick: so it is. Half-way it tells 94 % of the runs, to a median of 3 %, where collapse is off by 11 % and the law by
9 %; at three quarters the law comes near, at 3.5 % against 2.4 %. Collapse errs with the final loss, too high for low
ones and too low for high ones: one factor does not fit learning rates far apart. Intervals of 90 % cover 94 [87, 98] %.
At full, of 420 runs of 1,024 steps: it tells 99 %, half-way to a median of 2.4 % against 12 % of both others, at three
quarters to 1.7 % against 7.5 % and the law's 3.7 %; its intervals cover 91 [88, 94] %. There the law is too low for
most, by up to a half, as rates fall last.

    make figure-early-stop
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.prediction import group_interval
from sharplab.analysis.trend import Measured
from sharplab.analysis.trust_region import share_interval
from sharplab.core.evidence import measured
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style
from sharplab.schedules import find_schedule
from sharplab.studies.early_stop import TOLERANCE, left_out

CLAIM = (
    "Stopped half-way, a run's final loss is told better by earlier runs that are near it than by the collapse of loss "
    "curves or by the annealing law through its first half."
)
SCHEDULES = ("cosine", "wsd(decay=0.5)")
STOPS, JUDGED = (0.25, 0.5, 0.75), 0.5
TOLERANCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
FEWEST, MOST, CONFIDENCE = 20, float(np.log(2)), 0.9
KEYS = ["schedule", "width", "learning_rate", "seed"]
COLOURS: Mapping[str, str] = {"proximity": "#d55e00", "collapse": "#0072b2", "law": "#009e73", "mean": "0.55"}
RIVALS = ("collapse", "law")
QUICK = sl.Experiment(
    model="residual_mlp",
    depths=(2,),
    widths=(16, 32, 64),
    base_width=16,
    parameterizations=("mup",),
    learning_rates=tuple(2.0**x for x in range(-7, 0)),
    seeds=2,
    steps=256,
    batch_size=64,
    probe_size=1024,
    records=65,
    observables=("train_loss",),
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(
        QUICK, widths=(8,), learning_rates=(0.125, 0.25), seeds=1, steps=32, records=33, data="gaussian-clusters"
    ),
    "quick": QUICK,
    "full": replace(QUICK, widths=(16, 32, 64, 128, 256), seeds=6, steps=1024),
    "paper": replace(QUICK, widths=(64, 128, 256, 512, 1024), data="cifar-10", seeds=6, steps=7820),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, tell each from the others, draw the figure, and judge the claim."""
    told = measured("told", lambda: tell_all(PRESETS[preset], store))
    by_tolerance = told[told["tolerance"].notna()]
    told = told[told["tolerance"].isna()].drop(columns="tolerance")
    compared = comparable(told)
    differences = {rival: difference(compared, rival) for rival in RIVALS}
    settings = compared[compared["stop"] == JUDGED]["setting"].nunique()
    verdict = judge(differences, settings)
    numbers = {
        "runs": int(told["run"].nunique()),
        "settings_told_half_way": int(settings),
        "error_of_proximity_less": {rival: vars(each) for rival, each in differences.items()},
        "median_error": {f"{stop:g}": medians(compared, stop) for stop in STOPS},
        "median_error_of_all_runs": {f"{stop:g}": medians(told, stop) for stop in STOPS},
        "share_told": {f"{stop:g}": share_told(told, stop) for stop in STOPS},
        "covered_at_90_percent": {name: coverage(told, name) for name in COLOURS},
    }
    table = told.assign(part=told["method"] + " at " + told["stop"].astype(str)).drop(
        columns=["method", "stop", "setting"]
    )
    return Finding(draw(told, compared, by_tolerance, verdict), table.drop(columns="run"), CLAIM, verdict, numbers)


def tell_all(experiment: sl.Experiment, store: Path) -> pd.DataFrame:
    """A row per run, stop and method, with the run's settings; for proximity half-way, one per tolerance as well."""
    given, keys = [], []
    for schedule in SCHEDULES:
        curves = sl.run(replace(experiment, schedule=schedule), store).curves
        factor = find_schedule(schedule, experiment.steps)
        factors = np.array([float(factor(step)) for step in range(experiment.steps)])
        for (width, rate, seed), curve in curves.groupby(["width", "learning_rate", "seed"]):
            losses = curve["train_loss"].to_numpy(float)
            if len(losses) == curves["step"].nunique() and np.isfinite(losses).all() and (losses > 0).all():
                given.append((rate * factors, curve["step"].to_numpy(), losses))
                keys.append((schedule.partition("(")[0], width, rate, seed))
    settings = pd.DataFrame(keys, columns=KEYS)
    groups = [str(key[:3]) for key in keys]
    told = [left_out(given, stops=STOPS, groups=groups, confidence=CONFIDENCE)]
    for tolerance in TOLERANCES:
        half_way = left_out(given, stops=(JUDGED,), methods=("proximity",), groups=groups, tolerance=tolerance)
        told.append(half_way.assign(tolerance=tolerance))
    table = pd.concat(told, ignore_index=True).merge(settings.assign(setting=groups), left_on="run", right_index=True)
    return table.assign(covered=table["covered"].astype(float))


def comparable(told: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that proximity tells at the same stop."""
    near = told[(told["method"] == "proximity") & told["error"].notna()][["run", "stop"]]
    return told.merge(near, on=["run", "stop"])


def errors(told: pd.DataFrame, stop: float) -> pd.DataFrame:
    """|log error|, at most log 2, and where nothing is told: a row per run and setting, a column per method."""
    part = told[told["stop"] == stop]
    part = part.assign(error=part["error"].abs().fillna(MOST).clip(upper=MOST))
    return part.pivot(index=["run", "setting"], columns="method", values="error").reset_index("setting")


def difference(compared: pd.DataFrame, rival: str) -> Measured:
    """The mean over runs of proximity's |log error| less a rival's, with the interval of settings drawn anew."""
    table = errors(compared, JUDGED)
    if table.empty:
        return Measured(np.nan, -np.inf, np.inf)
    values = (table["proximity"] - table[rival]).to_numpy()
    return over_settings(lambda rows: values[rows].mean(), table["setting"])


def over_settings(statistic: Callable[[np.ndarray], float], settings: pd.Series) -> Measured:
    """A statistic of rows with its interval where settings are drawn anew."""
    low, high = group_interval(statistic, settings.to_numpy())
    return Measured(float(statistic(np.arange(len(settings)))), float(low), float(high))


def medians(told: pd.DataFrame, stop: float) -> dict[str, dict[str, float]]:
    """The median of |log error| of each method, with intervals over settings."""
    table = errors(told, stop)
    if table.empty:
        return {}
    values = {name: table[name].to_numpy() for name in COLOURS}
    found = {name: over_settings(lambda rows, x=x: np.median(x[rows]), table["setting"]) for name, x in values.items()}
    return {name: vars(each) for name, each in found.items()}


def share_told(told: pd.DataFrame, stop: float) -> float:
    """The share of the runs that proximity tells."""
    part = told[(told["method"] == "proximity") & (told["stop"] == stop)]
    return float(part["error"].notna().mean())


def coverage(told: pd.DataFrame, method: str) -> dict[str, float]:
    """How often intervals cover, half-way."""
    covered = told[(told["method"] == method) & (told["stop"] == JUDGED)]["covered"].dropna()
    if covered.empty:
        return {"value": np.nan, "low": 0.0, "high": 1.0}
    low, high = share_interval(float(covered.mean()), len(covered))
    return {"value": float(covered.mean()), "low": low, "high": high}


def judge(differences: Mapping[str, Measured], settings: int) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if settings < FEWEST:
        return "inconclusive"
    if any(each.low > 0 for each in differences.values()):
        return "fails"
    return "holds" if all(each.high < 0 for each in differences.values()) else "inconclusive"


TITLES: Mapping[Verdict, str] = {
    "holds": "Earlier runs near the one that is stopped tell its final loss best",
    "fails": "Earlier runs near the one that is stopped do not tell its final loss best",
    "inconclusive": "Earlier runs near the one that is stopped may tell its final loss best",
}


def draw(told: pd.DataFrame, compared: pd.DataFrame, by_tolerance: pd.DataFrame, verdict: Verdict) -> Figure:
    """The figure: errors against the stop, told against true, and the choice of the tolerance."""
    with house_style():
        figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.9))
        draw_errors(axes[0], compared)
        draw_told(axes[1], told[told["stop"] == JUDGED])
        draw_tolerances(axes[2], by_tolerance)
        figure.suptitle(TITLES[verdict], fontsize=10)
        plt.close(figure)
    return figure


def draw_errors(ax: Axes, compared: pd.DataFrame) -> None:
    """The median of |log error| of each method against the stop, for the runs that proximity tells."""
    found = {stop: medians(compared, stop) for stop in STOPS}
    for shift, (name, colour) in zip((-0.012, -0.004, 0.004, 0.012), COLOURS.items(), strict=True):
        rows = [(stop + shift, *found[stop][name].values()) for stop in STOPS if found[stop]]
        if rows:
            at, value, low, high = np.array(rows).T
            ax.plot(at, value, "o-", color=colour, label=name, markersize=4)
            ax.vlines(at, np.maximum(low, 1e-4), np.minimum(high, 2), color=colour, linewidth=1.8, alpha=0.7)
    ticked(ax, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
    ax.set_xticks(STOPS, [f"{stop:g}" for stop in STOPS])
    ax.set_xlabel("stopped after this share of the run")
    ax.set_ylabel("median of |log error| of the final loss")
    ax.set_title("runs that proximity tells")
    if ax.lines:
        ax.legend(loc="lower left", ncols=2)


def draw_told(ax: Axes, told: pd.DataFrame) -> None:
    """Final losses as told half-way over true ones."""
    for name in ("law", "collapse", "proximity"):
        part = told[told["method"] == name]
        ratio = np.exp(part["error"].clip(-MOST, MOST))
        ax.plot(part["final"], ratio, "o", color=COLOURS[name], markersize=3.5, alpha=0.7, label=name)
    ax.axhline(1.0, color="0.25", linestyle="--", linewidth=1)
    ax.set_xscale("log")
    ticked(ax, (0.5, 0.7, 1.0, 1.4, 2.0))
    ax.set_xticks((1, 2), ("1", "2"))
    ax.set_xlabel("true final loss (nats)")
    ax.set_ylabel("told over true (beyond 2 at the edge)")
    ax.set_title("all runs, stopped half-way")
    ax.legend(loc="upper right")


def draw_tolerances(ax: Axes, by_tolerance: pd.DataFrame) -> None:
    """The share of runs that proximity tells against the tolerance, and the median error of these."""
    by = by_tolerance.groupby("tolerance")["error"]
    ax.plot(by.size().index, by.count() / by.size(), "s-", color="0.35", label="share of runs told")
    ax.plot(
        by.size().index,
        by.apply(lambda e: e.abs().median()),
        "o-",
        color=COLOURS["proximity"],
        label="median |log error|",
    )
    ax.axvline(TOLERANCE, color="0.6", linestyle=":", linewidth=1)
    ax.set_xscale("log")
    ticked(ax, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0))
    ax.set_xticks(TOLERANCES, [f"{each:g}" for each in TOLERANCES])
    ax.set_xlabel("tolerance of proximity (dotted: judged)")
    ax.set_title("proximity, half-way")
    ax.legend()


def ticked(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic vertical axis over these values, which are its ticks."""
    ax.set_yscale("log")
    ax.set_yticks(values, [f"{each:g}" for each in values])
    ax.set_ylim(0.9 * values[0], 1.1 * values[-1])
    ax.minorticks_off()
