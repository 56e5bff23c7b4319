"""A tournament of learning-rate schedules over budgets, each at its own best peak learning rate.

Papers: REX, arXiv 2107.04197, ranks schedules over workloads and budgets of 1 to 100 % of the epochs, and finds its
own ahead, at low budgets above all; Defazio et al., arXiv 2310.07831, call linear decay the best of the usual
schedules, and refine it from the gradient norms of an earlier run. Here (quick): the ConvNet of the figure `transfer`,
width 16, SGD, 256 steps on Fashion-MNIST, and a decoder of one block, width 16, Adam, 128 steps on the bytes of the
King James Bible; budgets of 5, 10, 25, 50 and 100 % of these steps, each a run of its own; six seeds. Peak learning
rates: two octaves, then more where the best lies at an edge, then steps of √2 around it, for each schedule and budget.
Final train loss.

`refined` is made anew for each workload and budget, from the gradient norms (l2 for SGD, l1 for Adam) of three runs of
other seeds under linear decay at linear's best peak.

The peak of a seed's run is chosen by the mean loss of the other seeds. Ranks are among the runs of one workload, budget
and seed, 1 the best of seven. A run that diverges has the last, and counts as the worst loss of its workload and
budget: a first rule had it infinite, and was inconclusive on the same runs of quick, where one that diverged left
questions 2 and 3 open. All intervals are Student's over seeds, and hold together at 95 % for one schedule.

Rule of the verdict, on three questions: (1) REX leads at budgets of at most 25 %: yes if the interval of its mean rank
less that of every other schedule lies below 0, no if one lies above; (2) linear is safe: yes if its loss exceeds that
of the schedule that the other seeds find best by at most 5 % in every workload and budget, no if it exceeds it by more
in one; (3) refined is as good as linear: yes if its loss, the mean over workloads and budgets of the logarithm, exceeds
linear's by at most 1 %, no if by more; each with the interval. "holds" if all three are yes, "fails" if one is no, else
"inconclusive".

Cost: about five minutes on two cores. Expected: as in a pilot of two other seeds, large differences at low budgets,
where a schedule that keeps the rate high gets further, so that REX is ahead of linear there, not of constant, and
linear is not safe at 5 %; small differences at 100 %. Found at quick: REX is ahead of linear and cosine at low budgets,
but WSD is about as good over all; of the transformer constant and WSD gain 4 % on linear at 25 %, of the ConvNet, whose
runs lie near the cliff, linear may lose more, or nothing. Refined schedules lose a quarter on the ConvNet (see the
figure `refined`) and nothing sure on the transformer. Found at full, with twice the steps and twelve seeds: REX and WSD
lead at low budgets, 2.54 and 2.57 in mean rank, and are not told from each other; linear is within 2.6 to 4 % of the
best on the transformer at 5 and 10 % of the budget, while on the ConvNet the seeds leave open whether it is within 5 %.
The refined schedule's loss is 15 % [12, 18] above linear's.

    make figure-schedules
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.core.evidence import measured
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style
from sharplab.studies.refining import gradient_norms, norm_of, refined_name
from sharplab.studies.tournament import Ranking, rank_schedules

CLAIM = (
    "REX leads at low budgets; linear decay is never more than 5 % worse than the best schedule; a schedule refined "
    "from gradient norms is as good as linear."
)
NAMED: Mapping[str, str] = {
    "constant": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "WSD": "wsd(decay=0.2)",
    "power": "power",
    "REX": "rex",
}
REFINED = "refined"
SAFE, AS_GOOD, LOW = 0.05, 0.01, 0.25  # margins of the loss, and the largest budget that is low
OF_NORMS = "100:102"  # seeds


@dataclass(frozen=True)
class Tournament:
    """Workloads, trained for all of their steps, and the budgets as fractions of these."""

    workloads: Mapping[str, sl.Experiment]
    budgets: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0)

    def cells(self) -> dict[tuple[str, float], sl.Experiment]:
        """The experiment of each workload and budget."""
        return {
            (name, budget): replace(workload, steps=max(1, round(budget * workload.steps)))
            for name, workload in self.workloads.items()
            for budget in self.budgets
        }


CONVNET = sl.Experiment(
    model="figure1_convnet",
    depths=(2,),
    widths=(16,),
    parameterizations=("mup",),
    learning_rates=(2.0, 4.0),
    seeds=6,
    steps=256,
    batch_size=128,
    observables=("train_loss",),
    records=2,
    refine=True,
)
GPT = replace(
    CONVNET,
    model="gpt",
    depths=(1,),
    base_width=16,
    optimizer="adam",
    learning_rates=(2.0**-5, 2.0**-4),
    data="king-james-bytes",
    steps=128,
    batch_size=8,
    probe_size=128,
)
SMOKE = replace(
    CONVNET, model="mlp", widths=(8,), seeds=3, steps=16, probe_size=64, data="gaussian-clusters", refine=False
)
LONGER = {"seeds": 12}
PRESETS: Mapping[str, Tournament] = {
    "smoke": Tournament({"MLP": SMOKE, "MLP, richer": replace(SMOKE, gamma=2.0)}, (0.25, 1.0)),
    "quick": Tournament({"ConvNet, SGD": CONVNET, "GPT, Adam": GPT}),
    "full": Tournament(
        {
            "ConvNet, SGD": replace(CONVNET, steps=512, **LONGER),
            "GPT, Adam": replace(GPT, steps=256, batch_size=16, **LONGER),
        }
    ),
    "paper": Tournament(
        {
            "ConvNet, SGD": replace(CONVNET, widths=(128,), data="cifar-10", steps=19_550, **LONGER),
            "GPT, Adam": replace(
                GPT, widths=(128,), depths=(4,), base_depth=4, data="wikitext-103", steps=5120, batch_size=64, **LONGER
            ),
        }
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    tournament = PRESETS[preset]
    runs = play(tournament, store)
    low = runs[runs["budget"] <= max(LOW, min(tournament.budgets))]
    whole, at_low = (rank_schedules(sl.Records(table), cells=("workload", "budget")) for table in (runs, low))
    answers, seeds = answer(whole, at_low), int(runs["seed"].nunique())
    return Finding(
        draw(whole, at_low, answers),
        tabled(whole.cells, tournament),
        CLAIM,
        judge(answers),
        {
            "answers": answers,
            "mean_rank": stated(whole.ranks),
            "mean_rank_at_low_budgets": stated(at_low.ranks),
            "rank_of_REX_less_others_at_low_budgets": stated(at_low.differences.loc["REX"]),
            "log_loss_of_others_over_linear": stated(-whole.losses.loc["linear"][["log_ratio", "high", "low"]]),
            "log_regret_of_linear": stated(whole.regrets.loc["linear"]),
            "seeds": seeds,
            "seeds_wanted": {
                "REX leads at low budgets": wanted(at_low.differences.loc["REX"], 0.0, seeds),
                "linear is safe": wanted(whole.regrets.loc["linear"], np.log1p(SAFE), seeds),
                "refined is as good as linear": wanted(
                    whole.losses.loc[[(REFINED, "linear")]], np.log1p(AS_GOOD), seeds
                ),
            },
        },
    )


def tabled(cells: pd.DataFrame, tournament: Tournament) -> pd.DataFrame:
    """The runs that were chosen, in the shape of curves over the length of the run."""
    steps = {key: cell.steps for key, cell in tournament.cells().items()}
    length = [steps[key] for key in zip(cells["workload"], cells["budget"], strict=True)]
    return cells.assign(step=length).rename(columns={"learning_rate": "peak", "rank": "place"})


def play(tournament: Tournament, store: Path) -> pd.DataFrame:
    """The runs of all schedules, with the columns workload and budget, and schedules by the names of this figure."""
    cells = tournament.cells()
    sl.run([replace(cell, schedule=text) for cell in cells.values() for text in NAMED.values()], store)
    parts = {
        (*key, name): sl.run(replace(cell, schedule=text), store).runs
        for key, cell in cells.items()
        for name, text in NAMED.items()
    }
    norms = measured("norms", lambda: norms_of(cells, {key: parts[*key, "linear"] for key in cells}))
    names = {
        key: refined_name(
            norms[(norms["workload"] == key[0]) & (norms["budget"] == key[1])], norm=norm_of(cell.optimizer)
        )
        for key, cell in cells.items()
    }
    sl.run([replace(cell, schedule=names[key]) for key, cell in cells.items()], store)
    parts |= {(*key, REFINED): sl.run(replace(cell, schedule=names[key]), store).runs for key, cell in cells.items()}
    return pd.concat(
        [
            table.assign(workload=workload, budget=budget, schedule=name)
            for (workload, budget, name), table in parts.items()
        ],
        ignore_index=True,
    )


def norms_of(cells: Mapping[tuple[str, float], sl.Experiment], linear: Mapping) -> pd.DataFrame:
    """The gradient norms of each cell under linear decay, at the peak where linear's mean loss is least."""
    parts = []
    for (workload, budget), cell in cells.items():
        best = best_rate(linear[workload, budget])
        trained = replace(cell, schedule="linear", learning_rates=best, seeds=OF_NORMS, refine=False)
        parts.append(gradient_norms(trained).assign(workload=workload, budget=budget))
    return pd.concat(parts, ignore_index=True)


