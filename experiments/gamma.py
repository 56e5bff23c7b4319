"""Richness γ₀: optimal learning rate and sharpness go as γ₀² and γ₀^−2 in lazy training, as γ₀^(±2/L) in rich training.

Paper: Atanasov et al., The Optimization Landscape of SGD Across the Feature Learning Strength, arXiv 2410.04642. Their
setting: networks whose output is divided by γ₀ under muP, L layers of weights, SGD, online. Here (quick): MLP of two
hidden layers, so L = 3, squared error on 8,192 images of Fashion-MNIST, widths 32 and 128, 256 steps of batch 128, γ₀
over ten octaves. Learning rates here are the paper's, which are γ₀² times the lab's base learning rates, and sharpness
is that of the paper's parameters, λmax(H): so 2/η is its threshold.

Left: the optimum of each γ₀ and width with its 95 % interval. Right: λmax(H) at the start and averaged over the second
half of training, near the optimum. Dashed: the predicted slopes, through the middle of the points they belong to.

Rule of the verdict: lazy is γ₀ ≤ ¼, rich γ₀ ≥ 4. In each, at the larger width, the slopes of log₂ optimum
(`sharplab.transfer`, with γ₀ in the width's place) and of log₂ late sharpness per doubling of γ₀, with their 95 %
intervals, are held against 2, 2/L and −2, −2/L: "holds" if each interval lies within ±0.25 of its prediction;
"fails" if any lies wholly outside; else "inconclusive".

Cost: about five minutes on two cores. Expected: the lazy slopes close to ±2; the rich ones somewhat steeper than ±2/L,
as few steps and a finite γ₀ lie between the two laws. Found at quick: the optimum follows both laws, the late sharpness
the rich one alone. In lazy training it starts at γ₀^−2, above the 2/η of the best learning rate, and catapults (arXiv
2003.02218) bring it down: outputs at the start, of size 1/(γ₀√width), are not subtracted here. Found at full (γ₀ from
2⁻⁵ to 2⁵, eight seeds): so, with powers of the optimum of 1.87 [1.71, 2.03] and 0.66 [0.52, 0.79], of the late
sharpness −1.13 [−1.63, −0.64] in lazy training and −0.67 [−0.78, −0.56] in rich.

    make figure-gamma
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sweep_columns as shared
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import sharplab as sl
from sharplab.analysis.trend import lies_outside, lies_within, trend_of_means
from sharplab.core.statistics import Interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style, size_colours, size_legend

CLAIM = (
    "The optimal learning rate goes with the richness as γ₀² and the sharpness as γ₀^-2 in lazy training, "
    "as γ₀^(2/L) and γ₀^(-2/L) in rich training."
)
TOLERANCE = 0.25  # octaves per doubling of γ₀
QUICK = replace(
    shared.SWEEP,
    model="mlp",
    widths=(32, 128),
    base_width=1,
    optimizer="sgd",
    learning_rates=(1.0,),  # each γ₀'s own, by `grid`
    loss="squared_error",
    schedule="constant",
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP | {"widths": (8,), "base_width": 1}),
    "quick": QUICK,
    "full": replace(QUICK, seeds=8),
    "paper": replace(QUICK, **shared.CIFAR_SWEEP, widths=(256, 1024)),
}
GAMMAS: Mapping[str, tuple[float, ...]] = {
    "smoke": (2**-3, 2**-2, 2**2, 2**3),
    "quick": shared.octaves(-5, 5),
    "full": shared.octaves(-5, 5),
    "paper": shared.octaves(-8, 8),
}
LAYERS = QUICK.depths[0] + 1
REGIMES: Mapping[str, tuple[float, float, float]] = {
    "lazy": (0.0, 0.25, 2.0),
    "rich": (4.0, np.inf, 2 / LAYERS),
}  # γ₀ from, to, and what the optimum's slope is to be


@dataclass(frozen=True)
class Slope:
    """The slope of log₂ of a quantity per doubling of γ₀, with its 95 % interval and the predicted slope."""

    slope: float
    interval: Interval
    predicted: float


def grid(gamma: float) -> tuple[float, ...]:
    """Three base learning rates about where the two laws meet, from which the sweep extends to the optimum."""
    centre = round(min(3.0, 1.5 - (2 - 2 / LAYERS) * log2(gamma)))
    return shared.octaves(centre - 1, centre + 1)


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    sweeps, trajectories = {}, []
    for gamma in GAMMAS[preset]:
        sweep = replace(PRESETS[preset], gamma=gamma, learning_rates=grid(gamma))
        runs = sl.run(sweep, store).runs
        trajectory = sl.run(along(sweep, common_best(runs)), store).curves
        assert trajectory is not None
        sweeps[gamma] = sl.Records(runs.assign(learning_rate=runs["learning_rate"] * gamma**2))
        trajectories.append(trajectory.assign(gamma=gamma, learning_rate=trajectory["learning_rate"] * gamma**2))
    trajectory = pd.concat(trajectories, ignore_index=True)
    slopes = {regime: regime_slopes(sweeps, late_sharpness(trajectory), regime) for regime in REGIMES}
    optima = shared.shifts_over("gamma", sweeps.values())
    at_the_start = sharpness_slope(start_sharpness(trajectory)[max(optima)], list(sweeps), -2.0)
    numbers = {
        "slopes_per_doubling_of_gamma": {
            regime: {name: vars(slope) for name, slope in found.items()} for regime, found in slopes.items()
        }
        | {"all": {"sharpness_at_the_start": vars(at_the_start)}},
        "optimum": {
            str(width): {
                f"{gamma:g}": {"learning_rate": best, "interval": interval}
                for gamma, best, interval in zip(sweeps, found.optimum, found.optimum_interval, strict=True)
            }
            for width, found in optima.items()
        },
        "layers_of_weights": LAYERS,
    }
    verdict = judge(slope for found in slopes.values() for slope in found.values())
    return Finding(draw(tuple(sweeps), optima, trajectory, slopes), table(sweeps, trajectory), CLAIM, verdict, numbers)


def along(sweep: sl.Experiment, rate: float) -> sl.Experiment:
    """The runs at one base learning rate whose sharpness is recorded along training."""
    return replace(
        sweep,
        learning_rates=(rate,),
        observables=(shared.METRIC, "sharpness_raw"),
        records=min(9, sweep.steps + 1),
        probe_size=256,
        refine=False,
    )


def common_best(runs: pd.DataFrame) -> float:
    """The base learning rate of lowest mean loss among those of every width; a diverged run has infinite loss."""
    losses = runs.assign(loss=runs[shared.METRIC].mask(runs["diverged"]).fillna(np.inf))
    by_rate = losses.groupby("learning_rate").agg(loss=("loss", "mean"), widths=("width", "nunique"))
    return float(by_rate["loss"][by_rate["widths"] == runs["width"].nunique()].idxmin())


def start_sharpness(trajectory: pd.DataFrame) -> pd.Series:
    """λmax(H) before the first step, by width, γ₀ and seed."""
    return trajectory[trajectory["step"] == 0].set_index(["width", "gamma", "seed"])["sharpness_raw"]


def late_sharpness(trajectory: pd.DataFrame) -> pd.Series:
    """The mean of λmax(H) over the second half of training, by width, γ₀ and seed."""
    late = trajectory[trajectory["step"] >= trajectory["step"].max() / 2]
    return late.groupby(["width", "gamma", "seed"])["sharpness_raw"].mean()


def regime_slopes(sweeps: Mapping[float, sl.Records], late: pd.Series, regime: str) -> dict[str, Slope]:
    """The slopes of optimum and late sharpness at the larger width, over the γ₀ of one regime."""
    low, high, predicted = REGIMES[regime]
    gammas = [gamma for gamma in sweeps if low <= gamma <= high]
    width, optimum = max(shared.shifts_over("gamma", [sweeps[gamma] for gamma in gammas]).items())
    return {
        "optimum": Slope(optimum.shift, optimum.shift_interval, predicted),
        "sharpness": sharpness_slope(late[width], gammas, -predicted),
    }


def sharpness_slope(sharpness: pd.Series, gammas: Sequence[float], predicted: float) -> Slope:
    """The slope of log₂ sharpness, a series by γ₀ and seed, over these γ₀."""
    found = trend_of_means(gammas, [np.log2(sharpness[gamma].to_numpy()) for gamma in gammas])
    return Slope(found.slope, found.interval(0.95), predicted)


def judge(slopes: Iterable[Slope]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    off = [(slope.interval[0] - slope.predicted, slope.interval[1] - slope.predicted) for slope in slopes]
    if any(lies_outside(interval, TOLERANCE) for interval in off):
        return "fails"
    return "holds" if all(lies_within(interval, TOLERANCE) for interval in off) else "inconclusive"


def table(sweeps: Mapping[float, sl.Records], trajectory: pd.DataFrame) -> pd.DataFrame:
    """The runs behind the figure, in the paper's learning rates: final losses of the sweeps, and the trajectories."""
    keys = ["gamma", "width", "learning_rate", "seed", "step", shared.METRIC]
    finals = pd.concat([sweep.runs for sweep in sweeps.values()]).rename(columns={"steps": "step"})
    parts = [
        finals[[*keys, "diverged"]].assign(part="sweep"),
        trajectory[[*keys, "sharpness_raw", "sharpness_raw_error"]].assign(part="course"),
    ]
    return pd.concat(parts, ignore_index=True)


