"""The edge of stability, measured: four optimizers against their thresholds, and what theory says of the way there.

Papers: Cohen et al., arXiv 2103.00065 (descent and heavy ball) and 2207.14484 (Adam); Islamov et al., arXiv 2603.05002
(the norm of Muon's steps); Damian et al., arXiv 2209.15594 (self-stabilisation); Lewkowycz et al., arXiv 2003.02218
(catapults); Cohen et al., arXiv 2410.24206 (the central flow). Here (quick): a tanh network of three hidden layers of
32 under muP with γ = 2, squared error, 2,048 images of Fashion-MNIST in 8 × 8 pixels (`experiments/edge_images.py`),
all of them in every step, 1,000 steps, eight seeds.

Upper row: the sharpness of each optimizer's runs over its threshold: 2/η for descent, 3.8/η for heavy ball, 38/η for
Adam in its metric, and for Muon 2/η of the sharpness in the norm of its steps over the dual norm of the gradient.

Rule of the verdict. The place of a run is the mean over the records of the second half of its sharpness over the
threshold; of an optimizer the mean over seeds with a 95 % t interval. "holds" if the intervals of all four lie within
0.9 and 1.1; "fails" if one lies wholly outside; else "inconclusive", for which more seeds decide. A run that diverges
has no place, and leaves its optimizer's interval open.

The learning rates are from a trial on seeds 0, 20 and 21, which are not among those here, such that the sharpness comes
to its plateau within the first half. A first setting of 512 images and 1,500 steps, on seeds 1 to 6, failed by this
rule: descent 1.06 [1.04, 1.08], heavy ball 0.70 [0.55, 0.85], Adam 0.98 [0.97, 0.99], Muon 0.89 [0.85, 0.92]. Heavy
ball had fitted its images by then, after which nothing sharpens. So there are more images and fewer steps, the rule is
the same, and the seeds are others, from 7 on without 20 and 21.

Stated, not judged, lower row:

- self-stabilisation: how long the sharpness stays above 2/η after its first crossing, and the period of its oscillation
  (`sharplab.analysis.edge_cycles`), at the iterates of descent and half-way between two of them, which is about the
  middle of the valley, beside `sharplab.theory.stabilisation_time` of the slopes at the crossing;
- catapults: descent at rates c · 2/λ₀, λ₀ the sharpness at the start: which survive, the highest loss on the way, and
  η λ/2 over the late records;
- the central flow (`sharplab.theory.central_flow`), begun half-way between steps 20 and 21 of descent at η = 4.5, which
  is below the edge there, against averages over 20 steps of descent's loss and weights: mean relative error after the
  crossing, beside that of gradient flow, and of the flow's loss without ½⟨Σ, H⟩. At η = 3.5, where the paths were
  first, the edge comes late, and the time above it was about twice that of theory;
- products per record of the k largest eigenvalues along descent, a record each eight steps: warm-started tracking, its
  audits included, and a cold solve of the same tolerance.

Cost: about four minutes on two cores. Expected: as in the trial, descent at 1.01, heavy ball at 0.94, Adam at 0.95,
Muon at 0.98. Found at quick: descent and heavy ball within a tenth; Adam at 0.91 [0.83, 0.99], for in two of eight
seeds its sharpness fell to 0.6 and had not come up again, and Muon at 0.93 [0.89, 0.97]. Found at full: all four within
a tenth, descent at 1.01 [1.00, 1.01], heavy ball at 0.95 [0.94, 0.97], Adam at 0.93 [0.92, 0.95], Muon at 0.93
[0.92, 0.94]. A first look at full with 24 seeds left Adam open, 0.92 [0.89, 0.95], so that there are 64 now; intervals
do not count that look, and Adam's lies above 0.9 at 99.8 % too.

    make figure-edge
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from edge_paths import FASTER, SETTLED, SEVERAL, along_flows, count_products, past_crossing, path_of, predict
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.edge_cycles import edge_cycles
from sharplab.analysis.stable_time import threshold_of
from sharplab.analysis.trend import Measured, lies_outside, lies_within
from sharplab.core.evidence import measured, measured_parts
from sharplab.core.statistics import OPEN, mean_interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import draw_threshold, house_style

CLAIM = (
    "Full-batch gradient descent, heavy ball, Adam, and Muon in the norm of its own steps settle at their stability "
    "thresholds."
)
RATES: Mapping[str, float] = {"sgd": 3.5, "momentum": 4.0, "adam": 2.0**-8.5, "muon": 2.0**-9}
TITLES: Mapping[str, str] = {"sgd": "gradient descent", "momentum": "heavy ball", "adam": "Adam", "muon": "Muon"}
THRESHOLDS: Mapping[str, str] = {"sgd": "2/η", "momentum": "3.8/η", "adam": "38/η", "muon": "2/η"}
COLOURS: Mapping[str, str] = {"sgd": "#2166ac", "momentum": "#1b7837", "adam": "#b2182b", "muon": "#762a83"}
TOLERANCE = 0.1
LATE = 8  # the last records of a catapult


class Preset(NamedTuple):
    """The size of the figure."""

    seeds: int
    steps: int
    records: int
    dense: int  # steps of descent with a record each second one
    way: int  # steps of the paths that are compared with the flow
    paths: int  # seeds of these
    rates: int  # of catapults, four to an octave, from 2 on
    width: int = 32


TRIED = (*range(7), 20, 21)  # seeds of trials
MOST = 24  # seeds of what is stated and not judged
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(2, 16, 5, 40, 24, 1, 2, width=8),
    "quick": Preset(8, 1000, 51, 600, 400, 2, 14),
    "full": Preset(64, 1000, 51, 1000, 400, 2, 14),
    "paper": Preset(24, 4000, 101, 2000, 2000, 6, 14, width=128),
}
FEWER: Mapping[str, tuple[str, ...]] = {"smoke": ("sgd",)}  # optimizers: each compiles programs of its own
BASE = sl.Experiment(
    model="edge_images:Tanh@1",
    data="edge_images:small_images@1",
    widths=(32,),
    base_width=32,
    depths=(3,),
    parameterizations=("mup",),
    gamma=2.0,
    loss="squared_error",
    batch_size=2048,
    probe_size=2048,
    learning_rates=(1.0,),
    observables=("train_loss", "sharpness"),
)


def seeds_of(number: int) -> tuple[int, ...]:
    """So many seeds that no trial has seen."""
    return tuple(islice((seed for seed in count() if seed not in TRIED), number))


def find(preset: str, store: Path) -> Finding:
    """Train and compute what is lacking, draw the figure, and judge the claim."""
    size = PRESETS[preset]
    base = replace(BASE, widths=(size.width,), base_width=size.width, seeds=seeds_of(size.seeds))
    names = FEWER.get(preset, tuple(RATES))
    edge = relative(sl.run([experiment_of(base, name, size) for name in names], store))
    places = {name: place_of(edge[edge["optimizer"] == name]) for name in names}
    less = replace(base, seeds=seeds_of(min(size.seeds, MOST)))
    dense = replace(less, learning_rates=(RATES["sgd"], FASTER), steps=size.dense, records=size.dense // 2 + 1)
    cycles = cycles_of(sl.run(dense, store).curves)
    rates = tuple(2.0 * 2 ** (i / 4) for i in range(size.rates))
    few = {"seeds": seeds_of(min(size.seeds, 3)), "learning_rates": rates, "spacing": "log"}
    steps = min(256, size.steps)
    thrown = catapults(sl.run(replace(base, steps=steps, records=min(65, steps + 1), **few), store).curves)
    path = partial(path_of, base, size.way)
    seeds = seeds_of(size.paths)
    (flows,) = measured_parts(["flows"], {f"seed {s}": lambda s=s: [along_flows(path(s), s)] for s in seeds})
    predicted = measured(
        "predicted", lambda: pd.DataFrame([predict(path(seed), run) for seed, run in flows.groupby("seed")])
    )
    counted = {f"seed {s}": lambda s=s: [count_products(path(s), s)] for s in seeds}
    (products,) = measured_parts(["products"], counted)
    parts = {"edge": edge, "cycles": cycles, "catapult": thrown, "flow": flows, "products": products}
    table = pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)
    verdict = judge(places)
    numbers = {
        "places": {TITLES[name]: vars(place) for name, place in places.items()},
        "mean_number_above_1.5/η_of_descent": mean_above(edge),
        "self_stabilisation": self_stabilisation(cycles, predicted),
        "catapults": summary_of(thrown),
        "central_flow": errors_of(flows),
        "products_per_record": products.groupby("k")[["warm", "cold"]].mean().to_dict("index"),
    }
    return Finding(draw(edge, places, thrown, flows, predicted, products), table, CLAIM, verdict, numbers)


def experiment_of(base: sl.Experiment, name: str, size: Preset) -> sl.Experiment:
    """The runs of one optimizer; of descent with all eigenvalues above 1.5/η."""
    more = ("above_threshold_top10",) if name == "sgd" and size.width > PRESETS["smoke"].width else ()
    run = {"optimizer": name, "learning_rates": (RATES[name],), "observables": base.observables + more}
    return replace(base, **run, steps=size.steps, records=size.records)


def relative(records: sl.Records) -> pd.DataFrame:
    """The sharpness of each run over its optimizer's threshold, `ratio`."""
    table = records.curves.merge(records.runs[["run_id", "optimizer"]], on="run_id")
    edges = {name: threshold_of(name, "sharpness") for name in table["optimizer"].unique()}
    pairs = zip(table["optimizer"], table["learning_rate"], strict=True)
    ratio = table["sharpness"] / [edges[name](rate) for name, rate in pairs]
    kept = ["optimizer", "learning_rate", "seed", "step", "train_loss"]
    return table[[*kept, *table.columns.intersection(["above_threshold_count"])]].assign(ratio=ratio)


