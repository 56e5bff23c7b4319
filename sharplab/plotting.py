"""The house style, and one function per kind of panel: they take axes, arrays and tables, and draw."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    import pandas as pd

STYLE: Mapping[Any, Any] = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.4,
}
NAMES: Mapping[str, str] = {"mup": "muP", "ntk": "NTK", "standard": "standard", "mean_field": "mean field"}


@contextmanager
def house_style() -> Iterator[None]:
    """Within it, figures look like this lab's."""
    with mpl.rc_context(dict(STYLE)):
        yield


def size_colours(sizes: Sequence[int]) -> dict[int, Any]:
    """One colour per size, dark to light on a perceptual scale that colour-blind readers can order too."""
    ordered = sorted(sizes)
    shades = np.linspace(0.0, 0.85, len(ordered)) if len(ordered) > 1 else [0.4]
    return {size: plt.get_cmap("viridis")(shade) for size, shade in zip(ordered, shades, strict=True)}


def draw_curves(ax: Axes, curves: "pd.DataFrame", quantity: str, *, size: str = "width") -> None:
    """The mean over seeds against the step, one line per size, with a band of one standard deviation.

    `curves` has the columns `size`, seed, step and `quantity`. A size at a step where a seed is missing
    (diverged) is drawn from the seeds that are left.
    """
    colours = size_colours(curves[size].unique())
    for value, table in curves.groupby(size):
        seeds = table.pivot(index="step", columns="seed", values=quantity).dropna(how="all")
        mean, std = seeds.mean(axis=1), seeds.std(axis=1).fillna(0.0)
        ax.plot(seeds.index, mean, color=colours[value])
        ax.fill_between(seeds.index, mean - std, mean + std, color=colours[value], alpha=0.2, linewidth=0)
    ax.set_xlabel("step")


def draw_threshold(ax: Axes, value: float, label: str) -> None:
    """A dashed horizontal line with its meaning written on it, at the left end."""
    ax.axhline(value, color="0.25", linestyle="--", linewidth=1)
    ax.annotate(
        label,
        (0.01, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=8,
        color="0.25",
    )


def draw_sweep(
    ax: Axes,
    runs: "pd.DataFrame",
    metric: str,
    optima: Mapping[int, tuple[float, tuple[float, float]]],
    *,
    size: str = "width",
) -> None:
    """Final loss against learning rate, one line per size; each size's optimum marked with its interval.

    `runs` has the columns `size`, learning_rate, seed and `metric` (not finite where diverged: a learning rate
    at which any seed diverged is left out of the line). `optima` gives (optimum, interval) per size; they are
    drawn as a row of marks under the curves, one level per size.
    """
    colours = size_colours(runs[size].unique())
    lowest = np.inf
    for value, table in runs.groupby(size):
        seeds = table.pivot(index="learning_rate", columns="seed", values=metric)
        sound = np.isfinite(seeds.to_numpy()).sum(axis=1) == seeds.notna().any(axis=0).sum()
        mean, std = seeds[sound].mean(axis=1), seeds[sound].std(axis=1).fillna(0.0)
        ax.plot(mean.index, mean, color=colours[value], marker="o", markersize=2.5)
        ax.fill_between(mean.index, mean - std, mean + std, color=colours[value], alpha=0.2, linewidth=0)
        lowest = min(lowest, mean.min())
    rates = runs["learning_rate"]
    ax.set_xscale("log", base=2)
    ax.set_xlim(rates.min() / 1.2, rates.max() * 1.2)
    for level, (value, (optimum, (low, high))) in enumerate(sorted(optima.items())):
        height = 0.04 + 0.045 * level
        transform = ax.get_xaxis_transform()
        ends = np.clip((low, high), *ax.get_xlim())
        ax.plot(ends, [height, height], color=colours[value], transform=transform, linewidth=2.2, alpha=0.8)
        ax.plot([optimum], [height], color=colours[value], marker="D", markersize=4.5, transform=transform, zorder=3)
    ax.set_xlabel("base learning rate")


def draw_spread(ax: Axes, steps: np.ndarray, spread: np.ndarray, noise: np.ndarray) -> None:
    """The spread over sizes along training, beside the one that seeds alone would give."""
    ax.plot(steps, spread, color="#b2182b", label="over widths")
    ax.fill_between(steps, 0, noise, color="0.7", alpha=0.6, linewidth=0, label="seeds alone")
    ax.set_xlabel("step")


def leave_room_below(ax: Axes, share: float) -> None:
    """Extend the lower end of the vertical axis by `share` of its height."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        ax.set_ylim(low * (low / high) ** share, high)
    else:
        ax.set_ylim(low - share * (high - low), high)


def size_legend(sizes: Sequence[int], *, size: str = "width") -> list[Line2D]:
    """Handles for a legend of the size colours."""
    return [Line2D([], [], color=c, label=f"{size} {s}", linewidth=2) for s, c in size_colours(sizes).items()]


def log_ticks(ax: Axes) -> None:
    """A logarithmic vertical axis whose ticks are plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
