"""C3: under muP the top Hessian eigenvalue is super consistent; smaller ones, trace, NTK and loss are not.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457, on the
other eigenvalues. Their setting: plain ConvNet of three layers, muP, SGD, CIFAR-10. Here (quick): residual MLP of three
blocks under muP on 8,192 images of Fashion-MNIST, widths 16 to 128, 256 steps of batch 128; curvature in the metric of
the optimizer on 512 training images.

Five panels of curves, mean and standard deviation over seeds. The sixth: how the k-th eigenvalue of the Hessian, the
Gauss-Newton matrix and the NTK, averaged over the second half of training, goes with the width, with 95 % intervals.

Rule of the verdict, by `sharplab.consistency` (tolerance ±0.1 octaves per doubling of width, of the late slope and of
its growth): "holds" if the top Hessian eigenvalue is super consistent, and its tenth eigenvalue, its trace, the top
NTK eigenvalue and the train loss show finite-size effects; "fails" if the former shows them or one of the latter is
super consistent; else "inconclusive".

Cost: about three minutes on two cores. Expected: slopes that grow with the rank.

    make figure-eigenvalues
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import sweep_columns as shared
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import draw_curves, draw_threshold, house_style, log_ticks, size_legend

CLAIM = (
    "Under muP the top Hessian eigenvalue follows one trajectory at every width; the smaller ones, the trace, the top "
    "NTK eigenvalue and the loss do not."
)
RANKS = 10
SPECTRA: Mapping[str, tuple[str, str]] = {
    "hessian": ("Hessian", "#2166ac"),
    "gauss_newton": ("Gauss-Newton", "#b2182b"),
    "ntk": ("NTK", "0.3"),
}
CONSISTENT, OTHERS = "hessian_1", ("hessian_10", "hessian_trace", "ntk_1", "train_loss")
SHOWN: Mapping[str, str] = {
    "hessian_1": "top Hessian eigenvalue",
    "hessian_10": "tenth Hessian eigenvalue",
    "hessian_trace": "trace of the Hessian",
    "ntk_1": "top NTK eigenvalue",
    "train_loss": "train loss (nats)",
}
QUICK = replace(
    shared.TRAJECTORIES,
    widths=(16, 32, 64, 128),
    seeds=4,
    probe_size=512,
    observables=("train_loss", "hessian_trace", *(f"{name}_top{RANKS}" for name in SPECTRA)),
    records=9,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(
        QUICK, widths=(4, 8), seeds=2, steps=8, records=3, probe_size=64, batch_size=64, data="gaussian-clusters"
    ),
    "quick": QUICK,
    "full": replace(QUICK, widths=(16, 32, 64, 128, 256), seeds=16, steps=1024),
    "paper": replace(QUICK, **shared.CONVNET_TRAJECTORIES | {"seeds": 4}, probe_size=1024),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    records = sl.run(PRESETS[preset], store)
    ranked = [f"{name}_{rank + 1}" for name in SPECTRA for rank in range(RANKS)]
    found = {name: sl.consistency(records, name)["mup"] for name in (*ranked, "hessian_trace", "train_loss")}
    errors = [f"{name}_error" for name in (*ranked, "hessian_trace")]
    columns = ["width", "learning_rate", "seed", "step", *found, *errors]
    return Finding(
        draw(records, found), records.curves[columns], CLAIM, judge(found), shared.consistency_numbers(found)
    )


def judge(found: Mapping[str, sl.Consistency]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    top, others = found[CONSISTENT].verdict, {found[name].verdict for name in OTHERS}
    if top == "finite-size effects" or "super consistent" in others:
        return "fails"
    return "holds" if top == "super consistent" and others == {"finite-size effects"} else "inconclusive"


def draw(records: sl.Records, found: Mapping[str, sl.Consistency]) -> Figure:
    """The figure: curves of five quantities, and the slope of every eigenvalue."""
    curves = records.curves
    widths = sorted(curves["width"].unique())
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(10, 5.8))
        for ax, (name, title) in zip(axes.flat, SHOWN.items(), strict=False):
            draw_curves(ax, curves[curves[name] > 0], name, sizes=widths)  # none may be positive at one of them
            log_ticks(ax)
            ax.set_title(f"{title}: {found[name].verdict}\n{found[name].slopes.late:+.2f}")
            ax.set_ylabel(title)
        rate = float(curves["learning_rate"].iloc[0])
        draw_threshold(axes[0, 0], 2 / rate, "2/η")
        draw_slopes(axes.flat[-1], found)
        handles = size_legend(widths)
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        plt.close(figure)
    return figure


def draw_slopes(ax: Axes, found: Mapping[str, sl.Consistency]) -> None:
    """Draw the late slope per doubling of width against the rank of the eigenvalue, with intervals."""
    for shift, (name, (label, colour)) in zip((-0.12, 0.0, 0.12), SPECTRA.items(), strict=True):
        ranks = [rank + 1 for rank in range(RANKS)]
        ours = [found[f"{name}_{rank}"] for rank in ranks]
        slopes = [one.slope for one in ours]
        below = [one.slope - one.slope_interval[0] for one in ours]
        above = [one.slope_interval[1] - one.slope for one in ours]
        at = [rank + shift for rank in ranks]
        ax.errorbar(at, slopes, yerr=(below, above), color=colour, marker="o", markersize=3, linewidth=1, label=label)
    tolerance = found[CONSISTENT].tolerance
    ax.axhspan(-tolerance, tolerance, color="0.9", zorder=0)
    ax.set(xlabel="rank of the eigenvalue", ylabel="late slope\n(octaves per doubling of width)")
    ax.set_title(f"all eigenvalues; grey: consistent, ±{tolerance:g}")
    ax.set_xticks(range(1, RANKS + 1))
    ax.legend()