def place_of(runs: pd.DataFrame) -> Measured:
    """The place of one optimizer, by the rule in the docstring of this module."""
    late = runs[runs["step"] > runs["step"].max() / 2]
    places = late.groupby("seed")["ratio"].apply(lambda values: values.mean(skipna=False))
    if places.isna().any():
        return Measured(float(places.mean()), *OPEN)
    value, (low, high) = mean_interval(places.to_numpy(), 0.95)
    return Measured(value, low, high)


def judge(places: Mapping[str, Measured]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    off = [(place.low - 1, place.high - 1) for place in places.values()]
    if any(lies_outside(interval, TOLERANCE) for interval in off):
        return "fails"
    return "holds" if all(lies_within(interval, TOLERANCE) for interval in off) else "inconclusive"


def mean_above(edge: pd.DataFrame) -> float:
    """The mean number of eigenvalues above 1.5/η over the second half of descent."""
    if "above_threshold_count" not in edge:
        return np.nan
    late = edge[(edge["optimizer"] == "sgd") & (edge["step"] > edge["step"].max() / 2)]
    return float(late["above_threshold_count"].mean())


def cycles_of(curves: pd.DataFrame) -> pd.DataFrame:
    """The crossing, time above and period of each run of descent at its iterates."""
    rows = []
    for (rate, seed), run in curves.groupby(["learning_rate", "seed"]):
        found = edge_cycles(run["step"], run["sharpness"], 2 / rate)
        rows.append({"learning_rate": rate, "seed": seed} | found._asdict())
    return pd.DataFrame(rows)


def catapults(curves: pd.DataFrame) -> pd.DataFrame:
    """Each run's c = η λ₀/2, its highest loss over the first, whether it survives, and η λ/2 late."""
    rows = []
    for (rate, seed), run in curves.sort_values("step").groupby(["learning_rate", "seed"]):
        loss, ratio = run["train_loss"].to_numpy(), run["sharpness"].to_numpy() * rate / 2
        survives = bool(np.isfinite(loss).all() and loss[-1] < loss[0])
        late = ratio[-LATE:].mean() if survives else np.nan
        row = {"learning_rate": rate, "seed": seed, "multiple": ratio[0], "peak": np.nanmax(loss) / loss[0]}
        rows.append(row | {"survives": survives, "late": late, "last_loss": loss[-1]})
    return pd.DataFrame(rows)


def summary_of(thrown: pd.DataFrame) -> dict[str, Any]:
    """The numbers of the catapults: between which c survival ends, and where those that survive settle."""
    alive = thrown[thrown["survives"]]
    above = alive[alive["multiple"] > 1]
    return {
        "largest_c_that_survives": alive["multiple"].max(),
        "smallest_c_that_does_not": thrown[~thrown["survives"]]["multiple"].min(),
        "highest_loss_over_the_first_of_survivors": alive["peak"].max(),
        "late_sharpness_over_2/η_of_survivors_above_c_1": [above["late"].min(), above["late"].max()],
    }


FLOWS: Mapping[str, tuple[str, str, str]] = {  # its label, colour and style
    "flow_average_loss": ("central flow", "black", "-"),
    "flow_loss": ("without ½⟨Σ, H⟩", "#e08214", "--"),
    "gradient_loss": ("gradient flow", "0.5", ":"),
}


def errors_of(flows: pd.DataFrame) -> dict[str, Any]:
    """Mean relative errors of the averaged loss after the crossing, and how far weights are off in units of the way."""
    late = past_crossing(flows).dropna(subset="averaged_loss")
    of_loss = {
        "central_flow": "flow_average_loss",
        "central_flow_without_its_oscillation": "flow_loss",
        "gradient_flow": "gradient_loss",
    }
    return {
        "relative_error_of_loss": {
            name: ((late[column] - late["averaged_loss"]).abs() / late["averaged_loss"]).mean()
            for name, column in of_loss.items()
        },
        "distance_of_weights_over_way": {
            name: (late[f"{name}_distance"] / late["moved"]).mean() for name in ("flow", "gradient")
        },
        "most_eigenvalues_followed": int(flows["followed"].max()),
    }


def self_stabilisation(cycles: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, Any]:
    """Medians over seeds of crossing, steps above and period, at iterates and half-way; × η in units of time."""
    names = ["crossing", "above", "period"]
    by_rate = {
        f"iterates, η = {rate:g}": run[names].median().to_dict() | {"returned": float(np.isfinite(run["above"]).mean())}
        for rate, run in cycles.groupby("learning_rate")
    }
    rate = FASTER
    halfway = {
        f"half-way, η = {rate:g}, seed {row['seed']}": {
            "crossing": row["crossing"],
            "steps_above": row["above"],
            "time_above": row["above"] * rate,
            "steps_above_predicted": row["predicted"],
            "period": row["period"],
        }
        for row in predicted.to_dict("records")
    }
    return by_rate | halfway


def draw(
    edge: pd.DataFrame,
    places: Mapping[str, Measured],
    thrown: pd.DataFrame,
    flows: pd.DataFrame,
    predicted: pd.DataFrame,
    products: pd.DataFrame,
) -> Figure:
    """The figure: optimizers above; self-stabilisation, catapults, flows and products below."""
    with house_style():
        figure, axes = plt.subplots(2, 4, figsize=(13, 6.2))
        for ax, name in zip(axes[0], RATES, strict=True):
            if name in places:
                draw_edge(ax, edge[edge["optimizer"] == name], name, places[name])
        axes[0, 0].set_ylabel("sharpness over threshold")
        draw_cycle(axes[1, 0], flows, predicted)
        draw_catapults(axes[1, 1], thrown)
        draw_flows(axes[1, 2], flows)
        draw_products(axes[1, 3], products)
        plt.close(figure)
    return figure


def draw_edge(ax: Axes, runs: pd.DataFrame, name: str, place: Measured) -> None:
    """The sharpness of each seed over the threshold, with the band of the rule over the second half."""
    for _, run in runs.groupby("seed"):
        ax.plot(run["step"], run["ratio"], color=COLOURS[name], linewidth=0.9, alpha=0.6)
    last = runs["step"].max()
    ax.fill_between([last / 2, last], 1 - TOLERANCE, 1 + TOLERANCE, color="0.85", zorder=0)
    draw_threshold(ax, 1.0, THRESHOLDS[name])
    ax.set_ylim(0, 1.6)
    ax.set_xlabel("step")
    ax.set_title(f"{TITLES[name]}: {place.value:.2f} [{place.low:.2f}, {place.high:.2f}]")


def draw_cycle(ax: Axes, flows: pd.DataFrame, predicted: pd.DataFrame) -> None:
    """The sharpness half-way between iterates of one seed, the central flow's, and the predicted time above."""
    seed = flows["seed"].min()
    run, row = flows[flows["seed"] == seed], predicted[predicted["seed"] == seed].iloc[0]
    ax.plot(run["step"], run["halfway"], color=COLOURS["sgd"], label="descent, half-way")
    ax.plot(run["step"], run["flow_ratio"], color="black", linewidth=1.0, label="central flow")
    ax.plot(run["step"], run["gradient_ratio"], ":", color="0.5", label="gradient flow")
    draw_threshold(ax, 1.0, "2/η")
    if np.isfinite(row["predicted"]):
        ends = (row["crossing"], row["crossing"] + row["predicted"])
        ax.plot(ends, (0.94, 0.94), color="#b2182b", linewidth=3, label="above, predicted", solid_capstyle="butt")
    ax.set_ylim(0.5, 1.5)
    ax.legend(loc="lower right")
    ax.set_xlabel(f"step after the first {SETTLED}")
    ax.set_ylabel("sharpness · η/2")
    ax.set_title(f"self-stabilisation: {row['above']:.0f} steps above,\n{row['predicted']:.0f} predicted")


def draw_catapults(ax: Axes, thrown: pd.DataFrame) -> None:
    """Where descent ends against where it begins, in units of 2/η; crosses: it does not survive."""
    alive, dead = thrown[thrown["survives"]], thrown[~thrown["survives"]]
    ax.plot(alive["multiple"], alive["late"], "o", color=COLOURS["sgd"], markersize=4, label="η λ/2, late")
    ax.plot(alive["multiple"], alive["peak"], "^", color="#e08214", markersize=4, label="highest loss over first")
    ax.plot(dead["multiple"], np.full(len(dead), 0.2), "x", color="#b2182b", markersize=5, label="does not survive")
    draw_threshold(ax, 1.0, "")
    ax.set_ylim(0, max(1.6, 1.1 * alive["peak"].max()))
    ax.legend()
    ax.set_xlabel("c = η λ₀/2 at the start")
    ax.set_title(f"catapults: survives up to c = {alive['multiple'].max():.1f}")


def draw_flows(ax: Axes, flows: pd.DataFrame) -> None:
    """How far the losses of the flows are from descent's averaged one, each seed thin."""
    for _, run in flows.groupby("seed"):
        for column, (_, colour, style) in FLOWS.items():
            off = 100 * (run[column] / run["averaged_loss"] - 1)
            ax.plot(run["step"], off, style, color=colour, linewidth=1.1)
    errors = errors_of(flows)["relative_error_of_loss"]
    for (label, colour, style), error in zip(FLOWS.values(), errors.values(), strict=True):
        ax.plot([], [], style, color=colour, label=f"{label}: {error:.1%} off")
    draw_threshold(ax, 0.0, "")  # descent itself
    late = flows[flows["step"] > flows["step"].max() / 4]
    ends = [(100 * (late[column] / late["averaged_loss"] - 1)) for column in FLOWS]
    low, high = min(each.min() for each in ends), max(each.max() for each in ends)
    if np.isfinite([low, high]).all():
        ax.set_ylim(1.2 * min(low, -1), 2 * max(high, 1))
    ax.legend(loc="upper right")
    ax.set_xlabel(f"step after the first {SETTLED}")
    ax.set_ylabel("loss over descent's average, less 1 (%)")
    ax.set_title("the central flow against descent")


def draw_products(ax: Axes, products: pd.DataFrame) -> None:
    """Products of each record, warm against cold."""
    means = products.groupby("k")[["warm", "cold"]].mean()
    for k, colour in zip(SEVERAL, ("#2166ac", "#e08214"), strict=True):
        run = products[(products["k"] == k) & (products["seed"] == products["seed"].min())]
        ax.plot(run["step"], run["cold"], ":", color=colour, label=f"{k} largest, cold: {means.loc[k, 'cold']:.1f}")
        ax.plot(run["step"], run["warm"], color=colour, label=f"{k} largest, tracked: {means.loc[k, 'warm']:.1f}")
    ax.set_ylim(0, 1.5 * products[["warm", "cold"]].to_numpy().max())
    ax.legend(loc="upper right")
    ax.set_xlabel(f"step after the first {SETTLED}")
    ax.set_ylabel("Hessian products per record")
    one, several = (means.loc[k, "cold"] / means.loc[k, "warm"] for k in SEVERAL)
    ax.set_title(f"a tracked record is {one:.1f} and {several:.1f} times\nas cheap as a cold one, audits included")
