"""C9: the optimal learning rate of a transformer that learns text with Adam transfers in width under muP.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
appendix on language models (WikiText, Adam); the rule is that of Yang et al., arXiv 2203.03466, table 3, with attention
logits × 1/d. Here (quick): a decoder of two blocks on the bytes of the King James Bible, windows of 128 bytes, widths
16 to 64, 128 steps of batch 16, the learning rate falling linearly to 0.

Lower row: the sharpness in Adam's metric of 32 windows, with its stability threshold 38/η.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers under muP and shifts downwards under standard; "fails" if it shifts under muP or transfers under
standard; else "inconclusive".

Cost: about nine minutes on two cores. Expected: muP drifts by less than half an octave per doubling (others report
such a drift at small widths), standard by about −1. Found at full, widths 16 to 128 with five seeds: muP stays, −0.07
[−0.17, +0.02] octaves per doubling, standard −1.09 [−1.47, −0.71]; tuned at width 32, muP loses 0.0001 at 128, at most
0.002.

    make figure-gpt
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding

CLAIM = (
    "A transformer's optimal learning rate under Adam stays where it is with muP as the width grows, and falls without."
)
QUICK = replace(
    shared.SWEEP,
    model="gpt",
    data="king-james-bytes",
    base_depth=2,
    widths=(16, 32, 64),
    base_width=16,
    learning_rates={"standard": shared.octaves(-9, -4), "mup": shared.octaves(-7, -4)},
    parameterizations=("standard", "mup"),
    seeds=2,
    steps=128,
    batch_size=16,
    probe_size=64,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": shared.smoke(
        QUICK, shared.octaves(-9, -8), steps=4, widths=(8, 16), base_width=8, depths=(1,), base_depth=1
    ),
    "quick": QUICK,
    "full": replace(QUICK, widths=(16, 32, 64, 128), seeds=5),
    "paper": replace(
        QUICK,
        widths=(128, 256, 512, 1024),
        base_width=128,
        depths=(4,),
        base_depth=4,
        learning_rates={"standard": shared.octaves(-10, -6), "mup": shared.octaves(-8, -5)},
        seeds=3,
        data="wikitext-103",
        steps=5120,
        probe_size=256,
    ),
}
SHOWN_RATE = 2.0**-9
# Windows that the sharpness is of; quick: of 64 its products would see nearly as many as the sweep's steps.
PROBES: Mapping[str, int] = {"smoke": 4, "quick": 32, "full": 32, "paper": 256}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    return shared.against_standard(PRESETS[preset], SHOWN_RATE, store, CLAIM, probe_size=PROBES[preset], differ=False)
