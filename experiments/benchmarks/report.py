"""Tables for the terminal and panels for the pictures, as all benchmarks draw them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from rich import box
from rich.table import Table

from sharplab.plotting import house_style


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> Table:
    """Rows of text under heads, columns aligned right except those of `left`."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, head in enumerate(heads):
        made.add_column(head, justify="left" if i in left else "right", no_wrap=i not in left)
    for row in rows:
        made.add_row(*row)
    return made


def judged(target: float, measured: float, met: bool | None = None) -> dict[str, Any]:
    """A target as the report has it; met where as much as it was measured, unless told."""
    return {"target": target, "measured": measured, "met": bool(measured >= target if met is None else met)}


def targets_table(targets: Mapping[str, Mapping[str, Any]]) -> Table:
    """The targets, and what was measured."""

    def shown(value: float | bool) -> str:
        return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.3g}"

    rows = [
        (name, shown(target["target"]), marked(shown(target["measured"]), target["met"]))
        for name, target in targets.items()
    ]
    return table("targets", ("", "target", "measured"), rows)


def marked(text: str, met: bool) -> str:
    """Text in green or red."""
    return f"[green]{text} ✓[/]" if met else f"[red]{text} ✗[/]"


def ranged(values: Mapping[str, float], spec: str = ".1f", scale: float = 1.0) -> str:
    """Median and range.

    >>> ranged({"median": 3.0, "min": 1.0, "max": 8.0})
    '3.0 (1.0–8.0)'
    """
    middle, least, most = (scale * values[name] for name in ("median", "min", "max"))
    return f"{middle:{spec}} ({least:{spec}}–{most:{spec}})"


Draw = Callable[[Axes, Any], None]


def picture(panels: Mapping[str, Draw], found: Mapping[str, Any]) -> Figure:
    """The parts side by side, blank where one was not measured."""
    with house_style():
        figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.6))
        for ax, (part, draw) in zip(axes, panels.items(), strict=True):
            if part in found:
                draw(ax, found[part])
            else:
                ax.set_axis_off()
    return figure


def draw_ranges(ax: Axes, points: Iterable[tuple[int, Mapping[str, float]]], **style: Any) -> None:
    """Medians over sizes, with bars from least to most."""
    sizes, values = zip(*points, strict=True)
    medians, least, most = (np.array([value[name] for value in values]) for name in ("median", "min", "max"))
    ax.errorbar(sizes, medians, yerr=(medians - least, most - medians), marker="o", markersize=3, **style)


def name_sizes(ax: Axes, sizes: Iterable[int]) -> None:
    """A logarithmic axis with a tick at each size."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(set(sizes)), [str(size) for size in sorted(set(sizes))])


def plain_ticks(axis: Any, spec: str) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:{spec}}"))
    axis.set_minor_formatter(NullFormatter())
