"""The theory beside the NTK runs: wide networks train as their infinitely wide kernel, nearer the wider they are.

Paper: Jacot et al., arXiv 1806.07572, and Lee et al., arXiv 1902.06720, for the limit; Noci et al., arXiv 2402.17457,
call training under the NTK parameterization lazy for it. Here (quick): MLP with two hidden layers, squared error on
one-hot classes of 8,192 images of Fashion-MNIST, widths 32 to 1,024, 256 steps of SGD on batches of 128, at two
learning rates, a twelfth and a third of the largest at which full-batch descent of the kernel is stable.

The prediction has no free number and no network in it but for the outputs f₀ with which each run began: f ← f −
η Θ[:, batch] ∂L/∂f on all training and held-out images, with Θ the infinite width's kernel (recursion in closed form)
and the run's own batches (`sharplab.theory`).

Left: held-out loss along training, mean over seeds, and the prediction, mean over all runs. Middle: the largest
eigenvalue of the empirical NTK J Jᵀ/n on the probe images, and the kernel's, which keeps still. It is C-fold in the
limit; at finite width the C are split, and the largest lies above. Right, of each run against its width, in octaves:
(1) the gap of the loss, the mean over the records after the first of |log₂ measured − log₂ predicted|; (2) the gap of
the eigenvalue before training, |log₂ measured − log₂ of the kernel's|; (3) how far the eigenvalue then moves, |log₂ of
the last − log₂ of the first|, where the kernel's stays.

Rule of the verdict, on the slopes of log₂ of these three per doubling of width, at each learning rate, with 95 %
intervals (weighted least squares over the widths, noise pooled over seeds; theory says −½): "holds" if every interval
lies wholly below −¼; "fails" if one lies wholly above; else "inconclusive". A run that diverges has no gap, and makes
its interval open. The eigenvalue's gap along training is drawn but not judged: it begins above and falls, most in
narrow networks, so that at widths in between it crosses the limit. A first rule judged it in place of (2) and (3), and
was inconclusive on three seeds, for the loss's gap too; the runs here have other seeds, and more.

Cost: about three minutes on two cores. Expected: slopes from −½ to −1, and a verdict that hangs on the loss at the
larger learning rate: its gap has either sign in single runs, so that eight seeds tell the slope to ±0.3 only. The paper
preset's wider networks tell it better.

    make figure-kernel
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.sparse.linalg import eigsh

import sharplab as sl
from sharplab.analysis.trend import trend_of_means
from sharplab.core.evidence import measured
from sharplab.core.statistics import Interval
from sharplab.data import batch_indices, load_dataset
from sharplab.gallery.finding import Finding, Verdict
from sharplab.losses import LOSSES
from sharplab.plotting import draw_curves, house_style, log_ticks, size_legend
from sharplab.sweep.plan import tasks
from sharplab.theory.infinite_kernels import mlp_kernels
from sharplab.theory.kernel_flow import descend
from sharplab.training.recipe import Recipe
from sharplab.training.task import Task, find_recipe

CLAIM = (
    "Under the NTK parameterization networks follow the dynamics of their infinite-width kernel, "
    "ever closer as the width grows."
)
LEAST_FALL = 0.25  # octaves of the gap per doubling of width
QUANTITIES = ("train_loss", "eval_loss", "ntk_1")
OF_ALL = "kernel_1"  # the kernel's largest eigenvalue on all training images, over their number
GAPS: Mapping[str, str] = {
    "loss_gap": "loss",
    "eigenvalue_gap": "eigenvalue, at first",
    "eigenvalue_move": "its movement",
}
QUICK = sl.Experiment(
    model="mlp",
    depths=(2,),
    widths=(32, 64, 128, 256, 512, 1024),
    parameterizations=("ntk",),
    learning_rates=(0.25, 1.0),
    # Few of the widest, which take longest; others than those on which the rule was first tried.
    seeds={**dict.fromkeys((32, 64, 128, 256, 512), "3:10"), 1024: "3:6"},
    loss="squared_error",
    steps=256,
    batch_size=128,
    probe_size=256,
    observables=("train_loss", "eval_loss", "ntk_top1"),
    records=9,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, widths=(16, 64), seeds=2, steps=16, records=3, probe_size=64, data="gaussian-clusters"),
    "quick": QUICK,
    "full": replace(QUICK, seeds={**dict.fromkeys((32, 64, 128, 256, 512), "3:34"), 1024: "3:14"}),
    "paper": replace(QUICK, widths=tuple(2**i for i in range(5, 14)), seeds="3:10", steps=2048, records=33),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, predict each, draw the figure, and judge the claim."""
    experiment = PRESETS[preset]
    records = sl.run(experiment, store)
    predicted = measured("predicted", lambda: predict(experiment))
    keys = ["width", "learning_rate", "seed", "step"]
    curves = records.curves[[*keys, *QUANTITIES, "ntk_1_error"]].merge(
        predicted.drop(columns=OF_ALL), on=keys, suffixes=("", "_predicted"), validate="one_to_one"
    )
    gaps = gaps_of(curves)
    slopes = {(name, rate): slope_of(table, name) for rate, table in gaps.groupby("learning_rate") for name in GAPS}
    verdict = judge([interval for _, interval in slopes.values()])
    by_rate = {f"learning_rate_{rate:g}": numbers(table, slopes, rate) for rate, table in gaps.groupby("learning_rate")}
    return Finding(
        draw(curves, gaps, slopes, verdict),
        curves,
        CLAIM,
        verdict,
        {
            "largest_stable_learning_rate_of_the_kernel": 2 / predicted[OF_ALL].iloc[0],
            "largest_relative_error_estimate_of_eigenvalues": (curves["ntk_1_error"] / curves["ntk_1"].abs()).max(),
            **by_rate,
        },
    )


