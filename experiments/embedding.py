"""Is the embedding's learning rate all that standard parameterization lacks? Adam, a transformer that learns text.

Paper: arXiv 2605.21486, which finds that under AdamW the standard parameterization keeps the optimal learning rate as
muP does once the embedding's learning rate grows with the width. Everett et al., arXiv 2407.05872, give every layer an
exponent of its own, of which this is one. Here (quick): the decoder of two blocks of the figure `gpt`, on the bytes of
the King James Bible, Adam, widths 16 to 64, 128 steps of batch 16, the learning rate falling linearly to 0; 16 is the
base width, where all are one training run.

The table of tokens and that of positions are divided by the width's ratio to the base and multiplied by it again: the
network is the same, and Adam's step in it larger by that ratio. Lower row: the sharpness in Adam's metric of 32
windows, with its stability threshold 38/η.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width, on standard
parameterization with the embedding's learning rate times the width's ratio: "holds" if the optimum transfers; "fails"
if it shifts; else "inconclusive". The difference of its shift from those of muP and of standard is stated.

Cost: about nine minutes on two cores; standard and muP are runs of the figure `gpt` too. Expected: a shift between the
two: hidden layers too have steps that grow with their fan-in. Found at full: a shift as large as standard's, −1.12
[−1.43, −0.81] octaves per doubling, which differs from that by −0.03 [−0.43, 0.37] and from muP's by −1.04 [−1.35,
−0.74]. The faster embedding mends nothing here, and takes the first steps of widths 64 and 128 far over the threshold.

    make figure-embedding
"""

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import gpt
import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding, Verdict
from sharplab.models.gpt import GPT
from sharplab.models.layers import multiplier
from sharplab.scaling import Rule

CLAIM = (
    "In standard parameterization with the embedding's learning rate times the width, Adam's optimal learning rate "
    "stays where it is as the width grows."
)


class FastEmbedding(GPT):
    """The decoder whose tables of tokens and positions have, under Adam, the width's ratio times the learning rate."""

    def __init__(self, *, rule: Rule, **settings: Any) -> None:
        super().__init__(rule=rule, **settings)
        for table in (self.tokens, self.positions):
            table.rows[...] /= rule.ratio
            table.multiplier = multiplier(rule.ratio * rule.multiplier("input", 1, sqrt(0.5)))


FAST = "embedding:FastEmbedding@1"
PRESETS: Mapping[str, sl.Experiment] = gpt.PRESETS
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "standard": {"parameterizations": ("standard",)},
    "standard, fast embedding": {"parameterizations": ("standard",), "model": FAST},
    "muP": {"parameterizations": ("mup",)},
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    columns = [
        shared.measure(title, replace(PRESETS[preset], **changes), gpt.SHOWN_RATE, store, probe_size=gpt.PROBES[preset])
        for title, changes in COLUMNS.items()
    ]
    standard, fast, mup = (column.found for column in columns)
    more = {
        "fast_embedding_shift_less_standard_shift": shared.contrast(standard, fast),
        "fast_embedding_shift_less_mup_shift": shared.contrast(mup, fast),
    }
    return shared.finding(columns, CLAIM, judge(fast), more)


def judge(fast: sl.Transfer) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if fast.verdict == "inconclusive":
        return "inconclusive"
    return "holds" if fast.verdict == "transfers" else "fails"
