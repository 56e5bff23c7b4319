"""C9: under muP the optimal learning rate stays where it is as the width grows, at small and large batches alike.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
appendix on batch size. Their setting: ConvNets on CIFAR-10, SGD. Here (quick): residual MLP of two blocks under muP on
8,192 images of Fashion-MNIST, widths 32 to 256, Adam (its optimum lies apart from the edge of stability), 256 steps of
32, 128 or 512 examples, the learning rate falling linearly to 0.

Lower row: effective sharpness, with its stability threshold 38/η. Below: how the optimum goes with the batch size at
the largest width. The theory of noise-limited training (arXiv 2006.09092) lets it grow as the square root under Adam,
+½ octave per doubling; where curvature limits it, by nothing.

Rule of the verdict, by `sharplab.transfer` with a tolerance of ±0.25 octaves per doubling of width: "holds" if the
optimum transfers at every batch size; "fails" if it shifts at any; else "inconclusive". How it goes with the batch
size is stated and not judged.

Cost: about three minutes on two cores; the batches of 128 are runs of the figure `adam` too. Expected: shifts near 0 in
width, between 0 and +½ octave per doubling of the batch.

    make figure-batch-size
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared

import sharplab as sl
from sharplab.gallery.finding import Finding

CLAIM = "Under muP the optimal learning rate stays where it is as the width grows, at small and large batches alike."
QUICK = shared.SWEEP
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_SWEEP),
    "quick": QUICK,
    "full": replace(QUICK, **shared.FULL_SWEEP),
    "paper": replace(QUICK, **shared.CONVNET_SWEEP),
}
BATCH_SIZES = (32, 128, 512)
SHOWN_RATES: Mapping[str, float] = {"smoke": 2.0**-8, "quick": 2.0**-8, "full": 2.0**-8, "paper": 2.0**-1}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    columns = [
        shared.measure(f"batch {size}", replace(PRESETS[preset], batch_size=size), SHOWN_RATES[preset], store)
        for size in BATCH_SIZES
    ]
    over_batch = shared.shifts_over("batch_size", [column.finals for column in columns])
    more = {
        "octaves_per_doubling_of_batch_size": {
            str(width): {"shift": found.shift, "interval": found.shift_interval} for width, found in over_batch.items()
        }
    }
    return shared.finding(columns, CLAIM, shared.judge_all(column.found for column in columns), more, note(over_batch))


def note(over_batch: Mapping[int, sl.Transfer]) -> str:
    """The shift of the largest width's optimum with the batch size, in words."""
    width, found = max(over_batch.items())
    low, high = found.shift_interval
    return f"With the batch, at width {width}: {found.shift:+.2f} [{low:+.2f}, {high:+.2f}] octaves per doubling of it"
