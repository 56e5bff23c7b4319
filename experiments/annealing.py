"""Annealing laws on a transformer of ours: do three schedules tell the others, and the best one, at every width?

Papers: Tissue et al., arXiv 2408.11029 (momentum law), and Luo et al., arXiv 2503.12811 (multi-power law): a run's loss
follows from its learning rates so far, L₀ + A·S^−α less a gain for what they have fallen; fitted on a few runs it
tells runs under other schedules, and the schedule that ends lowest. On their language models both predict six schedules
from three to half a percent (`docs/schedules.md`). Here (quick): a decoder of one block on the bytes of the King James
Bible under muP, Adam, widths 16, 32 and 64, 256 steps of 8 windows of 128 bytes, one peak learning rate, six seeds.

Of each width and seed both laws are fitted on constant, cosine and WSD (a fifth of decay), after the first eighth of
the run, and asked for linear, REX, the power schedule, and WSD with half the run of decay. The schedule that the
momentum law of the smallest width, on all its seeds, puts lowest, is trained at every width beside the seven.

Rule of the verdict, on three questions, each with its 95 % interval over seeds: (1) the laws tell final losses: yes if
the mean of |log(predicted/measured)| over schedules that they were not fitted on is at most 1 % for the better law at
every width, no if it is more for both at one; (2) the schedule that the law puts lowest is no worse than the best of
the seven: yes if its loss exceeds that of the best by at most 1 % at every width, no if by more at one; (3) the
momentum law's α is the same at every width: yes if it changes by at most 0.25 per doubling, no if by more. "holds" if
all three are yes, "fails" if one is no, else "inconclusive".

What was changed: with three seeds α was 1.4 to 1.6, its change per doubling +0.05 [−0.24, 0.34], and the margin 0.05:
a thirtieth of it, which no number of seeds that can be trained here tells. It is a sixth now, with six seeds.

Cost: about five minutes on two cores. Expected: (1) yes, with larger errors than on long runs; (3) open. Found at
quick: the momentum law is off by 0.07 to 0.17 %, less than on long runs. What it puts lowest, a fall in the last sixth,
ends 0.6 to 0.7 % above WSD: good, and not the best. α changes by +0.06 [−0.06, 0.17] per doubling; that of the
multi-power law does so by +0.29 [0.07, 0.51]. Found at full, of 512 steps of 16 windows: from width 32 on the loss
leaves a plateau at 2.2, the sooner the wider the network and the more learning rate it was given, and falls again, by
up to a quarter. No law of a single power knows of that: both are off by 0.07 % at width 16, where it does not come, and
by 0.6, 4 and 5 % at 32, 64 and 128, so that (1) fails; their α is then 0.03 to 0.2 and means nothing. What the law puts
lowest, the peak to the end, is as good as the best, which is so too: none that decays gets as far. Runs at quick end on
the plateau, so that what they say holds up to there.

    make figure-annealing
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from schedules import judge, within

import sharplab as sl
from sharplab.analysis.trend import Measured
from sharplab.core.statistics import mean_interval
from sharplab.gallery.finding import Finding
from sharplab.plotting import house_style
from sharplab.schedules import find_schedule, points_name

CLAIM = (
    "An annealing law fitted on three schedules of a small transformer tells the final losses of others, puts lowest a "
    "schedule within 1 % of the best, and has one exponent at every width under muP."
)
FITTED: Mapping[str, str] = {"constant": "constant", "cosine": "cosine", "WSD": "wsd(decay=0.2)"}
ASKED: Mapping[str, str] = {
    "linear": "linear",
    "REX": "rex",
    "power": "power",
    "WSD, ½ decay": "wsd(decay=0.5)",
}
BEST = "best under the law"
LAWS = ("momentum", "multi_power")
TELLS, AS_GOOD, SAME = 0.01, 0.01, 0.25  # margins of the three questions
SKIPPED = 1 / 8  # of the run, before the losses that laws are fitted on
ORDER = ("yes", "open", "no")
METRIC = "train_loss"
QUICK = sl.Experiment(
    model="gpt",
    data="king-james-bytes",
    depths=(1,),
    widths=(16, 32, 64),
    base_width=16,
    parameterizations=("mup",),
    optimizer="adam",
    learning_rates=(2.0**-6,),
    seeds=6,
    steps=256,
    batch_size=8,
    probe_size=128,
    observables=(METRIC,),
    records=33,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(
        QUICK,
        model="mlp",
        data="gaussian-clusters",
        widths=(4, 8),
        base_width=4,
        learning_rates=(2.0**-5,),
        seeds=2,
        steps=32,
        probe_size=64,
        records=17,
    ),
    "quick": QUICK,
    "full": replace(QUICK, widths=(16, 32, 64, 128), seeds=8, steps=512, batch_size=16, records=65),
    "paper": replace(
        QUICK,
        widths=(128, 256, 512),
        base_width=128,
        depths=(4,),
        base_depth=4,
        data="wikitext-103",
        steps=5120,
        batch_size=64,
        records=129,
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    experiment = PRESETS[preset]
    curves = trained(experiment, FITTED | ASKED, store)
    laws = fits(curves, experiment)
    told = predictions(laws, curves, experiment)
    small = curves[(curves["width"] == min(experiment.widths)) & curves["schedule"].isin(FITTED)]
    pooled = sl.AnnealingLaw.fit(runs_of(small, experiment), LAWS[0])
    (peak,) = experiment.rates_of("mup")
    best = points_name(pooled.best_schedule(experiment.steps, peak))
    curves = pd.concat([curves, trained(experiment, {BEST: best}, store)], ignore_index=True)
    ends = curves[curves["step"] == experiment.steps]
    over = over_the_best(ends)
    errors = {law: errors_of(told[told["law"] == law]) for law in LAWS}
    exponents = exponents_of(laws)
    slopes = {law: slope_of(part) for law, part in exponents.groupby("law")}
    answers = answer(errors, over, slopes)
    return Finding(
        draw(curves, laws, told, ends, exponents, experiment, answers),
        curves,
        CLAIM,
        judge(answers),
        {
            "answers": answers,
            "error_of_final_losses": {law: by_width(found) for law, found in errors.items()},
            "r_squared_of_asked_curves": {law: r_squared(told[told["law"] == law]) for law in LAWS},
            "log_loss_of_best_over_the_best_of_the_others": by_width(over),
            "exponent_by_width": {
                law: by_width({width: interval_of(of["alpha"]) for width, of in part.groupby("width")})
                for law, part in exponents.groupby("law")
            },
            "exponent_per_doubling": {law: stated(slope) for law, slope in slopes.items()},
            "best_schedule": best,
            "seeds": int(curves["seed"].nunique()),
        },
    )


def trained(experiment: sl.Experiment, schedules: Mapping[str, str], store: Path) -> pd.DataFrame:
    """The losses along the runs of each schedule, which a column names."""
    cells = {name: replace(experiment, schedule=text) for name, text in schedules.items()}
    sl.run(list(cells.values()), store)
    tables = {name: sl.run(cell, store).curves[["width", "seed", "step", METRIC]] for name, cell in cells.items()}
    return pd.concat([table.assign(schedule=name) for name, table in tables.items()], ignore_index=True)


def rates_of(name: str, experiment: sl.Experiment) -> np.ndarray:
    """The learning rate of each step under a schedule by its name in this figure."""
    (peak,) = experiment.rates_of("mup")
    schedule = find_schedule((FITTED | ASKED)[name], experiment.steps)
    steps = np.arange(experiment.steps)
    return np.full(len(steps), peak) if schedule is None else peak * np.asarray(jax.vmap(schedule)(steps), float)


def runs_of(curves: pd.DataFrame, experiment: sl.Experiment) -> list:
    """The runs as `sl.AnnealingLaw.fit` takes them, without the first part of each."""
    late = curves[curves["step"] >= SKIPPED * experiment.steps].sort_values("step")
    return [
        (rates_of(name, experiment), run["step"].to_numpy(), run[METRIC].to_numpy())
        for (name, _), run in late.groupby(["schedule", "seed"])
    ]


def fits(curves: pd.DataFrame, experiment: sl.Experiment) -> dict[tuple[str, int, int], sl.AnnealingLaw]:
    """The laws of each width and seed, fitted on three schedules."""
    used = curves[curves["schedule"].isin(FITTED)]
    return {
        (law, width, seed): sl.AnnealingLaw.fit(runs_of(part, experiment), law)
        for law in LAWS
        for (width, seed), part in used.groupby(["width", "seed"])
    }


def predictions(laws: Mapping, curves: pd.DataFrame, experiment: sl.Experiment) -> pd.DataFrame:
    """Losses measured and predicted along the runs under schedules that no law was fitted on."""
    late = curves[curves["schedule"].isin(ASKED) & (curves["step"] >= SKIPPED * experiment.steps)]
    parts = []
    for (law, width, seed), found in laws.items():
        for name, run in late[(late["width"] == width) & (late["seed"] == seed)].groupby("schedule"):
            predicted = found.predict(rates_of(name, experiment), run["step"].to_numpy())
            parts.append(run.assign(law=law, predicted=predicted, last=run["step"] == experiment.steps))
    return pd.concat(parts, ignore_index=True)


def errors_of(told: pd.DataFrame) -> dict[int, Measured]:
    """By width, the mean over asked schedules of |log(predicted/measured)| of final losses, with its interval."""
    last = told[told["last"]]
    error = np.abs(np.log(last["predicted"] / last[METRIC]))
    by_seed = error.groupby([last["width"], last["seed"]]).mean()
    return {int(width): interval_of(part) for width, part in by_seed.groupby(level="width")}


def r_squared(told: pd.DataFrame) -> float:
    """The share of the variance of all asked losses that the predictions explain, within each width."""
    rest = ((told[METRIC] - told["predicted"]) ** 2).sum()
    centred = told[METRIC] - told.groupby("width")[METRIC].transform("mean")
    return float(1 - rest / (centred**2).sum())


def over_the_best(ends: pd.DataFrame) -> dict[int, Measured]:
    """By width, the logarithm of the loss under the law's best schedule over that of the best other, with its interval.

    The best other of a seed is the one of the least mean loss of the other seeds.
    """
    found = {}
    for width, part in ends.groupby("width"):
        logs = np.log(part.pivot(index="seed", columns="schedule", values=METRIC))
        others = logs.drop(columns=BEST)
        chosen = [others.loc[seed, others.drop(index=seed).mean().idxmin()] for seed in others.index]
        found[int(width)] = interval_of(logs[BEST] - chosen)
    return found


def exponents_of(laws: Mapping) -> pd.DataFrame:
    """The exponent α of each law, width and seed."""
    return pd.DataFrame(
        {"law": law, "width": width, "seed": seed, "alpha": found.parameters["alpha"]}
        for (law, width, seed), found in laws.items()
    )


def slope_of(exponents: pd.DataFrame) -> Measured:
    """The change of α per doubling of the width, with its interval over seeds."""
    slopes = [np.polyfit(np.log2(part["width"]), part["alpha"], 1)[0] for _, part in exponents.groupby("seed")]
    return interval_of(pd.Series(slopes))


def interval_of(values: pd.Series) -> Measured:
    """The mean over seeds with its 95 % interval by Student's t."""
    mean, interval = mean_interval(values, 0.95)
    return Measured(mean, *interval)