def predict(experiment: sl.Experiment) -> pd.DataFrame:
    """The quantities that follow from the kernel for each run and record, and its largest eigenvalue `OF_ALL`."""
    dataset = load_dataset(experiment.data)
    targets = jnp.asarray(dataset.train_targets)
    images = np.concatenate([dataset.train_inputs, dataset.eval_inputs])
    kernel = mlp_kernels(jnp.asarray(dataset.train_inputs), jnp.asarray(images), depth=experiment.depths[0]).ntk
    probe = experiment.probe_size
    fixed = largest_eigenvalue(kernel[:probe, :probe])
    loss = LOSSES[experiment.loss]
    rates = experiment.rates_of("ntk")
    rows = []
    for seed in sorted({seed for width in experiment.widths for seed in experiment.seeds_of(width)}):
        of_seed = [task for task in tasks(experiment) if seed in experiment.seeds_of(task.width)]
        runs = [(task.width, rate) for task in of_seed for rate in rates]
        outputs = jnp.stack([_first_outputs(task, seed, images) for task in of_seed for _ in rates])
        # All runs of a seed see the same batches.
        together = jax.vmap(
            lambda f, rate, batches: descend(kernel, f, targets, batches, learning_rate=rate, loss=loss), (0, 0, None)
        )
        learning_rates = jnp.array([rate for _, rate in runs])
        steps = experiment.record_steps()
        for start, stop in pairwise((0, *steps)):
            batches = batch_indices(seed, len(targets), experiment.batch_size, start, stop)
            outputs = together(outputs, learning_rates, batches) if stop > start else outputs
            for (width, rate), f in zip(runs, outputs, strict=True):
                train_loss = float(loss(f[:probe], targets[:probe]))
                eval_loss = float(loss(f[len(targets) :], jnp.asarray(dataset.eval_targets)))
                keys = {"width": width, "learning_rate": rate, "seed": seed, "step": stop}
                rows.append(keys | {"train_loss": train_loss, "eval_loss": eval_loss, "ntk_1": fixed})
    return pd.DataFrame(rows).assign(**{OF_ALL: largest_eigenvalue(kernel)})


@jax.jit
def _outputs(recipe: Recipe, seed: jax.Array, prepared: jax.Array) -> jax.Array:
    return recipe.forward(recipe.init_params(seed), prepared)


def _first_outputs(task: Task, seed: int, images: np.ndarray) -> jax.Array:
    """The outputs of a run before its first step, on all images."""
    recipe = find_recipe(task)
    return _outputs(recipe, jnp.int32(seed), recipe.prepare(images))


def largest_eigenvalue(kernel: jax.Array) -> float:
    """The largest eigenvalue of K/n, K the kernel between n training examples and others that begin with them."""
    n = len(kernel)
    return float(eigsh(np.asarray(kernel[:, :n]), k=1, return_eigenvectors=False)[0]) / n


def gaps_of(curves: pd.DataFrame) -> pd.DataFrame:
    """The three gaps of each run that the rule judges, in octaves."""
    octaves = curves[["learning_rate", "width", "seed", "step"]].assign(
        loss=np.log2(curves["eval_loss"] / curves["eval_loss_predicted"]).abs(),
        eigenvalue=np.log2(curves["ntk_1"] / curves["ntk_1_predicted"]),
    )

    def of_run(run: pd.DataFrame) -> pd.Series:
        run = run.sort_values("step")
        first, last = run["eigenvalue"].iloc[0], run["eigenvalue"].iloc[-1]
        loss = run["loss"].iloc[1:].mean(skipna=False)
        return pd.Series({"loss_gap": loss, "eigenvalue_gap": abs(first), "eigenvalue_move": abs(last - first)})

    return octaves.groupby(["learning_rate", "width", "seed"]).apply(of_run).reset_index()


