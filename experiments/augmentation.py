"""C9: under muP the optimal learning rate stays where it is as the width grows, with and without augmentation.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
appendix on augmentation. Their setting: ConvNets on CIFAR-10, SGD, random crops and flips. Here (quick): residual MLP
of two blocks under muP on 8,192 images of Fashion-MNIST, widths 32 to 256, Adam (its optimum lies apart from the edge
of stability), 256 steps of batch 128, the learning rate falling linearly to 0; each training image moved by up to four
pixels and mirrored with probability ½, or not.

Losses and sharpness are those of training images as they are, the latter with its stability threshold 38/η.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers with and without augmentation; "fails" if it shifts in either; else "inconclusive".

Cost: about a minute on two cores; the runs without augmentation are those of the figure `adam` too. Expected:
shifts near 0 in both.

    make figure-augmentation
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding

CLAIM = "Under muP the optimal learning rate stays where it is as the width grows, with and without data augmentation."
QUICK = shared.SWEEP
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP | {"data": QUICK.data}),
    "quick": QUICK,
    "full": replace(QUICK, **shared.FULL_SWEEP),
    "paper": replace(QUICK, **shared.CONVNET_SWEEP | {"augment": QUICK.augment}),
}
AUGMENTATIONS: Mapping[str, str] = {"as they are": "none", "crops and flips": "crop_and_flip"}
SHOWN_RATES: Mapping[str, float] = {"smoke": 2.0**-8, "quick": 2.0**-8, "full": 2.0**-8, "paper": 2.0**-1}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    plain, augmented = (
        shared.measure(title, replace(PRESETS[preset], augment=augment), SHOWN_RATES[preset], store)
        for title, augment in AUGMENTATIONS.items()
    )
    more = {"augmented_shift_less_plain_shift": shared.contrast(plain.found, augmented.found)}
    return shared.finding((plain, augmented), CLAIM, shared.judge_all((plain.found, augmented.found)), more)
