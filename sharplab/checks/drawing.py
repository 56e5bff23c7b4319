"""Figures of the checks, in the project's style."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharplab.plotting import draw_curves, house_style, log_ticks, size_legend

_COLOURS = {"holds": "#2166ac", "inconclusive": "#e08214", "fails": "#b2182b", "not asked": "0.6"}
_ROW = 0.17  # inches per module


def draw_coordinates(records: pd.DataFrame, slopes: pd.DataFrame, tolerance: float) -> Figure:
    """The figure of sizes at the start and changes after the last step against width, and of slopes with intervals.

    A line is a module, a colour the verdict on its slope. Small dots are slopes of changes after earlier steps.
    """
    last = int(records["step"].max())
    modules = list(slopes["module"].unique())
    height = max(3.0, 1.0 + _ROW * len(modules))
    with house_style():
        figure, axes = plt.subplots(1, 4, figsize=(12.5, height), width_ratios=(1, 1, 1, 1))
        for ax, step, quantity, title in (
            (axes[0], 0, "size", "size at the start"),
            (axes[1], last, "change", f"change after step {last}"),
        ):
            _draw_sizes(ax, records[records["step"] == step], slopes[slopes["step"] == step], quantity)
            ax.set_title(title)
        axes[0].set_ylabel("mean |x|")
        axes[1].set_ylabel("mean |x − x at the start|")
        _draw_slopes(axes[2], slopes[slopes["step"] == 0], modules, last, tolerance)
        axes[2].set_title("slope of the size at the start")
        _draw_slopes(axes[3], slopes[slopes["step"] > 0], modules, last, tolerance)
        axes[3].set_title(f"slope of the change after step {last}")
        if last > 1:
            axes[3].set_xlabel("log₂ per doubling (dots: earlier steps)")
        axes[2].set_yticks(range(len(modules)), modules)
        axes[3].set_yticks(range(len(modules)), [])
        handles = [Line2D([], [], color=c, label=name, linewidth=2) for name, c in _COLOURS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_sizes(ax: Axes, records: pd.DataFrame, slopes: pd.DataFrame, quantity: str) -> None:
    verdicts = dict(zip(slopes["module"], slopes["verdict"], strict=True))
    for module, table in records.groupby("module"):
        mean = np.exp2(np.log2(table.set_index("width")[quantity].where(lambda x: x > 0)).groupby("width").mean())
        if module in verdicts:
            ax.plot(mean.index, mean, color=_COLOURS[verdicts[module]], marker="o", markersize=2.5, alpha=0.8)
    ax.set_xscale("log", base=2)
    log_ticks(ax)
    ax.set_xlabel("width")


def _draw_slopes(ax: Axes, slopes: pd.DataFrame, modules: list[str], last: int, tolerance: float) -> None:
    ax.axvspan(-tolerance, tolerance, color="0.5", alpha=0.15, linewidth=0)
    for row in slopes.itertuples():
        place, colour = modules.index(row.module), _COLOURS[row.verdict]
        if row.step in (0, last):
            bars: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "elinewidth": 1.2}
            ends = np.array([[row.slope - row.low], [row.high - row.slope]])
            ax.errorbar(row.slope, place, xerr=ends if np.isfinite(ends).all() else None, linestyle="none", **bars)
        else:
            ax.plot(row.slope, place, color=colour, marker=".", markersize=3, alpha=0.5)
    ax.set_ylim(len(modules) - 0.5, -0.5)
    ax.set_xlabel("log₂ per doubling of width")


def draw_wider(losses: pd.DataFrame) -> Figure:
    """The figure of the loss against step, the mean over seeds with a band of one standard deviation."""
    with house_style():
        figure, ax = plt.subplots(figsize=(4.2, 3.2))
        draw_curves(ax, losses.where(np.isfinite(losses)), "loss")
        ax.set_ylabel("training loss")
        ax.legend(handles=size_legend(losses["width"].unique()))
    return figure
