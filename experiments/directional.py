"""C9: the curvature along the gradient, and that of batches, is as consistent in width under muP as the sharpness.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
appendix, on directional sharpness gᵀHg/‖g‖²; batch sharpness, the mean over batches of the same with the batch's own
gradient and Hessian, after Andreyev & Beneventano, arXiv 2412.20553. Here (quick): residual MLP of three blocks on
8,192 images of Fashion-MNIST, widths 32 to 256, 256 steps of batch 128, muP and NTK at one learning rate each; all in
the metric of the optimizer, on the first 1,024 training images, batch sharpness on its eight batches.

A row per quantity: every width, mean and standard deviation over seeds, in units of 2/η.

Rule of the verdict, by `sharplab.consistency` (tolerance ±0.1 octaves per doubling of width, of the late slope and of
its growth): "holds" if directional and batch sharpness are super consistent under muP and show finite-size effects
under NTK; "fails" if one shows finite-size effects under muP or is super consistent under NTK; else "inconclusive".

Full has 16 seeds: with 12 the directional sharpness was open by a hair, its growth −0.03 [−0.103, +0.037]; with 16 it
is [−0.099, +0.012], which is hardly within the tolerance.

Cost: about three minutes on two cores. Expected: muP curves that coincide, the batch sharpness near 2/η, the
directional one below it.

    make figure-directional
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import sweep_columns as shared
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import NAMES, draw_curves, draw_threshold, house_style, size_legend

CLAIM = (
    "Under muP the curvature along the gradient, of the whole loss and of batches, follows the same trajectory at "
    "every width as the sharpness does; under NTK parameterization it does not."
)
QUANTITIES: Mapping[str, str] = {
    "sharpness": "sharpness",
    "batch_sharpness": "batch sharpness",
    "directional_sharpness": "directional sharpness",
}
JUDGED = ("batch_sharpness", "directional_sharpness")
Found = Mapping[str, Mapping[str, sl.Consistency]]  # parameterization → quantity → how consistent it is
QUICK = replace(
    shared.TRAJECTORIES,
    parameterizations=("mup", "ntk"),
    learning_rates={"mup": (0.25,), "ntk": (2.0,)},
    observables=("train_loss", *QUANTITIES),
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_TRAJECTORIES, batch_size=64),
    "quick": QUICK,
    "full": replace(QUICK, widths=(32, 64, 128, 256, 512), seeds=16),
    "paper": replace(QUICK, **shared.CONVNET_TRAJECTORIES | {"learning_rates": {"mup": (0.5,), "ntk": (7.0,)}}),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    records = sl.run(PRESETS[preset], store)
    by_quantity = {quantity: sl.consistency(records, quantity) for quantity in QUANTITIES}
    found = {name: {q: one[name] for q, one in by_quantity.items()} for name in ("mup", "ntk")}
    keys = ["parameterization", "width", "learning_rate", "seed", "step"]
    measured = ["train_loss", *QUANTITIES, "sharpness_error", "batch_sharpness_error"]
    stated = {name: shared.consistency_numbers(by_quantity) for name, by_quantity in found.items()}
    return Finding(draw(records, found), records.curves[[*keys, *measured]], CLAIM, judge(found), stated)


def judge(found: Found) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    mup, ntk = ({found[name][quantity].verdict for quantity in JUDGED} for name in ("mup", "ntk"))
    if "finite-size effects" in mup or "super consistent" in ntk:
        return "fails"
    return "holds" if mup == {"super consistent"} and ntk == {"finite-size effects"} else "inconclusive"


def draw(records: sl.Records, found: Found) -> Figure:
    """The figure: a row per quantity, a column per parameterization."""
    with house_style():
        figure, axes = plt.subplots(len(QUANTITIES), 2, figsize=(7.5, 8.0), sharex=True, sharey="row", squeeze=False)
        for column, (name, by_quantity) in zip(axes.T, found.items(), strict=True):
            curves = records.select(parameterization=name).curves
            rate = float(curves["learning_rate"].iloc[0])
            for ax, (quantity, one) in zip(column, by_quantity.items(), strict=True):
                draw_curves(ax, curves.assign(**{quantity: curves[quantity] * rate / 2}), quantity)
                draw_threshold(ax, 1.0, "2/η")
                said = f"{one.slopes.late:+.2f} octaves per doubling of width"
                ax.set_title(f"{NAMES[name]}, η = {rate:g}: {one.verdict}\n{said}")
                ax.set_xlabel("")
            column[-1].set_xlabel("step")
        for ax, label in zip(axes[:, 0], QUANTITIES.values(), strict=True):
            ax.set_ylabel(f"{label} (2/η)")
            ax.set_ylim(bottom=0)
        handles = size_legend(sorted(records.runs["width"].unique()))
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        plt.close(figure)
    return figure
