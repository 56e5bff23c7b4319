"""C1 and C2 with squared error in place of cross-entropy: the optimum stays under muP, the sharpness rises to 2/η.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457, whose
theory is of squared error and whose experiments are of cross-entropy, on ConvNets and CIFAR-10. Here (quick): MLP of
two hidden layers on 8,192 images of Fashion-MNIST with one-hot targets, widths 16 to 128, SGD, 256 steps of batch 128;
the train loss is the mean over the last quarter.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers under muP and shifts upwards under NTK, and the muP sharpness at the learning rate shown, averaged
over the second half of training, lies between ½ and 2 times 2/η at every width; "fails" if the optimum shifts under muP
or transfers under NTK, or that sharpness lies outside of these bounds at every width; else "inconclusive". At `full`
with steps of sqrt(2) the NTK shift, +0.19 [0.06, 0.31], stayed open "however many seeds": its optima lie within a step
of the cliff, so that NTK has steps of 2^¼ there now, as decided before they were run.

Cost: about two minutes on two cores. Expected: as in the figure `transfer`; sharpness somewhat below 2/η, as batches
of 128 keep it (arXiv 2103.00065 sees it at 2/η with full batches). Found at `full`: the optimum stays under NTK too,
+0.12 [−0.01, 0.25] octaves per doubling from width 32 to 512, all of it below 128; the sharpness under muP is 1.1 times
2/η.

    make figure-loss-mse
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.core.grid import rounded
from sharplab.gallery.finding import Finding, Verdict

CLAIM = (
    "With squared error too, the optimal learning rate stays where it is under muP, where the sharpness rises to about "
    "2/η at every width, and moves under NTK parameterization."
)
QUICK = replace(
    shared.SWEEP,
    model="mlp",
    widths=(16, 32, 64, 128),
    base_width=1,
    parameterizations=("mup", "ntk"),
    optimizer="sgd",
    learning_rates={"mup": shared.octaves(0, 3), "ntk": shared.octaves(2, 5)},
    loss="squared_error",
    seeds=4,
    records=17,
    schedule="constant",
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP | {"base_width": 1}),
    "quick": QUICK,
    "full": replace(
        QUICK,
        widths=(32, 64, 128, 256, 512),
        seeds=16,
        learning_rates={"mup": shared.octaves(0, 3), "ntk": tuple(rounded(2 ** (i / 4)) for i in range(4, 19))},
    ),
    "paper": replace(
        QUICK, **shared.CONVNET_SWEEP | {"learning_rates": {"mup": shared.octaves(-3, 2), "ntk": shared.octaves(0, 7)}}
    ),
}
SHOWN_RATES: Mapping[str, float] = {"mup": 2.0, "ntk": 4.0}  # stable at every width
BOUNDS = (0.5, 2.0)  # of late sharpness, in units of 2/η


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    mup, ntk = (
        shared.measure(title, replace(PRESETS[preset], parameterizations=(name,)), SHOWN_RATES[name], store)
        for name, title in (("mup", "muP"), ("ntk", "NTK"))
    )
    late_sharpness = shared.numbers((mup,))["muP"]["late_sharpness"]["mean"]
    late = {width: value / mup.threshold for width, value in late_sharpness.items()}
    verdict = judge(mup.found, ntk.found, late.values())
    return shared.finding((mup, ntk), CLAIM, verdict, {"mup_late_sharpness_over_threshold": late})


def judge(mup: sl.Transfer, ntk: sl.Transfer, late_sharpness: Iterable[float]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module.

    `late_sharpness` is that of each width in units of 2/η.
    """
    at_threshold = [BOUNDS[0] <= sharpness <= BOUNDS[1] for sharpness in late_sharpness]
    if mup.verdict == "shifts" or ntk.verdict == "transfers" or not any(at_threshold):
        return "fails"
    moves = ntk.verdict == "shifts" and ntk.shift > 0
    return "holds" if mup.verdict == "transfers" and moves and all(at_threshold) else "inconclusive"