def answer(
    errors: Mapping[str, Mapping[int, Measured]], over: Mapping[int, Measured], slopes: Mapping[str, Measured]
) -> dict[str, str]:
    """The answers "yes", "no" or "open" to the three questions of the rule."""
    tell = [worst([within(one.low, one.high, TELLS) for one in found.values()]) for found in errors.values()]
    slope = slopes[LAWS[0]]
    changed = "no" if slope.low > SAME or slope.high < -SAME else "open"
    return {
        "the laws tell final losses": min(tell, key=ORDER.index),
        "the schedule that they put lowest is": worst(
            [within(o.low, o.high, np.log1p(AS_GOOD)) for o in over.values()]
        ),
        "the exponent is the same": "yes" if slope.low >= -SAME and slope.high <= SAME else changed,
    }


def worst(answers: Sequence[str]) -> str:
    """The worst of several answers."""
    return max(answers, key=ORDER.index)


def by_width(found: Mapping[int, Measured]) -> dict[str, dict]:
    """Values and intervals by width, as the JSON file has them."""
    return {str(width): stated(one) for width, one in found.items()}


def stated(one: Measured) -> dict:
    """A value and its interval, as the JSON file has them."""
    return {"value": one.value, "interval": one.interval}


COLOURS: Mapping[str, str] = {
    "constant": "0.55",
    "cosine": "#67a9cf",
    "WSD": "#e08214",
    "linear": "#2166ac",
    "REX": "#b2182b",
    "power": "#8c510a",
    "WSD, ½ decay": "#fdb863",
    BEST: "#1b7837",
}


