"""The picture of a suggested learning rate, in the house style."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

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

if TYPE_CHECKING:
    from sharplab.studies.suggest_lr.suggestion import Suggestion

SUGGESTED = "#b2182b"


def draw_suggestion(found: "Suggestion") -> Figure:
    """Left the sweeps, in the middle the optima with the extrapolation, right the sharpness along training."""
    with house_style():
        figure, axes = plt.subplots(1, 3, figsize=(10.8, 3.5))
        _draw_sweeps(axes[0], found)
        _draw_optima(axes[1], found)
        _draw_sharpness(axes[2], found)
        if found.conclusive:
            says = f"base learning rate {found.learning_rate:.3g} for width {found.width}"
        else:
            says = f"no learning rate can be told for width {found.width} yet"
        figure.suptitle(f"{found.optimizer}: {says}", fontsize=10)
        handles = size_legend(found.transfer.sizes)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_sweeps(ax: Axes, found: "Suggestion") -> None:
    moved = found.transfer
    optima = dict(zip(moved.sizes, zip(moved.optimum, moved.optimum_interval, strict=True), strict=True))
    draw_sweep(ax, found.records.runs, found.metric, optima)
    leave_room_below(ax, 0.25)
    ax.axvline(found.learning_rate, color=SUGGESTED, linestyle=":", linewidth=1.2)
    ax.set_ylabel(f"final {found.metric.replace('_', ' ')}")
    ax.set_title(f"after {found.steps} steps of batch {found.batch_size}")


def _draw_optima(ax: Axes, found: "Suggestion") -> None:
    """A mark per width with its interval and, as a tick, where stability ends; the suggestion with its interval."""
    moved = found.transfer
    colours = size_colours(moved.sizes)
    rates = found.records.runs["learning_rate"]
    floor, ceiling = rates.min() / 1.5, rates.max() * 1.5
    intervals = [(size, rate, ends, colours[size]) for size, rate, ends in _marks(found)]
    intervals.append((found.width, found.learning_rate, found.interval, SUGGESTED))
    for size, rate, ends, colour in intervals:
        ax.plot([size, size], np.clip(ends, floor, ceiling), color=colour, linewidth=2.2, alpha=0.8)
        ax.plot(size, rate, color=colour, marker="D", markersize=4.5)
    edges = np.where(np.isfinite([high for _, high in moved.edge_interval]), moved.edge, np.nan)
    ax.plot(moved.sizes, edges, color="0.25", linestyle="none", marker="_", markersize=11)
    if np.isfinite(found.extrapolated):
        through = np.log2([moved.sizes[0], found.width])
        line = np.log2(found.extrapolated) + moved.shift * (through - through[1])
        ax.plot(2.0**through, 2.0**line, color="0.4", linestyle="--", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_ylim(floor, ceiling)
    sizes = [*moved.sizes, found.width]
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("width")
    ax.set_ylabel("base learning rate")
    low, high = moved.shift_interval
    ax.set_title(f"optimum: {moved.shift:+.2f} octaves per doubling [{low:+.2f}, {high:+.2f}]")
    marks = [
        Line2D([], [], color="0.4", marker="D", markersize=4.5, linewidth=2.2, label="optimum, 95 %"),
        Line2D([], [], color=SUGGESTED, marker="D", markersize=4.5, linewidth=2.2, label="suggested"),
        Line2D([], [], color="0.25", linestyle="none", marker="_", markersize=11, label="end of stability"),
    ]
    shown = marks if np.isfinite(edges).any() else marks[:2]
    ax.legend(handles=shown, loc="best", fontsize=7)


def _marks(found: "Suggestion") -> list[tuple[int, float, tuple[float, float]]]:
    moved = found.transfer
    return list(zip(moved.sizes, moved.optimum, moved.optimum_interval, strict=True))


def _draw_sharpness(ax: Axes, found: "Suggestion") -> None:
    if found.sharpness is None or found.records.curves is None:
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"sharpness: absent,\n{found.sharpness_missing}", ha="center", va="center", wrap=True)
        return
    draw_curves(ax, found.records.curves, "share")
    draw_threshold(ax, 1.0, "threshold of stability")
    log_ticks(ax)
    ax.set_ylabel("effective sharpness / threshold")
    ax.set_title(f"sharpness at the suggestion: {found.sharpness.verdict}")
