"""C5: Depth-muP transfers in depth with one layer per residual block, and not with two or three.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457, on
depth. Their setting: residual ConvNets in three stages, depths 3 to 192, CIFAR-10, SGD with warm-up. Here (quick): the
same network with 8 channels on 8,192 images of Fashion-MNIST, depths 3 to 12, 96 steps of batch 32, the learning rate
falling linearly to 0.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of depth: "holds" if the
optimum transfers with one layer per block and shifts with two and with three; "fails" if it shifts with one, or
transfers with two or with three; else "inconclusive".

Cost: about six minutes on two cores; at full, depths to 24, 192 steps and 32 to 64 seeds, three hours. Expected: at
these depths the three can hardly be told apart (the paper's own optimum for two layers moves by a factor of 2.7 from
depth 3 to 48). Found at full: so. The optimum transfers with one layer per block, −0.09 [−0.24, 0.05] octaves per
doubling, and with three, −0.07 [−0.23, 0.09]; with two it is open, −0.13 [−0.27, 0.02], nearer to a transfer than a
shift. All end at a cliff that lies elsewhere for each seed, by a factor of up to 8: some seeds diverge at the mean of
the best rates. The paper's contrast is one of more depth than there is here. A first run at full had four seeds and a
grid that ended before most seeds' optimum; the next ones, of eight and sixteen from 2^−1 on, left all three open. The
grid begins at 2^0, as no optimum of theirs lay below; 1 % of all seeds have theirs at that end.

    make figure-depth-convnet
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding, Verdict

CLAIM = (
    "With branches scaled by depth^-1/2 the optimal learning rate transfers in depth for one layer per residual block, "
    "and not for two or three."
)
MODELS: Mapping[str, str] = {
    "one layer per block": "residual_convnet",
    "two layers per block": "residual_convnet_k2",
    "three layers per block": "residual_convnet_k3",
}
QUICK = replace(
    shared.SWEEP,
    model="residual_convnet",
    depths=(3, 6, 12),
    base_depth=3,
    widths=(8,),
    base_width=8,
    optimizer="sgd",
    learning_rates=shared.octaves(-2, 1),
    seeds=2,
    steps=96,
    batch_size=32,
    probe_size=512,
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": shared.smoke(QUICK, shared.octaves(-2, -1), steps=2, widths=(2,), base_width=2, depths=(3, 6)),
    "quick": QUICK,
    "full": replace(
        QUICK,
        depths=(3, 6, 12, 24),
        learning_rates=shared.octaves(0, 3, 2),
        refine=False,
        seeds=48,
        steps=192,
    ),
    "paper": replace(
        QUICK,
        **shared.CIFAR_SWEEP,
        widths=(32,),
        base_width=32,
        depths=(3, 6, 12, 24, 48),
        batch_size=128,
        probe_size=1024,
        schedule="constant",
    ),
}
SHOWN_RATE = 2.0**-1
# Other than the preset's: three layers were decided with 16, 24 and 32 alike, two were open with 16, 32, 48 and 64.
SEEDS: Mapping[tuple[str, str], int] = {("full", "two layers per block"): 64, ("full", "three layers per block"): 32}
# Images that the sharpness is of; quick: of 512 its products would see more than the sweep's steps.
PROBES: Mapping[str, int] = {"smoke": 4, "quick": 128, "full": 128, "paper": 1024}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    columns = []
    for title, model in MODELS.items():
        seeds = SEEDS.get((preset, title), PRESETS[preset].seeds)
        sweep = replace(PRESETS[preset], model=model, seeds=seeds)
        columns.append(shared.measure(title, sweep, SHOWN_RATE, store, over="depth", probe_size=PROBES[preset]))
    verdict = judge(*(column.found for column in columns))
    return shared.finding(columns, CLAIM, verdict)


def judge(one: sl.Transfer, *several: sl.Transfer) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    verdicts = {transfer.verdict for transfer in several}
    if one.verdict == "shifts" or "transfers" in verdicts:
        return "fails"
    return "holds" if one.verdict == "transfers" and verdicts == {"shifts"} else "inconclusive"
