"""C4: under muP loss, sharpness and NTK eigenvalue converge in width by power laws, and some gaps grow in time.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457, on
rates of convergence: fits y = a·N^b and y = a·t^b to |q_N(t) − q_widest(t)|. Their setting: ConvNets on CIFAR-10 with
augmentation, SGD; they report Width^−0.5 to Width^−0.8 for the loss, and gaps that grow as t^0.6 to t^0.9 (loss) and
t^2.0 to t^2.3 (NTK eigenvalue). Here (quick): residual MLP of three blocks, α = ½, on 8,192 images of Fashion-MNIST,
muP, widths 16 to 256, 256 steps of batch 128, eight seeds; curvature on 1,024 training images.

Upper row: |q_N − q_256|, averaged over each third of training, against width, with fitted power laws; bars are
standard errors over seeds, and open circles gaps of less than two of them. Lower row: the gap of every width against
the step, with the law of their average.

Rule of the verdict (`sharplab.consistency`, 95 % intervals from seeds, gaps with their sign): "holds" if for train
loss, sharpness and the top NTK eigenvalue, in every third of training, the exponent b of q_N = q_∞ + a·N^b is surely
negative, and the gaps of loss and NTK eigenvalue surely grow (the exponent in time of the average over widths is
positive); "fails" if one of these exponents surely has the other sign; else "inconclusive". The exponents of the
gap to width 256 itself, as the paper fits them, are steeper; they are in the legends and the JSON file.

Cost: about three minutes on two cores. Expected: the loss converges as about N^−1. At this scale its gap shrinks after
the first fifty steps, as does the loss, and only the gap in proportion to the loss stays; and the gaps of sharpness and
NTK eigenvalue are lost in the seeds' noise, which is what super consistency says of the sharpness. Found at full (24
seeds, widths to 512, 1,024 steps): so, the loss's gap goes as t^−0.28 [−0.36, −0.20]; the loss comes to its limit as
N^−0.97 early and N^−0.78 [−0.87, −0.69] late, as the paper's; the sharpness as N^−0.7 from the second third on and its
gap grows; the NTK eigenvalue's exponent in width stays unknown.

    make figure-convergence
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import sweep_columns as shared
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style, log_ticks, size_colours, size_legend

CLAIM = (
    "Under muP the loss, the sharpness and the top NTK eigenvalue converge to their wide limits as powers of the "
    "width, at all times; the gaps of loss and NTK eigenvalue grow as powers of time."
)
QUANTITIES: Mapping[str, tuple[str, str]] = {
    "train_loss": ("train loss", " (nats)"),
    "sharpness": ("sharpness", ""),
    "ntk_1": ("NTK eigenvalue", ""),
}
GROWING = ("train_loss", "ntk_1")  # whose gaps the claim says grow
QUICK = replace(
    shared.TRAJECTORIES, widths=(16, 32, 64, 128, 256), seeds=8, observables=("train_loss", "sharpness", "ntk_top1")
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_TRAJECTORIES | {"widths": (4, 8, 16), "seeds": 3, "records": 9}),
    "quick": QUICK,
    "full": replace(QUICK, widths=(16, 32, 64, 128, 256, 512), seeds=24, steps=1024),
    "paper": replace(
        QUICK, **shared.CONVNET_TRAJECTORIES | {"widths": (64, 128, 256, 512, 1024, 4096), "seeds": 5}, depths=(2,)
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    records = sl.run(PRESETS[preset], store)
    found = {quantity: sl.consistency(records, quantity, over="width")["mup"] for quantity in QUANTITIES}
    measured = [*QUANTITIES, "sharpness_error", "sharpness_residual", "ntk_1_error", "ntk_1_residual"]
    return Finding(
        draw(found),
        records.curves[["width", "learning_rate", "seed", "step", *measured]],
        CLAIM,
        judge(found),
        {quantity: numbers(of_one) for quantity, of_one in found.items()},
    )


def judge(found: Mapping[str, sl.Consistency]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    falling = [interval for of_one in found.values() for _, interval in of_one.gaps.limit_exponents.values()]
    growing = [found[quantity].gaps.in_time["all"].exponent_interval for quantity in GROWING]
    if any(low > 0 for low, _ in falling) or any(high < 0 for _, high in growing):
        return "fails"
    return "holds" if all(high < 0 for _, high in falling) and all(low > 0 for low, _ in growing) else "inconclusive"


def numbers(found: sl.Consistency) -> dict:
    """The numbers of the JSON file on one quantity."""
    absolute, relative = found.gaps.in_time["all"], found.relative_gaps.in_time["all"]
    return {
        "over_widths": found.verdict,
        "late_slope_octaves_per_doubling": found.slope,
        "late_slope_interval": found.slope_interval,
        "late_slope_less_early_slope": found.growth,
        "late_slope_less_early_slope_interval": found.growth_interval,
        "exponent_in_width_to_the_limit": {
            part: {"exponent": exponent, "interval": interval}
            for part, (exponent, interval) in found.gaps.limit_exponents.items()
        },
        "exponent_in_width_of_gap_to_widest": {
            part: {"exponent": law.exponent, "interval": law.exponent_interval, "r_squared": law.r_squared}
            for part, law in found.gaps.in_size.items()
        },
        "exponent_in_time": absolute.exponent,
        "exponent_in_time_interval": absolute.exponent_interval,
        "exponent_in_time_of_relative_gap": relative.exponent,
        "exponent_in_time_of_relative_gap_interval": relative.exponent_interval,
        "seeds": found.gaps.seeds,
        "records_left_out": found.left_out,
    }


def draw(found: Mapping[str, sl.Consistency]) -> Figure:
    """The figure, a column per quantity: the gap against width above, against the step below."""
    with house_style():
        figure, axes = plt.subplots(2, len(found), figsize=(11.0, 6.2))
        for column, (quantity, of_one) in zip(axes.T, found.items(), strict=True):
            name, unit = QUANTITIES[quantity]
            _draw_in_width(column[0], of_one)
            _draw_in_time(column[1], of_one)
            exponent = _stated(*list(of_one.gaps.limit_exponents.values())[-1])
            slope = f"{of_one.slope:+.2f}".replace("-", "−")
            column[0].set_title(f"{name}: late {slope} octaves/doubling,\nto the limit as $N^b$, {exponent}")
            law = of_one.gaps.in_time["all"]
            low, high = law.exponent_interval
            grows = "grows" if low > 0 else "shrinks" if high < 0 else "may grow or shrink"
            column[1].set_title(f"mean gap {grows}:\nas $t^b$ (dashed), {_stated(law.exponent, (low, high))}")
            for ax in column:
                ax.set_ylabel(f"|gap to width {of_one.sizes[-1]}|{unit}")
        axes[1, 0].legend(
            handles=size_legend(of_one.sizes)[:-1], loc="lower left", ncols=2, frameon=True, framealpha=0.85
        )
        plt.close(figure)
    return figure


def _stated(exponent: float, interval: tuple[float, float]) -> str:
    if not np.isfinite(interval).any():
        return "b unknown"
    low, high = (f"{end:.2f}".replace("inf", "∞") for end in interval)
    return f"b = {exponent:.2f} [{low}, {high}]".replace("-", "−")


def _draw_in_width(ax: Axes, found: sl.Consistency) -> None:
    sizes = np.array(found.sizes[:-1])
    shades = plt.get_cmap("plasma")(np.linspace(0.75, 0.05, len(found.gaps.averages)))
    for i, (part, (mean, stderr)) in enumerate(found.gaps.averages.items()):
        law, colour = found.gaps.in_size[part], shades[i]
        apart, gap, sure = sizes * 1.05 ** (i - 1), np.abs(mean), np.abs(mean) >= 2 * stderr  # bars beside each other
        ax.errorbar(apart, gap, stderr, color=colour, fmt="none", elinewidth=1)
        ax.plot(apart[sure], gap[sure], "o", color=colour, markersize=4.5)
        ax.plot(apart[~sure], gap[~sure], "o", color=colour, markersize=4.5, markerfacecolor="white")
        told = np.isfinite(law.exponent_interval).any()
        ax.plot(
            sizes,
            np.abs(law.predict(sizes)) if told else np.full(len(sizes), np.nan),
            color=colour,
            label=f"{part}: $N^{{{law.exponent:.2f}}}$" if told else f"{part}: lost in noise",
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    _limit(ax, [mean for mean, _ in found.gaps.averages.values()], 2000)  # with room for the legend
    ax.set_xlabel("width N")
    ax.legend(loc="lower left", title="third of training", title_fontsize=8, frameon=True, framealpha=0.85)


def _draw_in_time(ax: Axes, found: sl.Consistency) -> None:
    colours, after = size_colours(found.sizes), found.steps > 0
    steps = found.steps[after]
    for size, mean, stderr in zip(found.sizes, found.gaps.mean[:, after], found.gaps.stderr[:, after], strict=False):
        gap = np.abs(mean)
        ax.plot(steps, gap, color=colours[size], marker="o", markersize=2.5)
        bottom = np.maximum(gap - stderr, 1e-3 * gap)  # on a logarithmic axis: as good as 0
        ax.fill_between(steps, bottom, gap + stderr, color=colours[size], alpha=0.1, linewidth=0)
    law = found.gaps.in_time["all"]
    if np.isfinite(law.exponent_interval).any():
        ax.plot(steps, np.abs(law.predict(steps)), color="0.15", linestyle="--", linewidth=1.2)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    _limit(ax, [found.gaps.mean[:, after]], 200)
    ax.set_xlabel("step t")


def _limit(ax: Axes, gaps: Sequence[np.ndarray], times: float) -> None:
    """Cut the axis at so many times less than the largest gap: smaller ones are noise about 0."""
    largest = np.abs(np.concatenate([np.ravel(gap) for gap in gaps])).max()
    log_ticks(ax)
    ax.set_ylim(largest / times, 2 * largest)
