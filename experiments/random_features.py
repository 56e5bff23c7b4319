"""C7: where only the readout learns, there is neither progressive sharpening nor the consistency of muP.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457, on
random features: all layers but the last are left as they were drawn. Here (quick): residual MLP of three blocks under
muP on 8,192 images of Fashion-MNIST, widths 32 to 256, 256 steps of batch 128, all layers trained beside the readout
alone, at one learning rate; effective sharpness (of the trained parameters) on 1,024 training images.

Upper row: effective sharpness of every width, mean and standard deviation over seeds, with 2/η. Lower row: its spread
over widths (standard deviation of log₂ of the seeds' mean) beside what seeds alone would give.

Rule of the verdict: the rise is log₂ of the sharpness averaged over the second half of training, over the one at the
start, its mean over all runs with a 95 % t interval from the noise of seeds within widths. "holds" if, with the readout
alone, the rise surely lies within ±½ octave and the sharpness shows finite-size effects (`sharplab.consistency`), while
with all layers the rise is surely above ½ octave; "fails" if the readout's rise is surely above ½ octave, its sharpness
is super consistent, or the rise with all layers is surely below ½ octave; else "inconclusive".

Cost: about two minutes on two cores. Expected: no rise with the readout alone, as its Gauss-Newton matrix changes by
the outputs alone. Its kernel converges in width, so that whether it is inconsistent has to be seen. Found at full, with
24 seeds: no rise, and one trajectory at every width (late slope +0.01 [−0.04, +0.06]), so that half of the claim fails.

    make figure-random-features
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import sweep_columns as shared
from matplotlib.figure import Figure

import sharplab as sl
from sharplab.analysis.trend import lies_within, pooled_noise
from sharplab.core.statistics import Interval
from sharplab.gallery.finding import Finding, Verdict

CLAIM = (
    "Where only the readout learns, the sharpness neither rises along training nor follows one trajectory at every "
    "width."
)
TRAINED: Mapping[str, str] = {"all": "all layers", "readout": "readout alone"}
RISE = 0.5  # octaves
QUICK = shared.TRAJECTORIES
PRESETS: Mapping[str, sl.Experiment] = {
    "smoke": replace(QUICK, **shared.SMALL_TRAJECTORIES),
    "quick": QUICK,
    "full": replace(QUICK, widths=(32, 64, 128, 256, 512), seeds=24),
    "paper": replace(QUICK, **shared.CONVNET_TRAJECTORIES),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    records = {name: sl.run(replace(PRESETS[preset], trainable=name), store) for name in TRAINED}
    agreed = {name: sl.consistency(one, "sharpness")["mup"] for name, one in records.items()}
    rises = {name: rise(one) for name, one in records.items()}
    measured = ["train_loss", "sharpness", "sharpness_error", "sharpness_residual"]
    tables = [
        one.curves[["width", "learning_rate", "seed", "step", *measured]].assign(trainable=name)
        for name, one in records.items()
    ]
    stated = {name: numbers(agreed[name], rises[name]) for name in TRAINED}
    picture = draw(records, agreed, rises)
    return Finding(picture, pd.concat(tables, ignore_index=True), CLAIM, judge(agreed["readout"], rises), stated)


def rise(records: sl.Records) -> tuple[float, Interval]:
    """The rise of the sharpness in octaves from the first record to the mean of the second half, with its interval."""
    curves = records.curves
    octaves = curves.assign(octaves=np.log2(curves["sharpness"].where(curves["sharpness"] > 0)))
    runs = octaves.pivot(index="step", columns=["width", "seed"], values="octaves")
    risen = (runs[runs.index >= runs.index.max() / 2].mean() - runs.iloc[0]).dropna()
    noise = pooled_noise([group.to_numpy() for _, group in risen.groupby(level="width")])
    return float(risen.mean()), noise.scaled(1 / len(risen)).interval(float(risen.mean()), 0.95)


def judge(readout: sl.Consistency, rises: Mapping[str, tuple[float, Interval]]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    (_, of_all), (_, of_readout) = rises["all"], rises["readout"]
    if of_readout[0] > RISE or readout.verdict == "super consistent" or of_all[1] < RISE:
        return "fails"
    sharpens = of_all[0] > RISE and lies_within(of_readout, RISE)
    return "holds" if sharpens and readout.verdict == "finite-size effects" else "inconclusive"


def numbers(agreed: sl.Consistency, risen: tuple[float, Interval]) -> dict:
    """The numbers of the JSON file on one way to train."""
    return {
        "rise_octaves": risen[0],
        "rise_interval": risen[1],
        "late_slope": agreed.slope,
        "late_slope_interval": agreed.slope_interval,
        "late_spread_octaves": agreed.late_spread,
        "late_seed_noise_octaves": agreed.late_noise,
        "verdict": agreed.verdict,
        "records_left_out": agreed.left_out,
    }


def draw(
    records: Mapping[str, sl.Records], agreed: Mapping[str, sl.Consistency], rises: Mapping[str, tuple[float, Interval]]
) -> Figure:
    """The figure, a column for each way to train: the curves above, their spread below."""
    titles = {}
    for name, (value, (low, high)) in rises.items():
        said = f"sharpness rises by {value:+.2f} [{low:+.2f}, {high:+.2f}] octaves"
        titles[name] = (TRAINED[name], f"{agreed[name].verdict}\n{said}")
    curves = {name: one.curves for name, one in records.items()}
    return shared.draw_trajectories(curves, agreed, titles, legend="upper right")