def draw(
    curves: pd.DataFrame,
    laws: Mapping,
    told: pd.DataFrame,
    ends: pd.DataFrame,
    exponents: pd.DataFrame,
    experiment: sl.Experiment,
    answers: Mapping[str, str],
) -> Figure:
    """The figure: measured curves with the law's, final losses predicted and measured, all schedules, and exponents."""
    small = min(experiment.widths)
    with house_style():
        figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.2))
        draw_told(axes[0, 0], curves[curves["width"] == small], told[told["width"] == small], experiment)
        axes[0, 0].set_title(f"width {small}, first seed: measured (dots), momentum law (lines)")
        draw_final(axes[0, 1], told[told["last"]])
        draw_ends(axes[1, 0], ends)
        draw_exponents(axes[1, 1], exponents)
        figure.suptitle("; ".join(f"{question}: {said}" for question, said in answers.items()), fontsize=10)
        plt.close(figure)
    return figure


def draw_told(ax: Axes, curves: pd.DataFrame, told: pd.DataFrame, experiment: sl.Experiment) -> None:
    """Curves of one seed that no law was fitted on, with the law's."""
    first = told[(told["law"] == LAWS[0]) & (told["seed"] == told["seed"].min())]
    for name, run in first.groupby("schedule"):
        ax.plot(run["step"], run["predicted"], color=COLOURS[name], linewidth=1.2, label=name)
        ax.plot(run["step"], run[METRIC], ".", color=COLOURS[name], markersize=4)
    ax.set_xlabel("step")
    ax.set_ylabel("train loss (nats)")
    ax.legend()


