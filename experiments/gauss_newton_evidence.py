"""The quantities that the figure `gauss-newton` judges: means late in training, with intervals from the seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

import sharplab as sl
from sharplab.analysis.trend import pooled_noise
from sharplab.core.statistics import Interval


@dataclass(frozen=True)
class Evidence:
    """Means of one quantity over the second half of training under one parameterization, with 95 % intervals."""

    means: Mapping[int, tuple[float, Interval]]  # over seeds, per width with its interval
    slope: tuple[float, Interval]  # per doubling of width, in octaves of the quantity, with its interval


def share_of(trained: pd.DataFrame) -> Evidence:
    """The Gauss-Newton matrix's share of the curvature along the top eigenvector of the Hessian."""
    return evidence_of(trained, "share", lambda share: share)


def growth_of(trained: pd.DataFrame) -> Evidence:
    """The growth of λmax(G) since the start of training, in octaves."""
    start = trained.groupby(["width", "seed"])["gauss_newton"].transform("first")
    return evidence_of(trained.assign(growth=trained["gauss_newton"] / start), "growth", np.log2)


def evidence_of(trained: pd.DataFrame, quantity: str, scale: Callable[[pd.Series], pd.Series]) -> Evidence:
    """The means of scale(quantity) over the runs of one parameterization."""
    keys = ["parameterization", "width", "learning_rate", "seed"]
    (agreed,) = sl.consistency(sl.Records(trained[keys].drop_duplicates(), trained), quantity).values()
    late = trained[trained["step"] >= trained["step"].max() / 2]
    per_run = scale(late[quantity]).groupby([late["width"], late["seed"]]).mean()
    groups = {int(width): values.to_numpy() for width, values in per_run.groupby("width")}
    noise = pooled_noise(list(groups.values()))
    means = {}
    for width, values in groups.items():
        mean = float(values.mean())
        means[width] = mean, noise.scaled(1 / len(values)).interval(mean, 0.95)
    return Evidence(means, (agreed.slope, agreed.slope_interval))
