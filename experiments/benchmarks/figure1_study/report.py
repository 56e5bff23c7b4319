"""Tables of the study's times and differences, and its picture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from report import ranged, table, targets_table
from rich.table import Table

from figure1_study.study import TRAJECTORY_RATE, Network, Study
from sharplab.plotting import draw_threshold, house_style, log_ticks, size_colours, size_legend

CONTESTANTS: Mapping[str, str] = {
    "plain": "plain port",
    "here": "sharplab, one process",
    "processes": "sharplab, a process per core",
}
PARAMETERIZATIONS: Mapping[str, str] = {"mean_field": "muP", "ntk": "NTK"}


def tables(comparison: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """Times, agreement, and the targets."""
    times = (
        (label, *(ranged(comparison["times"][name][key]) for key in ("seconds", "times_as_fast")))
        for name, label in CONTESTANTS.items()
    )
    yield table("seconds from start to answer: median (range)", ("", "seconds", "times as fast"), times)
    apart = (
        (label, *(f"{max(row[f'{name}_difference']):.1e}" for name in ("loss", "sharpness")))
        for label, row in comparison["networks"].items()
    )
    yield table("relative differences along the trajectories, the largest", ("", "loss", "sharpness"), apart)
    yield targets_table(targets)


def picture(study: Study, answers: Mapping[str, Any], comparison: Mapping[str, Any]) -> Figure:
    """A row per parameterization: sharpness, loss and sweep, the lab's on the plain port's; and the times."""
    with house_style():
        mosaic: list[Any] = [
            [f"{part} {name}" for part in ("sharpness", "loss", "sweep")] + ["times"] for name in TRAJECTORY_RATE
        ]
        figure, axes = plt.subplot_mosaic(mosaic, figsize=(11, 5.6), width_ratios=(1, 1, 1, 0.8))
        for name in TRAJECTORY_RATE:
            own = [network for network in study.networks if network.parameterization == name]
            _draw_trajectories(axes[f"sharpness {name}"], own, study, answers, "sharpness")
            _draw_trajectories(axes[f"loss {name}"], own, study, answers, "loss")
            _draw_sweep(axes[f"sweep {name}"], own, study, answers)
            _name_axes(name, *(axes[f"{part} {name}"] for part in ("sharpness", "loss", "sweep")))
        _draw_times(axes["times"], comparison["times"])
        figure.suptitle(headline(comparison))
        handles = [
            *size_legend(study.widths),
            Line2D([], [], color="0.4", linewidth=4, alpha=0.35, label="plain port"),
            Line2D(
                [], [], color="0.2", marker="o", markersize=3, linestyle="none", label="sharplab, with stated error"
            ),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        plt.close(figure)
    return figure


def headline(comparison: Mapping[str, Any]) -> str:
    """Agreement and speed in a line."""
    first, most = (comparison["largest"][name] for name in ("first_loss_difference", "loss_difference"))
    plain = comparison["times"]["plain"]["seconds"]["median"]
    best = min((comparison["times"][name] for name in ("here", "processes")), key=lambda t: t["seconds"]["median"])
    seconds, ratio = best["seconds"]["median"], best["times_as_fast"]["median"]
    curves = f"Losses within {first:.0e} at the start and {most:.0e} later"
    return f"{curves}; the plain port takes {plain:.3g} s, sharplab {seconds:.3g} s: {ratio:.1f} times as fast"


def _draw_trajectories(
    ax: Axes, networks: Sequence[Network], study: Study, answers: Mapping[str, Any], quantity: str
) -> None:
    colours = size_colours(study.widths)
    for network in networks:
        plain, lab = (answers[name][0]["trajectories"][network.label] for name in ("plain", "here"))
        ax.plot(study.snapshot_steps, plain[quantity], color=colours[network.width], linewidth=4, alpha=0.35)
        errors = lab["stated_error"] if quantity == "sharpness" else None
        style = {"color": colours[network.width], "fmt": "o", "markersize": 3, "elinewidth": 1}
        ax.errorbar(study.snapshot_steps, lab[quantity], errors, **style)
    log_ticks(ax)


def _draw_sweep(ax: Axes, networks: Sequence[Network], study: Study, answers: Mapping[str, Any]) -> None:
    colours = size_colours(study.widths)
    for network in networks:
        plain, lab = (np.array(answers[name][0]["finals"][network.label], float) for name in ("plain", "here"))
        rates = study.rates_of(network)
        ax.plot(rates, plain, color=colours[network.width], linewidth=4, alpha=0.35)
        ax.plot(rates, lab, "o", color=colours[network.width], markersize=3)
    ax.set_xscale("log")
    rates = study.rates_of(networks[0])
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()


def _name_axes(name: str, sharpness: Axes, loss: Axes, sweep: Axes) -> None:
    rate, label = TRAJECTORY_RATE[name], PARAMETERIZATIONS[name]
    draw_threshold(sharpness, 2 / rate, "2/η")
    sharpness.margins(y=0.12)
    sharpness.set(title=f"{label}, η = {rate:g}", xlabel="step", ylabel="effective sharpness")
    loss.set(title=f"{label}, η = {rate:g}", xlabel="step", ylabel="held-out loss")
    sweep.set(title=f"{label}, at the end of the sweep", xlabel="base learning rate", ylabel="held-out loss")


def _draw_times(ax: Axes, times: Mapping[str, Any]) -> None:
    labels = {"plain": "plain\nport", "here": "sharplab,\none process", "processes": "sharplab,\nprocesses"}
    for i, name in enumerate(labels):
        seconds, ratio = (times[name][key]["median"] for key in ("seconds", "times_as_fast"))
        compiling = times[name].get("compile_seconds", {"median": 0.0})["median"]
        ax.bar(i, seconds, color="0.6" if name == "plain" else "#0072b2")
        if compiling:
            ax.bar(i, compiling, color="#e69f00", label="of it compiling")
        text = f"{seconds:.3g} s" if name == "plain" else f"{seconds:.3g} s\n{ratio:.1f}×"
        ax.annotate(text, (i, seconds), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom")
    ax.set_xticks(range(len(labels)), list(labels.values()), fontsize=7)
    ax.set(ylabel="seconds", title="time of the whole study")
    ax.set_ylim(0, 1.3 * ax.dataLim.y1)
    ax.legend(loc="upper right")