def draw_final(ax: Axes, last: pd.DataFrame) -> None:
    """By width, how far predictions of final losses are off, by both laws."""
    widths = sorted(last["width"].unique())
    for law, shift, marker in zip(LAWS, (-0.12, 0.12), "os", strict=True):
        part = last[last["law"] == law]
        error = 100 * np.log(part["predicted"] / part[METRIC])
        at = part["width"].map(widths.index) + shift
        shape = {} if marker == "o" else {"markerfacecolor": "white"}
        ax.plot(at, error, marker, color="#2166ac", markersize=4, label=law.replace("_", "-") + " law", **shape)
    for end in (-100 * TELLS, 100 * TELLS):
        ax.axhline(end, color="0.25", linestyle="--", linewidth=1)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set_xticks(range(len(widths)), [str(width) for width in widths])
    ax.set_xlabel("width")
    ax.set_ylabel("predicted over measured final loss (%)")
    ax.set_title("schedules that no law was fitted on")
    ax.legend(loc="lower right")


def draw_ends(ax: Axes, ends: pd.DataFrame) -> None:
    """By width, the final loss under each schedule over that of linear, the mean over seeds."""
    logs = np.log(ends.pivot(index=["width", "seed"], columns="schedule", values=METRIC))
    over = 100 * logs.sub(logs["linear"], axis=0)
    mean, error = over.groupby("width").mean(), over.groupby("width").sem()
    for i, (name, colour) in enumerate(COLOURS.items()):
        at = np.arange(len(mean)) + 0.08 * (i - len(COLOURS) / 2)
        ax.errorbar(at, mean[name], error[name], color=colour, marker="o", markersize=4, linestyle="", label=name)
    ax.set_xticks(range(len(mean)), [str(width) for width in mean.index])
    ax.set_xlabel("width")
    ax.set_ylabel("final loss over linear's (%)")
    ax.legend(fontsize=7, ncols=2)


def draw_exponents(ax: Axes, exponents: pd.DataFrame) -> None:
    """The exponent α of both laws against the width, a point per seed."""
    for law, shift, marker in zip(LAWS, (0.96, 1.04), "os", strict=True):
        part = exponents[exponents["law"] == law]
        shape = {} if marker == "o" else {"markerfacecolor": "white"}
        ax.plot(shift * part["width"], part["alpha"], marker, color="#b2182b", label=law.replace("_", "-"), **shape)
    widths = sorted(exponents["width"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(widths, [str(width) for width in widths])
    ax.minorticks_off()
    ax.set_xlabel("width")
    ax.set_ylabel("exponent α of the sum of learning rates")
    ax.legend()
