"""The benchmark for the eye: tables, and one picture."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from rich import box
from rich.table import Table

from sharplab.plotting import draw_threshold, house_style
from sweeps.parts import AIMS, CONTESTANTS, HALF, SHARE_WIDTH

NAMES: Mapping[str, str] = {
    "here": "sharplab, here",
    "processes": "sharplab, processes",
    "plain": "plain loop",
    "pool": "pool without runs",
}
COLOURS = dict(zip(CONTESTANTS, ("#000000", "#0072b2", "#e69f00", "#009e73"), strict=True))
COSTS: Mapping[str, tuple[str, str]] = {
    "run_seconds": ("whole run", "#000000"),
    "again_seconds": ("second call", "#0072b2"),
    "planning_seconds": ("planning", "#56b4e9"),
    "load_seconds": ("load", "#d55e00"),
}


def tables(parts: Mapping[str, Any], aims: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Those of the parts that there are, and the aims."""
    makers = {
        "training": _training_tables,
        "arithmetic": _arithmetic_table,
        "overhead": _overhead_table,
        "growth": _growth_table,
    }
    made = [table for part, maker in makers.items() if part in parts for table in maker(parts[part]["found"])]
    return [*made, *([_aims_table(aims)] if aims else [])]


def _training_tables(rows: Sequence[Mapping[str, Any]]) -> Iterable[Table]:
    titles = {
        "cold": "from the start of the process, compilation included",
        "warm": "further runs of the same process",
    }
    for half in HALF:
        table = _table(
            f"(a) runs of {rows[0]['steps']} steps per hour, {titles[half]}: median (range)",
            ("width", "", "runs", "per hour", "÷ plain loop", "÷ pool"),
            left=(1,),
        )
        for row in rows:
            table.add_row(
                str(row["width"]) if row["contestant"] == CONTESTANTS[0] else "",
                NAMES[row["contestant"]],
                str(row["runs"]),
                _ranged(row[f"{half}_runs_per_hour"], ",.0f"),
                _ranged(row[f"{half}_over_plain"], ".2f"),
                _ranged(row[f"{half}_over_pool"], ".2f"),
            )
        yield table


def _arithmetic_table(rows: Sequence[Mapping[str, Any]]) -> Iterable[Table]:
    heads = ("width", "weights", "steps per second", "matmul GF/s", "share", "at 6 × weights × batch", "plain loop")
    table = _table("(b) arithmetic of training over the rate of a large float32 product: median (range)", heads)
    for row in rows:
        table.add_row(
            str(row["width"]),
            f"{row['matrix_entries']:,}",
            _ranged(row["steps_per_second"], ".0f"),
            _ranged({name: value / 1e9 for name, value in row["matmul_flops_per_second"].items()}, ".0f"),
            _ranged(row["share_made"], ".0%"),
            _ranged(row["share_six"], ".0%"),
            _ranged(row["plain_share_made"], ".0%"),
        )
    yield table


def _overhead_table(found: Mapping[str, Any]) -> Iterable[Table]:
    title = f"(c) the engine's time per group, {found['groups']} groups of {found['runs']} runs that train at once"
    table = _table(title, ("", "ms per group: median (range)", "start, s"))
    for name, seconds in found["seconds_per_group"].items():
        start = f"{found['start_of_workers_seconds']:.1f}" if name == "processes" else ""
        milliseconds = {key: 1e3 * value for key, value in seconds.items()}
        table.add_row(NAMES[name], _ranged(milliseconds, ".1f"), start)
    yield table


def _growth_table(rows: Sequence[Mapping[str, Any]]) -> Iterable[Table]:
    heads = ("", *(f"{row['runs']:,} runs, {row['groups']} groups" for row in rows))
    table = _table("(d) sweeps that train at once, 12 records of 4 observables: median (range)", heads)
    seconds = {
        "start-up to the first group": "start_up_seconds",
        "of it planning": "planning_seconds",
        "whole run": "run_seconds",
        "second call": "again_seconds",
        "load": "load_seconds",
    }
    for name, key in seconds.items():
        table.add_row(f"{name}, s", *(_ranged(row[key], ".2f") for row in rows))
    peaks = {"whole run": "run_peak_bytes", "second call": "again_peak_bytes", "load": "load_peak_bytes"}
    for name, key in (peaks | {"imports alone": "before_load_bytes"}).items():
        table.add_row(f"peak memory, {name}, MB", *(f"{row[key]['median'] / 1e6:.0f}" for row in rows))
    yield table


def _aims_table(aims: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("aims", ("", "aim", "measured"))
    for name, aim in aims.items():
        colour, mark = ("green", "✓") if aim["met"] else ("red", "✗")
        table.add_row(name, f"{aim['aim']:g}", f"[{colour}]{aim['measured']:.2f} {mark}[/]")
    return table


def _table(title: str, heads: Sequence[str], left: tuple[int, ...] = (0,)) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i in left else "right", no_wrap=True)
    return table


def _ranged(values: Mapping[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['min']:{form}}–{values['max']:{form}})"


def picture(parts: Mapping[str, Any]) -> Figure:
    """Runs per hour, share of the machine's rate, and cost of many runs, side by side; blank where not measured."""
    panels = {"training": _draw_training, "arithmetic": _draw_arithmetic, "growth": _draw_growth}
    with house_style():
        figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.6))
        for ax, (part, draw) in zip(axes, panels.items(), strict=True):
            if part in parts:
                draw(ax, parts[part]["found"])
            else:
                ax.set_axis_off()
    return figure


def _draw_training(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for name, colour in COLOURS.items():
        own = [row for row in rows if row["contestant"] == name]
        for half, line in (("warm", "-"), ("cold", ":")):
            label = NAMES[name] if half == "warm" else None
            _draw_ranges(ax, [(row["width"], row[f"{half}_runs_per_hour"]) for row in own], colour, line, label)
    _name_sizes(ax, [row["width"] for row in rows])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="width", title="runs per hour (dotted: with compilation)")
    ax.legend()


def _draw_arithmetic(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for name, key in {"here": "share_made", "plain": "plain_share_made"}.items():
        _draw_ranges(ax, [(row["width"], row[key]) for row in rows], COLOURS[name], "-", NAMES[name])
    draw_threshold(ax, AIMS["matmul_share"], f"aim at width {SHARE_WIDTH}")
    _name_sizes(ax, [row["width"] for row in rows])
    ax.set(xlabel="width", ylim=(0, None), title="arithmetic ÷ rate of a large product")
    ax.legend()


def _draw_growth(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for key, (label, colour) in COSTS.items():
        _draw_ranges(ax, [(row["runs"], row[key]) for row in rows], colour, "-", label)
    draw_threshold(ax, AIMS["load_seconds"], "aim of load")
    ax.set(xscale="log", yscale="log", xlabel="runs", title="seconds, training none")
    ax.legend()


def _draw_ranges(
    ax: Axes, points: Sequence[tuple[int, Mapping[str, float]]], colour: str, line: str, label: str | None
) -> None:
    """Medians with bars from least to most."""
    medians = [values["median"] for _, values in points]
    below = [values["median"] - values["min"] for _, values in points]
    above = [values["max"] - values["median"] for _, values in points]
    sizes = [size for size, _ in points]
    ax.errorbar(
        sizes, medians, yerr=(below, above), color=colour, linestyle=line, marker="o", markersize=3, label=label
    )


def _name_sizes(ax: Axes, sizes: Sequence[int]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(set(sizes)), [str(size) for size in sorted(set(sizes))])
