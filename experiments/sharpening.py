"""C2: under muP the sharpness follows one trajectory at every width, up to 2/η; under NTK sharpening slows with width.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
Figures 1 and 2. Their setting: ConvNets on CIFAR-10 with augmentation, SGD, sharpness on 1,024 training images.
Here (quick): residual MLP of three blocks, α = ½, on 8,192 images of Fashion-MNIST, widths 32 to 256, 256 steps of
batch 128, the same 1,024-image probe; one learning rate per parameterization.

Upper row: effective sharpness of every width, mean and standard deviation over seeds, with 2/η. Lower row: its
spread over widths (standard deviation of log₂ of the seeds' mean) beside what seeds alone would give.

Rule of the verdict, on log₂ sharpness averaged over the second half of training, with 95 % intervals of its slope
per doubling of width (`sharplab.consistency`): "holds" if the muP slope lies within ±0.1 octaves and the NTK slope
wholly below −0.1; "fails" if the muP slope lies outside ±0.1 or the NTK slope within it; else "inconclusive".

Cost: about two minutes on two cores. Expected: the muP curves coincide and level off near 2/η, the NTK curves fan
out.

    make figure-sharpening
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sweep_columns as shared
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.trend import lies_outside, lies_within
from sharplab.gallery.finding import Finding, Verdict
from sharplab.optimizers import OPTIMIZERS
from sharplab.plotting import NAMES

CLAIM = (
    "Under muP the sharpness follows the same trajectory at every width, up to about 2/η; "
    "under NTK parameterization sharpening slows down as the width grows."
)
TOLERANCE = 0.1  # octaves of sharpness per doubling of width
QUICK = replace(shared.TRAJECTORIES, parameterizations=("mup", "ntk"), learning_rates={"mup": (0.25,), "ntk": (2.0,)})
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_TRAJECTORIES),
    "quick": QUICK,
    "full": replace(QUICK, widths=(32, 64, 128, 256, 512), seeds=12),
    "paper": replace(
        QUICK,
        **shared.CONVNET_TRAJECTORIES
        | {"widths": (64, 256, 1024, 4096), "learning_rates": {"mup": (0.5,), "ntk": (7.0,)}},
        depths=(2,),
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    records = sl.run(PRESETS[preset], store)
    found = sl.consistency(records, "sharpness", over="width")
    keys = ["parameterization", "width", "learning_rate", "seed", "step"]
    measured = ["train_loss", "sharpness", "sharpness_error", "sharpness_residual", "sharpness_matvecs"]
    return Finding(
        draw(records, found),
        records.curves[[*keys, *measured]],
        CLAIM,
        judge(found["mup"], found["ntk"]),
        {name: numbers(records.select(parameterization=name), of_one) for name, of_one in found.items()},
    )


def judge(mup: sl.Consistency, ntk: sl.Consistency) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    if lies_outside(mup.slope_interval, TOLERANCE) or lies_within(ntk.slope_interval, TOLERANCE):
        return "fails"
    slower = ntk.slope_interval[1] < -TOLERANCE
    return "holds" if lies_within(mup.slope_interval, TOLERANCE) and slower else "inconclusive"


def numbers(records: sl.Records, found: sl.Consistency) -> dict:
    """The numbers of the JSON file on one parameterization."""
    curves = records.curves
    rate = float(curves["learning_rate"].iloc[0])
    late = curves[curves["step"] >= curves["step"].max() / 2]
    plateau = late.groupby("width")["sharpness"].mean() / OPTIMIZERS["sgd"].threshold(rate)
    return {
        "learning_rate": rate,
        "late_spread_octaves": found.late_spread,
        "late_seed_noise_octaves": found.late_noise,
        "slope_octaves_per_doubling": found.slope,
        "slope_interval": found.slope_interval,
        "p_value_of_no_difference": found.p_value,
        "late_sharpness_over_threshold": {str(width): value for width, value in plateau.items()},
        "largest_relative_error_estimate": (curves["sharpness_error"] / curves["sharpness"].abs()).max(),
        "records_left_out": found.left_out,
    }


def draw(records: sl.Records, found: Mapping[str, sl.Consistency]) -> Figure:
    """The figure, a column per parameterization: the curves above, their spread below."""
    titles = {}
    for name, one in found.items():
        titles[name] = (NAMES[name], f"{one.slopes.late:+.2f}\noctaves of sharpness per doubling of width")
    return shared.draw_trajectories(dict(iter(records.curves.groupby("parameterization"))), found, titles)
