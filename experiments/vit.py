"""C9: a vision transformer's optimal learning rate under Adam stays where it is with muP, and falls without.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
figures on ViTs; the rule is that of Yang et al., arXiv 2203.03466, table 3, with attention logits × 1/d_head. Their
setting: patches of 4, 8 heads, LayerNorm, Adam, batch 64, 20 epochs, warm-up. Here (quick): one block of attention and
MLP on 8,192 images of Fashion-MNIST, widths 16 to 64, 128 steps of batch 32, the learning rate falling linearly to 0;
16 is the base width, where the two are one training run.

Lower row: the sharpness in Adam's metric of 128 images, with its stability threshold 38/η.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers under muP and shifts downwards under standard; "fails" if it shifts under muP or transfers under
standard; else "inconclusive".

What was changed at full: widths 16 to 128 with six seeds left muP open at the tolerance, −0.24 [−0.42, −0.05], so that
width 256 and ten seeds were planned; these left one optimum without an end, since the grid ended there, so that an
octave was added to muP's. Intervals do not count the looks. Found at full: muP −0.15 [−0.24, −0.05], standard −1.24
[−1.34, −1.14]; tuned at width 16, muP loses 0.016 of train loss at 256, at most 0.056, tuned at 128 at most 0.013.

Cost: about seven minutes on two cores. Expected: a shift near 0 under muP, about −½ to −1 under standard.

    make figure-vit
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding

CLAIM = (
    "A vision transformer's optimal learning rate under Adam stays where it is with muP as the width grows, "
    "and falls without."
)
QUICK = replace(
    shared.SWEEP,
    model="vit",
    depths=(1,),
    widths=(16, 32, 64),
    base_width=16,
    learning_rates={"standard": shared.octaves(-9, -5), "mup": shared.octaves(-8, -5)},
    parameterizations=("standard", "mup"),
    seeds=3,
    steps=128,
    batch_size=32,
    probe_size=512,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": shared.smoke(QUICK, shared.octaves(-9, -8), steps=4, widths=(8, 16), base_width=8),
    "quick": QUICK,
    "full": replace(
        QUICK,
        widths=(16, 32, 64, 128, 256),
        learning_rates={"standard": shared.octaves(-9, -5), "mup": shared.octaves(-8, -4)},
        seeds=10,
        steps=192,
    ),
    "paper": replace(
        QUICK,
        **shared.VIT_SWEEP,
        depths=(3,),
        base_depth=3,
        widths=(64, 128, 256, 512, 1024),
        base_width=64,
        learning_rates={"standard": shared.octaves(-13, -7), "mup": shared.octaves(-11, -7)},
    ),
}
SHOWN_RATE = 2.0**-9
# Images that the sharpness is of; quick: of 512 its products would see nearly as many as the sweep's steps.
PROBES: Mapping[str, int] = {"smoke": 4, "quick": 128, "full": 128, "paper": 1024}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    return shared.against_standard(PRESETS[preset], SHOWN_RATE, store, CLAIM, probe_size=PROBES[preset])
