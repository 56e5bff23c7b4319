"""Which parameterizations keep Adam's optimal learning rate: muP, mean field, and any with a rate for each layer.

Paper: Yang et al., Tensor Programs V, arXiv 2203.03466; Everett et al., Scaling Exponents Across Parameterizations and
Optimizers, arXiv 2407.05872, which gives each layer of every parameterization the exponent of learning rate at which
fully aligned steps move its outputs by as much at every width. Their setting: language models up to 27 billion
parameters. Here (quick): residual MLP of two blocks on 8,192 images of Fashion-MNIST, widths 32 to 256, 256 steps of
batch 128, the learning rate falling linearly to 0; 32 is the base width, where all are one training run.

Five columns: standard and NTK with one learning rate for all layers; standard with one per layer, to which NTK with one
per layer is equal by the abc symmetry; muP; mean field, which by that symmetry is muP in other units (runs of one
learning rate and seed differ by rounding alone, and the JSON file says by how much). muP has an exponent for each layer
from the outset; standard with one per layer differs from it in the readout alone, drawn √width larger.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers under muP, mean field and standard per layer, and shifts under standard and NTK with one learning
rate; "fails" if it shifts under one of the former or transfers under one of the latter; else "inconclusive".

Cost: about five minutes on two cores; standard and muP are runs of the figure `adam` too. Expected: standard about
−0.6 octaves per doubling, NTK about half of that, the others near 0. Found at quick: muP and mean field near 0,
standard −0.6, but NTK with one learning rate and standard with one per layer −0.55 both. Found at full, widths 32 to
512 with ten seeds: the same, with standard at −0.75 [−1.01, −0.49], NTK at −0.52 [−0.58, −0.46], one per layer at −0.56
[−0.63, −0.49], muP at +0.05 [−0.03, 0.12] and mean field at +0.04 [−0.03, 0.12].

    make figure-parameterizations
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding, Verdict
from sharplab.models.residual_mlp import ResidualMLP
from sharplab.scaling import Rule

CLAIM = (
    "Adam's optimal learning rate stays where it is as the width grows under muP, under mean field, which is muP in "
    "other units, and in standard or NTK parameterization with an exponent per layer; with one learning rate it moves."
)


class LargeReadout(ResidualMLP):
    """Under "mup": standard, and so NTK, parameterization with the per-layer exponents of full alignment, for Adam.

    By the abc symmetry they are muP but for the readout, which is drawn with fan-in^−½ in place of fan-in^−1.
    """

    def __init__(self, *, rule: Rule, **settings: Any) -> None:
        super().__init__(rule=rule, **settings)
        self.readout.kernel[...] *= sqrt(rule.ratio)


PER_LAYER = "parameterizations:LargeReadout@1"
QUICK = shared.SWEEP
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP, depths=(1,), base_depth=1),
    "quick": QUICK,
    "full": replace(QUICK, **shared.FULL_SWEEP),
    "paper": replace(QUICK, **shared.CIFAR_SWEEP, widths=(128, 256, 512, 1024, 2048, 4096), base_width=128),
}
SHOWN_RATE = 2.0**-8  # stable at every width in all
# What of the sweep each column changes; with one learning rate for all layers optima fall, so those grids begin lower.
LOWER = shared.octaves(-9, -5)
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "standard, one rate": {"parameterizations": ("standard",), "learning_rates": LOWER},
    "NTK, one rate": {"parameterizations": ("ntk",), "learning_rates": LOWER},
    "standard or NTK, rate per layer": {"model": PER_LAYER},
    "muP": {},
    "mean field": {"parameterizations": ("mean_field",), "learning_rates": shared.octaves(-8, -5)},
}
ONE_RATE = ("standard, one rate", "NTK, one rate")


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    columns = [
        shared.measure(title, replace(PRESETS[preset], **changes), SHOWN_RATE, store)
        for title, changes in COLUMNS.items()
    ]
    finals = {column.title: column.finals for column in columns}
    verdict = judge(
        (column.found for column in columns if column.title in ONE_RATE),
        (column.found for column in columns if column.title not in ONE_RATE),
    )
    more = {"mean_field_against_mup": distance(finals["mean field"], finals["muP"])}
    return shared.finding(columns, CLAIM, verdict, more)


def judge(one_rate: Iterable[sl.Transfer], per_layer: Iterable[sl.Transfer]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    one, layered = ({found.verdict for found in group} for group in (one_rate, per_layer))
    if "transfers" in one or "shifts" in layered:
        return "fails"
    return "holds" if one == {"shifts"} and layered == {"transfers"} else "inconclusive"


def distance(a: sl.Records, b: sl.Records) -> dict[str, float]:
    """The distance of final losses at equal width, learning rate and seed, beside the spread over seeds.

    Medians over such pairs, and over widths and learning rates, of |ln loss ratio| and of the standard deviation of
    ln loss over seeds; what diverged is left out.
    """
    keys = ["width", "learning_rate", "seed"]
    losses = [
        np.log(part.runs.set_index(keys)[shared.METRIC].where(lambda loss: np.isfinite(loss)).dropna())
        for part in (a, b)
    ]
    apart = (losses[0] - losses[1]).abs().dropna()
    over_seeds = losses[1].groupby(keys[:2]).std()
    return {
        "pairs": len(apart),
        "median_relative_difference": float(apart.median()),
        "median_relative_spread_of_seeds": float(over_seeds.median()),
    }
