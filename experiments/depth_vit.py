"""C5: Depth-muP does not fully transfer the optimal learning rate of a vision transformer under Adam in depth.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457, on
depth: a transformer's residual branches hold several layers, as those of ConvNets with which the optimum moved. The
rule is Depth-muP (arXiv 2310.02244, 2309.16620), α = ½. Their setting: ViTs on CIFAR-10 and ImageNet, Adam. Here
(quick): a ViT of width 32 under muP on 8,192 images of Fashion-MNIST, 1 to 8 blocks (depth), 96 steps of batch 32, the
learning rate falling linearly to 0.

Lower row: the sharpness in Adam's metric of 128 images, with its stability threshold 38/η.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of depth: "holds" if the
optimum shifts; "fails" if it transfers; else "inconclusive".

Cost: about nine minutes on two cores. Expected: the paper's own drift is small; three doublings may not show it. Found
at full, with five seeds and 192 steps: the optimum stays, −0.03 [−0.21, +0.14] octaves per doubling; tuned at one block
it loses 0.001 of train loss at eight, at most 0.023.

    make figure-depth-vit
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding, Verdict

CLAIM = (
    "With a vision transformer's branches scaled by depth^-1/2 the optimal learning rate under Adam still moves with "
    "depth."
)
QUICK = replace(
    shared.SWEEP,
    model="vit",
    depths=(1, 2, 4, 8),
    widths=(32,),
    learning_rates=shared.octaves(-9, -5),
    seeds=2,
    steps=96,
    batch_size=32,
    probe_size=512,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": shared.smoke(QUICK, shared.octaves(-9, -8), steps=4, widths=(8,), base_width=8, depths=(1, 2)),
    "quick": QUICK,
    "full": replace(QUICK, seeds=5, steps=192),
    "paper": replace(
        QUICK,
        **shared.VIT_SWEEP,
        widths=(256,),
        base_width=256,
        depths=(3, 6, 12, 24),
        base_depth=3,
        learning_rates=shared.octaves(-13, -8),
    ),
}
SHOWN_RATE = 2.0**-9
# Images that the sharpness is of; quick: of 512 it takes longer than the sweep.
PROBES: Mapping[str, int] = {"smoke": 4, "quick": 128, "full": 128, "paper": 1024}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    column = shared.measure("Depth-muP", PRESETS[preset], SHOWN_RATE, store, over="depth", probe_size=PROBES[preset])
    return shared.finding([column], CLAIM, judge(column.found))


def judge(depth_mup: sl.Transfer) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if depth_mup.verdict == "inconclusive":
        return "inconclusive"
    return "holds" if depth_mup.verdict == "shifts" else "fails"
