"""C1 with a learning rate that falls to 0: the optimum stays under muP and moves under NTK parameterization.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
Figure 1, whose learning rate is constant. People decay it, and then the optimum lies less near the cliff: what was too
large at first is made good. Here (quick): the ConvNet of the figure `transfer` on 8,192 images of Fashion-MNIST, widths
32 to 256, SGD, 256 steps of batch 128, the learning rate falling linearly to 0; final train loss.

Lower row: effective sharpness at one constant learning rate, with 2/η.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers under muP and shifts upwards under NTK; "fails" if it shifts under muP or transfers under NTK; else
"inconclusive".

Cost: about five minutes on two cores. Expected: as in the figure `transfer`, from smaller intervals.

    make figure-decay
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared
from transfer import judge

import sharplab as sl
from sharplab.gallery.finding import Finding

CLAIM = (
    "With a learning rate that falls to 0 too, the optimum is nearly the same at every width under muP, and not under "
    "NTK parameterization."
)
QUICK = replace(
    shared.SWEEP,
    model="figure1_convnet",
    base_width=1,
    parameterizations=("mup", "ntk"),
    optimizer="sgd",
    learning_rates={"mup": shared.octaves(0, 3), "ntk": shared.octaves(4, 7)},
    seeds={32: 6, 64: 5, 128: 4, 256: 3},
    probe_size=1024,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP | {"widths": (4, 8), "base_width": 1, "data": QUICK.data}),
    "quick": QUICK,
    "full": replace(QUICK, widths=(16, 32, 64, 128, 256), seeds={16: 12, 32: 12, 64: 10, 128: 8, 256: 6}),
    "paper": replace(
        QUICK,
        **shared.CIFAR_SWEEP,
        widths=(64, 128, 256, 512, 1024),
        learning_rates={"mup": shared.octaves(-3, 2), "ntk": shared.octaves(0, 7)},
    ),
}
SHOWN_RATES: Mapping[str, float] = {"mup": 1.0, "ntk": 4.0}  # stable at every width


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    mup, ntk = (
        shared.measure(title, replace(PRESETS[preset], parameterizations=(name,)), SHOWN_RATES[name], store)
        for name, title in (("mup", "muP"), ("ntk", "NTK"))
    )
    more = {"ntk_shift_less_mup_shift": shared.contrast(mup.found, ntk.found)}
    return shared.finding((mup, ntk), CLAIM, judge(mup.found, ntk.found), more)
