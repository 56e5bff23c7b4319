"""C6: under muP the top of the Hessian is that of its Gauss-Newton part, at every width; under NTK G hardly moves.

Paper: Noci et al., Super Consistency of Neural Network Landscapes and Learning Rate Transfer, arXiv 2402.17457,
section 4: H = G + R, G the Gauss-Newton matrix and R the part that the residuals weigh. Its setting: two-layer linear
network, squared error, random data; ConvNets. Here (quick): the linear network on 1,024 random examples of a ReLU
teacher (16 inputs, 4 outputs), full-batch descent, widths 16 to 1,024; and the ConvNet of Figure 1 on 8,192 images of
Fashion-MNIST, 128 steps of batch 128, widths 8 to 32, with cross-entropy and with squared error. All eigenvalues are in
the metric of the step, D^½HD^½.

Upper rows: loss and largest eigenvalues of H, G and R of the linear network: dots trained, the mean over seeds; lines
the closed dynamics of `sharplab.theory` from the same weights; dashed the closed dynamics of infinite width (under NTK,
where the initial function stays random, the mean and standard deviation of 16 draws). Lowest row: G's share of the
curvature along the top eigenvector v of H, vᵀGv/vᵀHv, muP solid and NTK dotted, of the linear network and of the
ConvNet under two losses; last, how far λmax(G) has grown by the second half of training.

Rule of the verdict, on means over the second half of training, with 95 % intervals from the seeds. "holds" if
  (1) under muP, in each of the three settings, G's share is at least 0.9 at each width, and its slope over widths lies
      within ±0.05 octaves per doubling;
  (2) in the linear network λmax(G) grows by more than ½ octave under muP at each width, and at the largest width moves
      by less than ¼ octave under NTK;
"fails" if an interval contradicts any of these wholly; else "inconclusive".
A first draft also wanted the growth of λmax(G) alike at every width under muP, and falling with width under NTK. It was
dropped on seeing the smoke preset, before any quick run; by the quick numbers it would have said "fails". Both slopes
are in the JSON file.

Cost: about three minutes on two cores. Expected: R holds most of the curvature before training under muP, and G nearly
all of it once features are learned. Narrow linear networks begin with a larger λmax(G), as the largest eigenvalue of
their random Q is about (1 + √(16/N))² times that of infinite width: they grow by less, to the same value. Found at full
(linear networks to width 1,024, eight seeds; ConvNets to 64, six): late, under muP, G holds 0.955 to 0.974 of the
ConvNets' curvature under cross-entropy, 0.991 to 0.995 under squared error, and all but 10^−4 of the linear networks'.

    make figure-gauss-newton
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gauss_newton_trajectories as trajectories
import numpy as np
import pandas as pd
from gauss_newton_evidence import Evidence, growth_of, share_of
from gauss_newton_picture import draw
from sweep_columns import CIFAR_SWEEP

import sharplab as sl
from sharplab.core.evidence import measured
from sharplab.core.statistics import Interval
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import NAMES

CLAIM = (
    "Under muP the largest Hessian eigenvalue is that of the Gauss-Newton part, to the same degree at every width; "
    "under NTK parameterization a wide network is lazy, and its Gauss-Newton matrix hardly moves."
)
LEAST_SHARE, SHARE_TOLERANCE = 0.9, 0.05  # of G at the top of H; octaves per doubling
LEAST_GROWTH, LAZY_GROWTH = 0.5, 0.25  # octaves of λmax(G)

LINEAR = sl.Experiment(
    model="linear_network",
    depths=(2,),
    widths=(16, 64, 256, 1024),
    learning_rates=(0.5,),
    alpha=0.0,
    seeds=4,
    loss="squared_error",
    data="teacher-student",
    steps=64,
    batch_size=1024,
    probe_size=1024,
    records=17,
)
CONVNET = sl.Experiment(
    model="figure1_convnet",
    depths=(2,),
    widths=(8, 16, 32),
    learning_rates={"mup": (1.0,), "ntk": (4.0,)},
    seeds=3,
    steps=128,
    batch_size=128,
    probe_size=512,
    records=9,
)
SQUARED_RATES: Mapping[str, float] = {"mup": 0.5, "ntk": 2.0}
# Setting → preset → what is trained.
SETTINGS: Mapping[str, Mapping[str, sl.Experiment]] = {
    "linear network": {
        "smoke": replace(LINEAR, widths=(8,), seeds=2, records=5),
        "quick": LINEAR,
        "full": replace(LINEAR, seeds=8),
        "paper": replace(LINEAR, widths=(16, 64, 256, 1024, 4096), seeds=8),
    },
    "ConvNet, cross-entropy": {
        "smoke": replace(CONVNET, widths=(8,), parameterizations=("mup",), seeds=2, steps=8, records=3, probe_size=64),
        "quick": CONVNET,
        "full": replace(CONVNET, widths=(8, 16, 32, 64), seeds=6),
        "paper": replace(CONVNET, **CIFAR_SWEEP, widths=(64, 256, 1024), records=21, probe_size=1024),
    },
}


def squared(experiment: sl.Experiment) -> sl.Experiment:
    """The experiment with squared error, whose Gauss-Newton matrix does not shrink as classes become certain."""
    rates = {name: (SQUARED_RATES[name],) for name in experiment.parameterizations}
    return replace(experiment, loss="squared_error", learning_rates=rates)


def experiments(preset: str) -> dict[str, sl.Experiment]:
    """The experiment of each setting at a preset."""
    found = {name: presets[preset] for name, presets in SETTINGS.items()}
    return found | {"ConvNet, squared error": squared(found["ConvNet, cross-entropy"])}


def find(preset: str, store: Path) -> Finding:
    """Train and measure (nothing is stored), compute the closed trajectories, draw the figure, and judge the claim."""
    settings = experiments(preset)
    trained = measured(
        "trained",
        lambda: pd.concat(
            [trajectories.measure(experiment).assign(setting=name) for name, experiment in settings.items()]
        ),
    )
    closed = measured("closed", lambda: trajectories.closed_trajectories(settings["linear network"]))
    linear = trained[trained["setting"] == "linear network"]
    shares = {key: share_of(part) for key, part in trained.groupby(["setting", "parameterization"], sort=False)}
    growths = {name: growth_of(part) for name, part in linear.groupby("parameterization", sort=False)}
    stated = {
        f"{setting}, {NAMES[name]}": numbers(part, shares[setting, name])
        for (setting, name), part in trained.groupby(["setting", "parameterization"], sort=False)
    }
    return Finding(
        draw(trained, closed, shares, growths, LEAST_SHARE),
        pd.concat([trained.assign(part="trained"), closed.assign(part="closed", setting="linear network")]),
        CLAIM,
        judge(shares, growths),
        stated
        | {f"growth of G, {NAMES[name]}": with_intervals(found) for name, found in growths.items()}
        | {"closed_dynamics": trajectories.deviations(linear, closed)},
    )


def judge(shares: Mapping[tuple[str, str], Evidence], growths: Mapping[str, Evidence]) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module.

    Each quantity's interval is compared with the range in which the claim has it.
    """
    wanted: list[tuple[Interval, Interval]] = []
    for (_, parameterization), share in shares.items():
        if parameterization == "mup":
            wanted += [(interval, (LEAST_SHARE, np.inf)) for _, interval in share.means.values()]
            wanted += [(share.slope[1], (-SHARE_TOLERANCE, SHARE_TOLERANCE))]
    lazy = growths["ntk"].means
    wanted += [(interval, (LEAST_GROWTH, np.inf)) for _, interval in growths["mup"].means.values()]
    wanted += [(lazy[max(lazy)][1], (-LAZY_GROWTH, LAZY_GROWTH))]
    if any(interval[1] < low or interval[0] > high for interval, (low, high) in wanted):
        return "fails"
    met = all(low <= interval[0] and interval[1] <= high for interval, (low, high) in wanted)
    return "holds" if met else "inconclusive"


def numbers(trained: pd.DataFrame, share: Evidence) -> dict:
    """The numbers of the JSON file on one setting and parameterization."""
    start = trained[trained["step"] == 0].groupby("width")["share"].mean()
    solved = [name for name in trajectories.OPERATORS if trained[name].notna().any()]
    return {
        "learning_rate": float(trained["learning_rate"].iloc[0]),
        "share_of_gauss_newton": with_intervals(share),
        "share_before_training": {str(width): value for width, value in start.items()},
        "largest_error_estimate_over_top_of_hessian": {
            name: (trained[f"{name}_error"] / trained["hessian"]).max() for name in solved
        },
        "diverged_runs": int(trained.groupby(["width", "seed"])["loss"].apply(lambda loss: loss.isna().any()).sum()),
    }


def with_intervals(found: Evidence) -> dict[str, dict]:
    """The late means and the slope of a quantity with their intervals, as the JSON file has them."""
    per_width = {str(width): {"mean": mean, "interval": interval} for width, (mean, interval) in found.means.items()}
    value, interval = found.slope
    return {"late": per_width, "slope_octaves_per_doubling": {"value": value, "interval": interval}}
