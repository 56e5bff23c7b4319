"""The drawing of the figure `gauss-newton`: trajectories of the linear network above, shares and growth below."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from gauss_newton_evidence import Evidence, growth_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharplab.plotting import NAMES, house_style, size_colours, size_legend

TITLES: Mapping[str, str] = {
    "loss": "loss",
    "hessian": "$\\lambda_{max}(H)$",
    "gauss_newton": "$\\lambda_{max}(G)$",
    "residual": "$\\lambda_{max}(R)$",
}
DASHES: Mapping[str, str] = {"mup": "-", "ntk": ":"}


def draw(
    trained: pd.DataFrame,
    closed: pd.DataFrame,
    shares: Mapping[tuple[str, str], Evidence],
    growths: Mapping[str, Evidence],
    least_share: float,
) -> Figure:
    """The figure: the linear network's trajectories above; shares, with the least of the rule, and growth below."""
    colours = size_colours(trained["width"].unique())
    linear = trained[trained["setting"] == "linear network"]
    with house_style():
        figure, axes = plt.subplots(3, 4, figsize=(11.0, 7.8))
        for row, name in zip(axes, growths, strict=False):
            for ax, quantity in zip(row, TITLES, strict=True):
                of_name = (table[table["parameterization"] == name] for table in (linear, closed))
                draw_trajectory(ax, *of_name, quantity, colours)
                ax.set_title(f"linear network, {NAMES[name]}: {TITLES[quantity]}")
            row[0].set_ylabel("loss ½ mean$\\,\\|f-y\\|^2$")
            row[1].set_ylabel("effective eigenvalue")
        for columns in (axes[:2, :1], axes[:2, 1:]):
            top = max(ax.get_ylim()[1] for ax in columns.flat)
            for ax in columns.flat:
                ax.set_ylim(0, top)
        settings = [setting for setting, name in shares if name == "mup"]
        for ax, setting in zip(axes[2], settings, strict=False):
            draw_shares(ax, trained[trained["setting"] == setting], colours, least_share)
            late = [mean for mean, _ in shares[setting, "mup"].means.values()]
            ax.set_title(f"{setting}:\nmuP late share {min(late):.3f} to {max(late):.3f}")
        axes[2, 0].set_ylabel("G's share of the top of H")
        draw_growth(axes[2, 3], growths, closed)
        known = [
            Line2D([], [], color="0.3", marker="o", linestyle="", markersize=3, label="trained"),
            Line2D([], [], color="0.3", label="closed dynamics"),
            Line2D([], [], color="black", linestyle="--", label="infinite width"),
        ]
        handles = [*size_legend(list(colours)), *known]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.2)
        plt.close(figure)
    return figure


def draw_trajectory(
    ax: Axes, trained: pd.DataFrame, closed: pd.DataFrame, quantity: str, colours: Mapping[int, tuple]
) -> None:
    """Draw means over seeds: dots for runs, lines for their closed trajectories, dashes for infinite width."""
    for width, table in closed.groupby("width"):
        by_step = table.groupby("step")[quantity]
        mean, std = by_step.mean(), by_step.std().fillna(0.0)
        if np.isinf(width):
            ax.plot(mean.index, mean, color="black", linestyle="--", linewidth=1.0, zorder=3)
            ax.fill_between(mean.index, mean - std, mean + std, color="black", alpha=0.1, linewidth=0)
        else:
            ax.plot(mean.index, mean, color=colours[width], linewidth=1.0)
    for width, table in trained.groupby("width"):
        mean = table.groupby("step")[quantity].mean()
        ax.plot(mean.index, mean, color=colours[width], marker="o", markersize=3, linestyle="")
    ax.set_xlabel("step")


def draw_shares(ax: Axes, trained: pd.DataFrame, colours: Mapping[int, tuple], least: float) -> None:
    """Draw G's share along training, means over seeds; muP solid, NTK dotted."""
    for (name, width), table in trained.groupby(["parameterization", "width"]):
        mean = table.groupby("step")["share"].mean()
        ax.plot(mean.index, mean, color=colours[width], linestyle=DASHES[name])
    ax.axhline(least, color="0.5", linewidth=0.8)
    ax.set_ylim(0, 1.05)
    ax.set_xlabel("step")
    handles = [Line2D([], [], color="0.3", linestyle=dash, label=NAMES[name]) for name, dash in DASHES.items()]
    ax.legend(handles=handles, loc="lower right")


def draw_growth(ax: Axes, growths: Mapping[str, Evidence], closed: pd.DataFrame) -> None:
    """Draw the growth of λmax(G) in octaves against width; that of infinite width dashed."""
    infinite = closed[np.isinf(closed["width"])]
    for name, colour in zip(growths, ("#2166ac", "#b2182b"), strict=True):
        means = growths[name].means
        values = np.array([value for value, _ in means.values()])
        ends = np.array([interval for _, interval in means.values()]).T
        errors = np.where(np.isfinite(ends), np.abs(ends - values), 0)
        style = {"color": colour, "linestyle": DASHES[name], "marker": "o", "markersize": 4, "linewidth": 1.0}
        ax.errorbar(list(means), values, errors, label=NAMES[name], **style)
        ((limit, _),) = growth_of(infinite[infinite["parameterization"] == name].assign(width=1)).means.values()
        ax.axhline(limit, color=colour, linestyle="--", linewidth=1.0)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("width")
    ax.set_ylabel("octaves, start to second half")
    ax.set_title("linear network: growth of $\\lambda_{max}(G)$,\nand at infinite width (dashed)")
    ax.legend()
