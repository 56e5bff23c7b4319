"""Refined schedules: are they as good as linear, does theory order schedules, and do they serve wider networks?

Paper: Defazio et al., arXiv 2310.07831, who refine a schedule from the gradient norms of an earlier run by the bound on
the loss of the last point, and find it better than linear decay where the norms change along the run. Here (quick): the
ConvNet of the figure `transfer` on 8,192 images of Fashion-MNIST, SGD under muP, widths 16 and 64, 256 steps of batch
128, six seeds, final train loss; peak learning rates as in the figure `schedules`, each schedule at its own best, that
of a seed's run chosen on the other seeds.

Norms are those of the gradients that the steps are made of (l2, in the metric of muP's learning-rate factors), of three
runs of other seeds at the best peak, smoothed by a running median over a tenth of the run. The first round is trained
under linear decay, the second under the schedule that the first suggests.

Upper left: what is refined at either width. Upper right: losses over those of linear. Lower left: the bound of arXiv
2310.07831 for each schedule at its best multiple, with the norms of the first round, before any of the other schedules
was trained, against the loss measured at width 16. Lower right: the norms.

Rule of the verdict, on three questions: (1) refining twice is as good as linear at the smaller width: yes if its loss
exceeds linear's by at most 1 %, no if by more; (2) the bound orders the schedules: yes if Kendall's τ between bound and
measured loss is above 0, no if it is not; (3) the schedule refined at the smaller width serves at the larger: yes if
its loss there exceeds that of the schedule refined at the larger by at most 2 %, no if by more. Each with its 95 %
interval: (1) and (3) Student's over seeds of the logarithm, (2) by drawing seeds with replacement. "holds" if all three
are yes, "fails" if one is no, else "inconclusive".

Cost: about four minutes on two cores. Expected: norms that rise late in training, hence schedules that fall faster than
linear; (3) yes, since muP's norms are alike at both widths. Found at quick: norms that rise threefold within the first
steps, since muP's readout begins small. The weights ‖g‖^−2 take these steps for the safest, so that the schedule has
its peak there and a low plateau: a quarter worse than linear. The bound orders the six schedules that are not refined
well; to the one that is made for it, it promises most, and that comes out last but one. Found at full, with twice the
steps, twelve seeds and widths 32 and 128: both are worse than linear at the larger width, by 49 % and 63 %, what is
carried over by 10 % [8, 12] more than what is refined there; at the smaller one the loss of linear at its chosen peak
varies too much from seed to seed for an answer. The bound does not order the schedules any more once the refined ones
are among them, a τ of 0.07 [−0.07, 0.29], and 0.47 [0.07, 0.87] without.

    make figure-refined
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from schedules import COLOURS, CONVNET, LONGER, NAMED, OF_NORMS, best_rate, judge, stated, wanted, within
from scipy.stats import kendalltau

import sharplab as sl
from sharplab.core.evidence import measured
from sharplab.core.statistics import Interval
from sharplab.gallery.finding import Finding
from sharplab.plotting import house_style, size_colours
from sharplab.schedules import find_schedule
from sharplab.studies.refining import gradient_norms, mean_norms, norm_of, refined_name
from sharplab.studies.tournament import chosen_losses, rank_schedules

CLAIM = (
    "A schedule refined from gradient norms is as good as linear decay, the bound it comes from orders schedules as "
    "they are measured, and under muP what is refined at one width serves at four times that."
)
AS_GOOD, SERVES = 0.01, 0.02  # margins of the loss
ROUNDS = ("refined once", "refined twice")
DRAWS = 2000  # of seeds
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(
        CONVNET,
        model="mlp",
        widths=(8, 32),
        base_width=8,
        learning_rates=(0.5, 1.0),
        seeds=3,
        steps=16,
        probe_size=64,
        data="gaussian-clusters",
        refine=False,
    ),
    "quick": replace(CONVNET, widths=(16, 64), seeds=6),
    "full": replace(CONVNET, widths=(32, 128), steps=512, **LONGER),
    "paper": replace(CONVNET, widths=(128, 512), data="cifar-10", steps=19_550, **LONGER),
}


@dataclass(frozen=True)
class Refined:
    """What refining gave at one width.

    Attributes:
        names: of the schedules after each round.
        norms: of the runs of each round.
        runs: by the name of the schedule.
    """

    names: tuple[str, ...]
    norms: tuple[pd.DataFrame, ...]
    runs: Mapping[str, pd.DataFrame]


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    experiment = PRESETS[preset]
    narrow, wide = experiment.widths
    refined = {width: refine_at(replace(experiment, widths=width), store) for width in (narrow, wide)}
    small = {name: _runs(replace(experiment, widths=narrow, schedule=text), store) for name, text in NAMED.items()}
    small |= dict(zip(ROUNDS, (refined[narrow].runs[name] for name in refined[narrow].names), strict=True))
    carried = _runs(replace(experiment, widths=wide, schedule=refined[narrow].names[-1]), store)
    large = {
        "linear": refined[wide].runs["linear"],
        f"refined at {narrow}": carried,
        f"refined at {wide}": refined[wide].runs[refined[wide].names[-1]],
    }
    at_narrow, at_wide = (chosen_losses(_labelled(runs), cells=["width"]) for runs in (small, large))
    near = rank_schedules(
        _labelled({name: small[name] for name in ("linear", "cosine", *ROUNDS)}), cells=["width"]
    ).losses
    far = rank_schedules(_labelled(large), cells=["width"]).losses
    norm = norm_of(experiment.optimizer)
    order = bounds_of(
        {**NAMED, **dict(zip(ROUNDS, refined[narrow].names, strict=True))},
        mean_norms(refined[narrow].norms[0], norm=norm),
    )
    tau, interval = agreement(order, at_narrow)
    named = agreement({name: order[name] for name in NAMED}, at_narrow)
    carried_over_own = far.loc[(f"refined at {narrow}", f"refined at {wide}")]
    seeds = int(at_narrow["seed"].nunique())
    answers = answer(near.loc[(ROUNDS[-1], "linear")], interval, carried_over_own)
    over = {
        f"width {narrow}": near.xs("linear", level="second"),
        f"width {wide}": far.xs("linear", level="second"),
    }
    return Finding(
        draw(refined, over, order, at_narrow, (tau, interval), norm, answers),
        pd.concat([at_narrow, at_wide], ignore_index=True).rename(columns={"learning_rate": "peak"}),
        CLAIM,
        judge(answers),
        {
            "answers": answers,
            "log_loss_over_linear": {where: stated(table) for where, table in over.items()},
            "kendall_tau_of_bound_and_loss": {"tau": tau, "interval": interval},
            "kendall_tau_without_refined": dict(zip(("tau", "interval"), named, strict=True)),
            "log_loss_carried_over_own": stated(carried_over_own.to_frame().T)[", ".join(carried_over_own.name)],
            "least_bound": order,
            "seeds": seeds,
            "seeds_wanted": {
                "refined is as good as linear": wanted(near.loc[[(ROUNDS[-1], "linear")]], np.log1p(AS_GOOD), seeds),
                "it serves wider networks": wanted(carried_over_own.to_frame().T, np.log1p(SERVES), seeds),
            },
        },
    )


def refine_at(experiment: sl.Experiment, store: Path) -> Refined:
    """Two rounds of refining at one width, each from norms at the best peak of the schedule before."""
    runs = {"linear": _runs(replace(experiment, schedule="linear"), store)}
    norms, name = [], "linear"
    for i in range(len(ROUNDS)):
        trained = replace(experiment, schedule=name, learning_rates=best_rate(runs[name]), seeds=OF_NORMS, refine=False)
        norms.append(measured(f"norms_{experiment.widths[0]}_{i}", lambda trained=trained: gradient_norms(trained)))
        name = refined_name(norms[-1], norm=norm_of(experiment.optimizer))
        runs[name] = _runs(replace(experiment, schedule=name), store)
    return Refined(tuple(runs)[1:], tuple(norms), runs)


def _runs(experiment: sl.Experiment, store: Path) -> pd.DataFrame:
    return sl.run(experiment, store).runs


def _labelled(runs: Mapping[str, pd.DataFrame]) -> sl.Records:
    return sl.Records(pd.concat([table.assign(schedule=name) for name, table in runs.items()], ignore_index=True))


def bounds_of(schedules: Mapping[str, str], norms: np.ndarray) -> dict[str, float]:
    """The last-iterate bound of each schedule at its best multiple, over that of linear decay."""
    steps = len(norms)
    found = {}
    for name, text in schedules.items():
        schedule = find_schedule(text, steps)
        rates = np.ones(steps) if schedule is None else np.array([float(schedule(step)) for step in range(steps)])
        found[name] = sl.theory.last_iterate_bound(rates, gradient_norms=norms).best_bound
    return {name: bound / found["linear"] for name, bound in found.items()}


def agreement(order: Mapping[str, float], losses: pd.DataFrame) -> tuple[float, Interval]:
    """Kendall's τ between bounds and mean log losses, and its interval over seeds drawn with replacement."""
    logs = np.log(losses.pivot(index="seed", columns="schedule", values="loss")[list(order)].to_numpy())
    bounds = list(order.values())
    drawn = np.random.default_rng(0).integers(len(logs), size=(DRAWS, len(logs)))
    taus = [kendalltau(bounds, logs[rows].mean(axis=0)).statistic for rows in drawn]
    low, high = np.quantile(taus, [0.025, 0.975])
    return float(kendalltau(bounds, logs.mean(axis=0)).statistic), (float(low), float(high))


