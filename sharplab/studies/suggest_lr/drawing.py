"""The figure of a suggested learning rate, in the project's style."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from sharplab.analysis import Consistency, Transfer
from sharplab.core.statistics import Interval
from sharplab.plotting import (
    draw_curves,
    draw_sweep,
    draw_threshold,
    house_style,
    leave_room_below,
    log_ticks,
    size_colours,
    size_legend,
)
from sharplab.records import Records

SUGGESTED = "#b2182b"


class Mark(NamedTuple):
    """A learning rate at one width, with its interval."""

    width: int
    rate: float
    interval: Interval


def draw_suggestion(
    records: Records,
    transfer: Transfer,
    suggested: Mark,
    extrapolated: float,
    *,
    sharpness: Consistency | str,
    trained: str,
    title: str,
) -> Figure:
    """Three panels: the sweeps, the optima with the extrapolation, and the sharpness along training.

    Args:
        extrapolated: what the trend of the optima reads at the suggested width; nan for no line.
        sharpness: the consistency of the curves, or the reason why there are none.
        trained: the title of the sweeps.
    """
    with house_style():
        figure, axes = plt.subplots(1, 3, figsize=(10.8, 3.5))
        _draw_sweeps(axes[0], records.runs, transfer, suggested.rate)
        axes[0].set_title(trained)
        _draw_optima(axes[1], records.runs["learning_rate"], transfer, suggested, extrapolated)
        _draw_sharpness(axes[2], records.curves, sharpness)
        figure.suptitle(title, fontsize=10)
        handles = size_legend(transfer.sizes)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_sweeps(ax: Axes, runs: pd.DataFrame, transfer: Transfer, suggested: float) -> None:
    optima = dict(zip(transfer.sizes, zip(transfer.optimum, transfer.optimum_interval, strict=True), strict=True))
    draw_sweep(ax, runs, transfer.metric, optima)
    leave_room_below(ax, 0.25)
    ax.axvline(suggested, color=SUGGESTED, linestyle=":", linewidth=1.2)
    ax.set_ylabel(f"final {transfer.metric.replace('_', ' ')}")


def _draw_optima(ax: Axes, rates: pd.Series, transfer: Transfer, suggested: Mark, extrapolated: float) -> None:
    """A mark per width with its interval and, as a tick, where stability ends; the suggestion with its interval."""
    colours = size_colours(transfer.sizes) | {suggested.width: SUGGESTED}
    floor, ceiling = rates.min() / 1.5, rates.max() * 1.5
    optima = map(Mark, transfer.sizes, transfer.optimum, transfer.optimum_interval)
    for width, rate, interval in (*optima, suggested):
        ax.plot([width, width], np.clip(interval, floor, ceiling), color=colours[width], linewidth=2.2, alpha=0.8)
        ax.plot(width, rate, color=colours[width], marker="D", markersize=4.5)
    edges = np.where(np.isfinite([high for _, high in transfer.edge_interval]), transfer.edge, np.nan)
    ax.plot(transfer.sizes, edges, color="0.25", linestyle="none", marker="_", markersize=11)
    if np.isfinite(extrapolated):
        through = np.log2([transfer.sizes[0], suggested.width])
        line = np.log2(extrapolated) + transfer.shift * (through - through[1])
        ax.plot(2.0**through, 2.0**line, color="0.4", linestyle="--", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_ylim(floor, ceiling)
    widths = [*transfer.sizes, suggested.width]
    ax.set_xticks(widths, [str(width) for width in widths])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("width")
    ax.set_ylabel("base learning rate")
    low, high = transfer.shift_interval
    ax.set_title(f"optimum: {transfer.shift:+.2f} octaves per doubling [{low:+.2f}, {high:+.2f}]")
    marks = [
        Line2D([], [], color="0.4", marker="D", markersize=4.5, linewidth=2.2, label="optimum, 95 %"),
        Line2D([], [], color=SUGGESTED, marker="D", markersize=4.5, linewidth=2.2, label="suggested"),
        Line2D([], [], color="0.25", linestyle="none", marker="_", markersize=11, label="end of stability"),
    ]
    ax.legend(handles=marks if np.isfinite(edges).any() else marks[:2], loc="best", fontsize=7)


def _draw_sharpness(ax: Axes, curves: pd.DataFrame | None, sharpness: Consistency | str) -> None:
    if curves is None or isinstance(sharpness, str):
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"sharpness: absent,\n{sharpness}", ha="center", va="center", wrap=True)
        return
    draw_curves(ax, curves, "share")
    draw_threshold(ax, 1.0, "threshold of stability")
    log_ticks(ax)
    ax.set_ylabel("effective sharpness / threshold")
    ax.set_title(f"sharpness at the suggestion: {sharpness.verdict}")
