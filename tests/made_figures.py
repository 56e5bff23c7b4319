"""Figures' scripts, verdicts for their rules to judge, and folders of figures as `save_finding` leaves them."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sharplab.gallery.entries import figure_scripts, load_script
from sharplab.gallery.finding import Finding, save_finding


def script(name):
    """The module of a figure, freshly executed."""
    return load_script(figure_scripts()[name])


def judged(verdict, shift=0.0):
    """What an analysis found, as far as rules read it."""
    return SimpleNamespace(verdict=verdict, shift=shift)


NUMBERS = {
    "mup": {"shift_per_doubling": 0.1, "shift_interval": (0.05, 0.15), "verdict": "transfers"},
    "ntk": {"shift_per_doubling": 0.8, "shift_interval": (0.5, 1.1), "verdict": "shifts"},
    "runs": 24,
}


def sweep_and_trajectories():
    """A table as the figures of transfer leave it, in which one run diverged."""
    rows = []
    for name in ("mup", "ntk"):
        for width in (8, 16):
            for seed in (0, 1):
                keys = {"parameterization": name, "width": width, "seed": seed}
                for rate in (0.5, 1.0, 2.0):
                    diverged = (name, width, rate, seed) == ("ntk", 8, 2.0, 1)
                    loss = 1.0 + (np.log2(rate) - 0.3) ** 2 + 0.1 * seed
                    last = {"learning_rate": rate, "step": 64, "train_loss": loss, "diverged": diverged}
                    rows.append(keys | last | {"part": "sweep"})
                for step in (0, 32, 64):
                    trajectory = {
                        "train_loss": 2.0 - step / 64,
                        "sharpness": 1 + step / 32 + seed,
                        "sharpness_error": 0.01,
                    }
                    rows.append(keys | {"learning_rate": 1.0, "step": step} | trajectory | {"part": "course"})
    return pd.DataFrame(rows)


def leave(folder, name, *, verdict="holds", preset="quick", claim="It is so.", numbers=NUMBERS, table=None):
    """Write the three files of a figure."""
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1], [0, 1])
    plt.close(figure)
    finding = Finding(figure, sweep_and_trajectories() if table is None else table, claim, verdict, numbers)
    save_finding(finding, name, folder, preset=preset, seconds=12.3)
