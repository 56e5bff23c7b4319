"""The benchmark for the eye: tables, and one picture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich import box
from rich.table import Table

from figure1_study.study import COURSE_RATE, Cell, Study
from sharplab.plotting import draw_threshold, house_style, log_ticks, size_colours, size_legend

CONTESTANTS: Mapping[str, str] = {
    "plain": "plain port",
    "here": "sharplab, one process",
    "processes": "sharplab, a process per core",
}
PARAMETERIZATIONS: Mapping[str, str] = {"mean_field": "muP", "ntk": "NTK"}


def tables(comparison: Mapping[str, Any], aims: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """Times, agreement, and the aims."""
    table = _table("seconds from start to answer: median (range)", ("", "seconds", "times as fast"))
    for name, label in CONTESTANTS.items():
        found = comparison["times"][name]
        table.add_row(label, _ranged(found["seconds"], ".1f"), _ranged(found["times_as_fast"], ".1f"))
    yield table
    heads = ("", "loss apart", "by rounding", "sharpness apart", "by rounding", "power iteration", "lab (stated)")
    table = _table("relative differences along the courses, the largest", heads)
    for label, cell in comparison["cells"].items():
        tracked = f"{max(cell['tracked_error']):.1e} ({max(cell['tracked_stated_error']):.1e})"
        keys = ("loss_difference", "loss_rounding", "sharpness_difference", "sharpness_rounding", "power_error")
        table.add_row(label, *(f"{max(cell[key]):.1e}" for key in keys), tracked)
    yield table
    table = _table("aims", ("", "aim", "measured"))
    for name, aim in aims.items():
        colour, mark = ("green", "✓") if aim["met"] else ("red", "✗")
        table.add_row(name, _told(aim["aim"]), f"[{colour}]{_told(aim['measured'])} {mark}[/]")
    yield table


def _told(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.3g}"


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i == 0 else "right")
    return table


def _ranged(values: Mapping[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['min']:{form}}–{values['max']:{form}})"


def picture(study: Study, answers: Mapping[str, Any], comparison: Mapping[str, Any]) -> Figure:
    """A row per parameterization: sharpness, loss and sweep, the lab's on the plain port's; and the times."""
    with house_style():
        mosaic: list[Any] = [
            [f"{part} {name}" for part in ("sharpness", "loss", "sweep")] + ["times"] for name in COURSE_RATE
        ]
        figure, axes = plt.subplot_mosaic(mosaic, figsize=(11, 5.6), width_ratios=(1, 1, 1, 0.8))
        for name in COURSE_RATE:
            own = [cell for cell in study.cells if cell.parameterization == name]
            _draw_courses(axes[f"sharpness {name}"], own, study, answers, "sharpness")
            _draw_courses(axes[f"loss {name}"], own, study, answers, "loss")
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
    """What was found, in a line."""
    curves = "Same curves" if comparison["on_top"] else "Curves that differ by more than rounding"
    plain = comparison["times"]["plain"]["seconds"]["median"]
    best = min((comparison["times"][name] for name in ("here", "processes")), key=lambda t: t["seconds"]["median"])
    seconds, ratio = best["seconds"]["median"], best["times_as_fast"]["median"]
    return f"{curves}; the plain port takes {plain:.3g} s, sharplab {seconds:.3g} s: {ratio:.1f} times as fast"


def _draw_courses(ax: Axes, cells: Sequence[Cell], study: Study, answers: Mapping[str, Any], quantity: str) -> None:
    colours = size_colours(study.widths)
    for cell in cells:
        plain, lab = (answers[name][0]["courses"][cell.label] for name in ("plain", "here"))
        ax.plot(study.snapshot_steps, plain[quantity], color=colours[cell.width], linewidth=4, alpha=0.35)
        errors = lab["stated_error"] if quantity == "sharpness" else None
        ax.errorbar(
            study.snapshot_steps, lab[quantity], errors, color=colours[cell.width], fmt="o", markersize=3, elinewidth=1
        )
    log_ticks(ax)


def _draw_sweep(ax: Axes, cells: Sequence[Cell], study: Study, answers: Mapping[str, Any]) -> None:
    colours = size_colours(study.widths)
    for cell in cells:
        plain, lab = (np.array(answers[name][0]["finals"][cell.label], float) for name in ("plain", "here"))
        rates = study.rates_of(cell)
        ax.plot(rates, plain, color=colours[cell.width], linewidth=4, alpha=0.35)
        ax.plot(rates, lab, "o", color=colours[cell.width], markersize=3)
    ax.set_xscale("log")
    rates = study.rates_of(cells[0])
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()


def _name_axes(name: str, sharpness: Axes, loss: Axes, sweep: Axes) -> None:
    rate, label = COURSE_RATE[name], PARAMETERIZATIONS[name]
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