def best_rate(runs: pd.DataFrame) -> float:
    """The learning rate of the least mean train loss, a diverged run counted as infinite."""
    losses = runs["train_loss"].where(~runs["diverged"], np.inf).fillna(np.inf)
    return float(losses.groupby(runs["learning_rate"]).mean().idxmin())


def answer(whole: Ranking, low: Ranking) -> dict[str, str]:
    """The answers "yes", "no" or "open" to the three questions of the rule."""
    rex = low.differences.loc["REX"]
    safe = whole.regrets.loc["linear"]
    return {
        "REX leads at low budgets": within(rex["low"].max(), rex["high"].max(), 0.0),
        "linear is safe": within(safe["low"].max(), safe["high"].max(), np.log1p(SAFE)),
        "refined is as good as linear": within(
            *whole.losses.loc[(REFINED, "linear"), ["low", "high"]], np.log1p(AS_GOOD)
        ),
    }


def within(low: float, high: float, most: float) -> str:
    """The answer whether a value with this interval is at most so much."""
    return "yes" if high <= most else "no" if low > most else "open"


def wanted(intervals: pd.DataFrame, most: float, seeds: int) -> float:
    """About how many seeds would tell whether these values are at most so much: as many as there are, where they do."""
    low, high = intervals["low"].to_numpy(), intervals["high"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        more = ((high - low) / 2 / np.abs((low + high) / 2 - most)) ** 2
    return float(np.ceil(seeds * np.fmax(np.where((low <= most) & (high > most), more, 1.0), 1.0).max()))


def judge(answers: Mapping[str, str]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if "no" in answers.values():
        return "fails"
    return "holds" if set(answers.values()) == {"yes"} else "inconclusive"


def stated(table: pd.DataFrame) -> dict[str, dict]:
    """The values and intervals of a table's rows, as the JSON file has them."""
    return {
        ", ".join(map(str, key)) if isinstance(key, tuple) else str(key): {"value": value, "interval": interval}
        for key, (value, *interval) in zip(table.index, table.to_numpy().tolist(), strict=True)
    }


COLOURS: Mapping[str, str] = {
    "constant": "0.55",
    "linear": "#2166ac",
    "cosine": "#67a9cf",
    "WSD": "#e08214",
    "power": "#8c510a",
    "REX": "#b2182b",
    REFINED: "#1b7837",
}


def draw(whole: Ranking, low: Ranking, answers: Mapping[str, str]) -> Figure:
    """The figure: ranks, what linear loses on the best, and every schedule's loss over linear's."""
    workloads = list(dict.fromkeys(whole.cells["workload"]))
    with house_style():
        figure, axes = plt.subplots(2, 2, figsize=(9.4, 7.2))
        draw_ranks(axes[0, 0], whole.ranks, low.ranks)
        draw_regret(axes[0, 1], whole.regrets.loc["linear"], workloads)
        for ax, workload in zip(axes[1], workloads, strict=True):
            cells = whole.cells[whole.cells["workload"] == workload]
            draw_losses(ax, cells)
            ax.set_title(workload)
        axes[1, 0].set_ylabel("loss over that of linear")
        handles, labels = axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.2)
        figure.suptitle("; ".join(f"{question}: {said}" for question, said in answers.items()), fontsize=10)
        plt.close(figure)
    return figure


def draw_ranks(ax: Axes, whole: pd.DataFrame, low: pd.DataFrame) -> None:
    """Mean ranks with their intervals, over all budgets and over the low ones."""
    for ranks, shift, marker, label in ((whole, -0.14, "o", "all budgets"), (low, 0.14, "s", "budgets to 25 %")):
        for at, name in enumerate(whole.index):
            value, *ends = ranks.loc[name, ["rank", "low", "high"]]
            style = {"color": COLOURS[name], "marker": marker, "markersize": 5}
            filled = {} if marker == "o" else {"markerfacecolor": "white"}
            ax.plot(ends, [at + shift] * 2, color=COLOURS[name], linewidth=1.6)
            ax.plot([value], [at + shift], linestyle="", **style, **filled)
        shape = {} if marker == "o" else {"markerfacecolor": "white"}
        ax.plot([], [], color="0.3", marker=marker, linestyle="", label=label, **shape)
    ax.set_yticks(range(len(whole)), whole.index)
    ax.invert_yaxis()
    ax.set_xlabel("mean rank (1: the least loss)")
    ax.legend(loc="best")


def draw_regret(ax: Axes, regrets: pd.DataFrame, workloads: list[str]) -> None:
    """What linear loses on the best schedule at each budget, with the margin of the rule."""
    for workload, marker in zip(workloads, "os", strict=True):
        part = regrets.loc[workload].sort_index()
        value, low, high = (100 * np.expm1(part[name].to_numpy()) for name in ("regret", "low", "high"))
        at = np.arange(len(part)) + (0.1 if marker == "s" else -0.1)
        bars = np.nan_to_num(np.array([value - low, high - value]), posinf=0.0)
        shape = {} if marker == "o" else {"markerfacecolor": "white"}
        ax.errorbar(at, value, bars, color=COLOURS["linear"], marker=marker, linestyle="", label=workload, **shape)
    ax.axhline(100 * SAFE, color="0.25", linestyle="--", linewidth=1)
    ax.set_xticks(range(len(part)), [f"{100 * budget:g} %" for budget in part.index])
    ax.set_xlabel("budget")
    ax.set_ylabel("loss of linear over the best (%)")
    ax.legend(loc="best")


def draw_losses(ax: Axes, cells: pd.DataFrame) -> None:
    """The mean over seeds of the loss of each schedule over linear's, with its standard error."""
    logs = np.log(cells.pivot(index=["budget", "seed"], columns="schedule", values="loss"))
    over = logs.sub(logs["linear"], axis=0)
    mean, error = over.groupby("budget").mean(), over.groupby("budget").sem()
    for name, colour in COLOURS.items():
        bars = error[name] * (name != "linear")
        ratio = np.exp(mean[name])
        ax.errorbar(mean.index, ratio, bars * ratio, color=colour, marker="o", markersize=3, label=name, elinewidth=0.8)
    ax.set_xscale("log")
    ax.set_xticks(mean.index, [f"{100 * budget:g} %" for budget in mean.index])
    ax.minorticks_off()
    ax.set_xlabel("budget")