def slope_of(gaps: pd.DataFrame, name: str) -> tuple[float, Interval]:
    """The slope of log₂ of a gap per doubling of width at one learning rate, with its 95 % interval."""
    groups = {width: np.log2(table[name].to_numpy()) for width, table in gaps.groupby("width")}
    found = trend_of_means(list(groups), list(groups.values()))
    return found.slope, found.interval(0.95)


def judge(intervals: Sequence[Interval]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if any(low > -LEAST_FALL for low, _ in intervals):
        return "fails"
    return "holds" if all(high < -LEAST_FALL for _, high in intervals) else "inconclusive"


def numbers(gaps: pd.DataFrame, slopes: Mapping[tuple[str, float], tuple[float, Interval]], rate: float) -> dict:
    """The numbers of the JSON file on one learning rate."""
    return {
        name: {
            "octaves_by_width": {str(width): value for width, value in gaps.groupby("width")[name].mean().items()},
            "slope_per_doubling": slopes[name, rate][0],
            "slope_interval": slopes[name, rate][1],
        }
        for name in GAPS
    }


TITLES: Mapping[Verdict, str] = {
    "holds": "come nearer to their infinite-width kernel as they grow wide",
    "fails": "do not come as near to their infinite-width kernel as they should",
    "inconclusive": "may come nearer to their infinite-width kernel as they grow wide",
}
STYLES = (("#2166ac", "o"), ("#b2182b", "s"), ("#e08214", "^"))


def draw(
    curves: pd.DataFrame,
    gaps: pd.DataFrame,
    slopes: Mapping[tuple[str, float], tuple[float, Interval]],
    verdict: Verdict,
) -> Figure:
    """The figure, a row per learning rate: loss and eigenvalue along training, and the gaps against width."""
    rates = sorted(curves["learning_rate"].unique())
    labels = {"eval_loss": "held-out loss", "ntk_1": "largest eigenvalue of $JJ^T/n$"}
    with house_style():
        size = (8.8, 2.8 * len(rates) + 0.6)
        figure, axes = plt.subplots(len(rates), 3, figsize=size, width_ratios=(1, 1, 1.3), squeeze=False, sharex="col")
        for row, rate in zip(axes, rates, strict=True):
            runs = curves[curves["learning_rate"] == rate]
            for ax, (name, label) in zip(row, labels.items(), strict=False):
                draw_curves(ax, runs, name)
                predicted = runs.groupby("step")[f"{name}_predicted"].mean()
                ax.plot(predicted.index, predicted, color="0.1", linestyle="--", linewidth=1.2, zorder=4)
                ax.set_ylabel(label)
                ax.set_title(f"η = {rate:g}")
            log_ticks(row[0])
            draw_gaps(row[2], gaps[gaps["learning_rate"] == rate], {name: slopes[name, rate] for name in GAPS})
            row[2].set_title(f"η = {rate:g}")
        for ax in axes[:-1].ravel():
            ax.set_xlabel("")
        limit = Line2D([], [], color="0.1", linestyle="--", linewidth=1.2, label="infinite width")
        handles = [*size_legend(curves["width"].unique()), limit]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2)
        figure.suptitle(f"Under NTK parameterization networks {TITLES[verdict]}", fontsize=10)
        plt.close(figure)
    return figure


def draw_gaps(ax: Axes, gaps: pd.DataFrame, slopes: Mapping[str, tuple[float, Interval]]) -> None:
    """Every run's gaps against its width, with the line through the widths' means."""
    for (name, (slope, (low, high))), (colour, marker) in zip(slopes.items(), STYLES, strict=True):
        x, y = np.log2(gaps["width"].to_numpy(float)), np.log2(gaps[name].to_numpy())
        label = f"{GAPS[name]}: {slope:+.2f} [{low:+.2f}, {high:+.2f}]"
        ax.plot(2**x, 2**y, marker, color=colour, markersize=3.5, alpha=0.7, label=label)
        ends = np.array([x.min(), x.max()])
        ax.plot(2**ends, 2 ** (y.mean() + slope * (ends - x.mean())), color=colour, linewidth=1)
    log_ticks(ax)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("width")
    ax.set_ylabel("gap to infinite width (octaves)")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.6)
    ax.legend(loc="upper right", title="slopes per doubling of width", title_fontsize=8)
