"""muP's tables for each optimizer: under SGD, momentum, Adam, AdamW, Lion and Muon the optimal learning rate stays.

Paper: Yang et al., Tensor Programs V, arXiv 2203.03466, tables 3, 8 and 9 (SGD, Adam); Yang, Simon and Bernstein, arXiv
2310.17813, for steps of given spectral norm (Muon); Noci et al., arXiv 2402.17457, for SGD and Adam. Here (quick):
residual MLP of two blocks on 8,192 images of Fashion-MNIST, widths 32 to 128, 256 steps of batch 128, the learning rate
falling linearly to 0.

Lower rows: effective sharpness, with the optimizer's stability threshold; under momentum also the batch sharpness, with
the plateau of small batches (arXiv 2604.14108; that of large ones is the threshold). Lion and Muon, whose steps are of
fixed size, show the sharpness in the norm of their steps over the dual norm of the gradient, with 2/η (arXiv
2603.05002): in ℓ∞ for Lion, in the spectral norm of hidden matrices for Muon. It is a lower bound, of the full loss's
gradient without momentum; above 2/η a step along that gradient may raise the loss.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers under every optimizer; "fails" if it shifts under any; else "inconclusive".

Cost: about six minutes on two cores; at full, widths to 512 and 16 seeds, half an hour, and Lion's width 1,024 ten
minutes more. Expected: shifts within ±0.25 everywhere, the widest intervals under SGD and momentum, whose optimum lies
at the edge of stability. Found at quick: Lion and Muon at about +0.35, open. Found at full: the optimum stays, but
Muon's drifts by +0.16 [0.10, 0.22] and Lion's by +0.20 [0.15, 0.24], an octave from width 32 to 1,024, where the rate
of width 32 loses 0.014 [0.007, 0.020]. Lion's column had three looks, which its interval does not count: one rate to an
octave up to width 512, +0.21 [0.15, 0.26]; two rates, +0.21 [0.16, 0.27], which more seeds would not have told; width
1,024.

    make figure-optimizers
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding

CLAIM = (
    "Under muP the optimal learning rate stays where it is as the width grows, for SGD with and without momentum, for "
    "Adam and AdamW, Lion and Muon."
)
# Each grid's ends in octaves, the rate whose trajectory is shown, and rates to an octave: Lion's valleys are steep.
GRIDS: Mapping[str, tuple[int, int, int, int]] = {
    "sgd": (0, 4, 1, 1),
    "momentum": (-2, 2, -1, 1),
    "nesterov": (-2, 2, -1, 1),
    "adam": (-8, -5, -8, 1),
    "adamw": (-8, -5, -8, 1),
    "lion": (-11, -7, -11, 2),
    "muon": (-7, -4, -7, 1),
}
QUICK = replace(
    shared.SWEEP,
    widths=(32, 64, 128),
    optimizer="sgd",
    learning_rates=(1.0,),  # both are each optimizer's own, of GRIDS
    seeds=5,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP, depths=(1,), base_depth=1),
    "quick": QUICK,
    "full": replace(QUICK, widths=(32, 64, 128, 256, 512), seeds=16),
    "paper": replace(QUICK, **shared.CIFAR_SWEEP, widths=(128, 256, 512, 1024), base_width=128),
}
FEWER: Mapping[str, tuple[str, ...]] = {"smoke": ("sgd", "lion", "muon")}  # each compiles programs of its own
# Further widths where the preset's left an optimizer at the tolerance.
WIDER: Mapping[tuple[str, str], tuple[int, ...]] = {("full", "lion"): (1024,)}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    columns = []
    for name in FEWER.get(preset, GRIDS):
        low, high, shown, to_each = GRIDS[name]
        sweep = replace(
            PRESETS[preset],
            optimizer=name,
            learning_rates=shared.octaves(low, high, to_each),
            widths=PRESETS[preset].widths + WIDER.get((preset, name), ()),
        )
        columns.append(shared.measure(name, sweep, 2.0**shown, store))
    verdict = shared.judge_all(column.found for column in columns)
    return shared.finding(columns, CLAIM, verdict)
