"""C8: under Adam too, muP keeps the optimal learning rate where it is; in standard parameterization it halves.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
appendix on Adam; the rule is that of Yang et al., arXiv 2203.03466, table 3. Their setting: ViTs and transformers.
Here (quick): residual MLP of two blocks on 8,192 images of Fashion-MNIST, widths 32 to 256, 256 steps of batch 128, the
learning rate falling linearly to 0; 32 is the base width, where the two are one training run.

Lower row: the sharpness in Adam's metric, λmax(D^½HD^½), with its stability threshold 38/η.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers under muP and shifts downwards under standard; "fails" if it shifts under muP or transfers under
standard; else "inconclusive".

Cost: about two minutes on two cores. Expected: a shift near 0 under muP; under standard towards the −1
octave per doubling that larger networks show (−0.8 between widths 64 and 512 in an earlier trial here).

    make figure-adam
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding

CLAIM = (
    "Under Adam the optimal learning rate stays where it is with muP, "
    "and about halves with each doubling of the width without."
)
QUICK = replace(
    shared.SWEEP,
    learning_rates={"standard": shared.octaves(-9, -5), "mup": shared.octaves(-8, -5)},
    parameterizations=("standard", "mup"),
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(
        QUICK, **shared.SMALL_SWEEP, learning_rates={"standard": shared.octaves(-7, -4), "mup": shared.octaves(-7, -4)}
    ),
    "quick": QUICK,
    "full": replace(QUICK, **shared.FULL_SWEEP),
    "paper": replace(QUICK, **shared.CIFAR_SWEEP, widths=(128, 256, 512, 1024, 2048, 4096), base_width=128),
}
SHOWN_RATE = 2.0**-8  # stable at every width in both


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    return shared.against_standard(PRESETS[preset], SHOWN_RATE, store, CLAIM)