def answer(twice: pd.Series, tau: Interval, carried: pd.Series) -> dict[str, str]:
    """The answers "yes", "no" or "open" to the three questions of the rule."""
    return {
        "refined is as good as linear": within(twice["low"], twice["high"], np.log1p(AS_GOOD)),
        "the bound orders schedules": "yes" if tau[0] > 0 else "no" if tau[1] <= 0 else "open",
        "it serves wider networks": within(carried["low"], carried["high"], np.log1p(SERVES)),
    }


def draw(
    refined: Mapping[int, Refined],
    over: Mapping[str, pd.DataFrame],
    order: Mapping[str, float],
    losses: pd.DataFrame,
    tau: tuple[float, Interval],
    norm: str,
    answers: Mapping[str, str],
) -> Figure:
    """The figure: shapes, losses over linear's, bounds against losses, and norms."""
    colours = size_colours(list(refined))
    with house_style():
        figure, axes = plt.subplots(2, 2, figsize=(9.4, 7.0))
        for width, one in refined.items():
            steps = len(mean_norms(one.norms[0], norm=norm))
            for name, label, line, norms in zip(one.names, ROUNDS, ("--", "-"), one.norms, strict=True):
                schedule = find_schedule(name, steps)
                past = np.arange(steps + 1) / steps
                shape = [float(schedule(step)) for step in range(steps + 1)]
                axes[0, 0].plot(past, shape, line, color=colours[width], label=f"{label}, width {width}")
                smooth = pd.Series(mean_norms(norms, norm=norm)).rolling(max(steps // 20, 1), center=True).median()
                of_round = "under linear" if line == "--" else "under refined once"
                axes[1, 1].plot(past[:-1], smooth, line, color=colours[width], label=f"width {width}, {of_round}")
        axes[0, 0].plot([0, 1], [1, 0], ":", color="0.25", label="linear")
        axes[0, 0].set_ylabel("learning rate over its peak")
        axes[1, 1].set_ylabel("gradient norm of batches (running median)")
        axes[1, 1].set_ylim(bottom=0)
        for ax in (axes[0, 0], axes[1, 1]):
            ax.set_xlabel("share of the run")
            ax.legend(loc="best")
        draw_over(axes[0, 1], over)
        draw_order(axes[1, 0], order, losses, tau)
        figure.suptitle("; ".join(f"{question}: {said}" for question, said in answers.items()), fontsize=10)
        plt.close(figure)
    return figure


def draw_over(ax: Axes, over: Mapping[str, pd.DataFrame]) -> None:
    """Losses over those of linear decay, with their intervals."""
    rows = [(f"{name}\n{where}", row) for where, table in over.items() for name, row in table.iterrows()]
    for at, (_, row) in enumerate(rows):
        value, low, high = (100 * np.expm1(row[name]) for name in ("log_ratio", "low", "high"))
        ax.plot([low, high], [at, at], color="#2166ac", linewidth=1.8)
        ax.plot([value], [at], "o", color="#2166ac", markersize=5)
    ax.axvline(0, color="0.25", linestyle=":", linewidth=1)
    ax.axvline(100 * AS_GOOD, color="0.25", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(rows)), [label for label, _ in rows])
    ax.invert_yaxis()
    ax.set_xlabel("loss over that of linear (%)")


def draw_order(ax: Axes, order: Mapping[str, float], losses: pd.DataFrame, tau: tuple[float, Interval]) -> None:
    """The loss of each schedule, with its standard error, against its bound."""
    logs = np.log(losses.pivot(index="seed", columns="schedule", values="loss"))
    for name, bound in sorted(order.items(), key=lambda item: item[1]):
        mean, error = np.exp(logs[name].mean()), logs[name].sem()
        colour, marker = COLOURS.get(name, "#1b7837"), "s" if name == ROUNDS[-1] else "o"
        ax.errorbar([bound], [mean], [mean * error], fmt=marker, color=colour, markersize=5, label=name)
    value, (low, high) = tau
    ax.set_title(f"Kendall's τ = {value:+.2f} [{low:+.2f}, {high:+.2f}]")
    ax.margins(x=0.15)
    ax.legend(loc="upper right", fontsize=8)
    ax.set_xlabel("least bound over that of linear")
    ax.set_ylabel("train loss")
