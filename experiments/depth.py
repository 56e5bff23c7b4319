"""C5: the optimal learning rate transfers in depth where residual branches are scaled by depth^−½ or 1/depth.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457, on
depth; the rules are Depth-muP (arXiv 2310.02244, 2309.16620), α = ½, and CompleteP (arXiv 2505.01618), α = 1. Their
setting: residual ConvNets, one layer per block, SGD, CIFAR-10. Here (quick): residual MLP of width 64 under muP, SGD,
8,192 images of Fashion-MNIST, depths 2 to 16, 256 steps of batch 128. Its optimum lies near the edge of stability. With
Adam and a falling learning rate it does not, and there the claim failed in a trial: the optimum stayed with α = 0 too,
+0.00 [−0.24, +0.24] octaves per doubling, though the loss at depth 16 was half as large again.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of depth, on the late train
loss (mean over the last quarter): "holds" if the optimum transfers with α = ½ and with α = 1, and shifts downwards
with α = 0, compared up to depth 16 (at 32 it diverges at every learning rate); "fails" if it shifts with α = ½ or with
α = 1, or transfers with α = 0; else "inconclusive".

What was changed: with the loss of the last step alone depths 2 to 16 and 24 seeds left it open. Full goes to depth 32:
from 2 to 8 the optimum with α = ½ falls by half an octave, and hardly further from there on. In steps of √2 it was open
at −0.17 [−0.28, −0.06], however many seeds: the cliff lies at the optimum, so that α = ½ has steps of 2^¼ there now.
Found at full: α = 0 moves by −2.0, α = ½ stays at −0.18 [−0.24, −0.11], α = 1 at +0.13 [+0.03, +0.22].

Cost: about three minutes on two cores. Expected: shifts near 0 with α = ½ and α = 1, below −1 with α = 0.

    make figure-depth
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.core.grid import rounded
from sharplab.gallery.finding import Finding, Verdict

CLAIM = (
    "With residual branches scaled by depth^-1/2 or 1/depth, and their learning rates to match, the optimal learning "
    "rate stays where it is as the network deepens; without, it falls."
)
ALPHAS: Mapping[str, float] = {"α = 0": 0.0, "α = ½": 0.5, "α = 1": 1.0}
QUICK = replace(
    shared.SWEEP,
    depths=(2, 4, 8, 16),
    base_depth=2,
    widths=(64,),
    base_width=64,
    optimizer="sgd",
    learning_rates=(1.0,),  # each α's own, of GRIDS
    seeds=5,
    records=17,
    schedule="constant",
)
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP | {"widths": (8,)}, depths=(1, 2), base_depth=1),
    "quick": QUICK,
    "full": replace(QUICK, depths=(2, 4, 8, 16, 32), seeds=16),
    "paper": replace(
        QUICK, **shared.CIFAR_SWEEP, widths=(256,), base_width=256, depths=(3, 6, 12, 24, 48), base_depth=3
    ),
}
GRIDS: Mapping[str, tuple[float, ...]] = {
    "α = 0": shared.octaves(-2, 3),
    "α = ½": tuple(sorted({*shared.octaves(1, 4), *(rounded(2 ** (i / 4)) for i in range(8, 15))})),
    "α = 1": shared.octaves(2, 5),
}
DEEPEST_UNSCALED = 16  # of α = 0
SHOWN_RATES: Mapping[str, float] = {"α = 0": 2.0**-5, "α = ½": 2.0, "α = 1": 2.0}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    columns = []
    for title, alpha in ALPHAS.items():
        depths = tuple(depth for depth in PRESETS[preset].depths if alpha or depth <= DEEPEST_UNSCALED)
        sweep = replace(PRESETS[preset], alpha=alpha, learning_rates=GRIDS[title], depths=depths)
        columns.append(shared.measure(title, sweep, SHOWN_RATES[title], store, over="depth"))
    verdict = judge(*(column.found for column in columns))
    return shared.finding(columns, CLAIM, verdict)


def judge(plain: sl.Transfer, *scaled: sl.Transfer) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if plain.verdict == "transfers" or any(found.verdict == "shifts" for found in scaled):
        return "fails"
    moved = plain.verdict == "shifts" and plain.shift < 0
    return "holds" if moved and all(found.verdict == "transfers" for found in scaled) else "inconclusive"