def draw(
    gammas: Sequence[float],
    optima: Mapping[int, sl.Transfer],
    trajectory: pd.DataFrame,
    slopes: Mapping[str, Mapping[str, Slope]],
) -> Figure:
    """The figure: the optimum on the left, the sharpness on the right, both against γ₀."""
    colours = size_colours(list(optima))
    first, late = start_sharpness(trajectory), late_sharpness(trajectory)
    largest = max(optima)
    with house_style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 4.0))
        for width, found in optima.items():
            left.plot(gammas, found.optimum, "D", color=colours[width], markersize=4.5)
            spread = np.clip(
                found.optimum_interval, np.array(found.optimum)[:, None] / 8, np.array(found.optimum)[:, None] * 8
            )
            left.vlines(gammas, *spread.T, color=colours[width], linewidth=2, alpha=0.6)
            for values, marker in ((first, "v"), (late, "D")):
                mean = values[width].groupby("gamma").mean()
                right.plot(mean.index, mean, marker, color=colours[width], markersize=4.5)
        guide(left, pd.Series(optima[largest].optimum, gammas), slopes, "optimum")
        guide(right, late[largest].groupby("gamma").mean(), slopes, "sharpness")
        left.set_ylabel("optimal learning rate, γ₀² × base rate")
        right.set_ylabel("largest eigenvalue $\\lambda_{max}(H)$")
        for ax, name in ((left, "optimum"), (right, "sharpness")):
            ax.set_xscale("log", base=2)
            ax.set_yscale("log", base=2)
            ax.set_xlabel("richness γ₀")
            ax.set_title("\n".join(f"{regime}: {said(found[name])}" for regime, found in slopes.items()))
        marks = {"at the start": ("v", ""), "late": ("D", ""), "predicted power": ("", "--")}
        shapes = [
            Line2D([], [], color="0.3", marker=m, linestyle=line, label=label) for label, (m, line) in marks.items()
        ]
        right.legend(handles=shapes, loc="upper right")
        left.legend(handles=size_legend(list(optima)), loc="upper left")
        plt.close(figure)
    return figure


def guide(ax: Axes, values: pd.Series, slopes: Mapping[str, Mapping[str, Slope]], name: str) -> None:
    """Draw the predicted power of γ₀ through the middle of each regime's values, dashed."""
    for regime, found in slopes.items():
        low, high, _ = REGIMES[regime]
        part = values[(values.index >= low) & (values.index <= high)]
        ends = np.array([part.index.min() / 1.3, part.index.max() * 1.3])
        centre, height = (2 ** np.log2(np.asarray(v, float)).mean() for v in (part.index, part))
        ax.plot(ends, height * (ends / centre) ** found[name].predicted, "--", color="0.25", linewidth=1, zorder=0)


def said(slope: Slope) -> str:
    """A slope with its interval and its prediction, as text."""
    low, high = slope.interval
    return f"power {slope.slope:+.2f} [{low:+.2f}, {high:+.2f}], predicted {slope.predicted:+.2f}"
