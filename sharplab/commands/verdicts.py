"""The optima and verdicts of a finished sweep, printed and drawn for each setting."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from rich.console import Console

from sharplab.analysis import Transfer, transfer
from sharplab.analysis.curves import LATE, with_metric
from sharplab.analysis.grids import runs_by_name
from sharplab.plotting import NAMES, draw_sweep, house_style, leave_room_below, save_figure, size_legend
from sharplab.records import SETTINGS, Records

if TYPE_CHECKING:  # for tables are judged without what trains
    from sharplab.studies import Decision


def print_verdicts(
    records: Records, *, over: str, metric: str, along: Collection[str], folder: Path, console: Console
) -> tuple[Path, ...]:
    """Print the optima and the verdict of each setting, and draw its sweep into the folder; the pictures' paths.

    `along` are settings that grow with the size, in which runs of one size do not differ.
    """
    pictures, records = [], with_metric(records, metric)
    for heading, part in by_setting(records, over=over, along=along):
        if heading:
            console.print(f"[bold]{heading}[/]", highlight=False)
        found = transfer(part, over=over, metric=metric)
        for result in found.values():
            console.print(str(result), highlight=False)
        pictures.append(_picture(folder, over, heading))
        draw_transfer(part, found, metric, pictures[-1])
    return tuple(pictures)


def print_decision(found: "Decision", *, heading: str, folder: Path, console: Console) -> Path:
    """Print a decision, and draw the runs it is made of into the folder; the picture's path."""
    if heading:
        console.print(f"[bold]{heading}[/]", highlight=False)
    console.print(str(found), highlight=False)
    one = next(iter(found.transfers.values()))
    picture = _picture(folder, one.over, heading)
    draw_transfer(with_metric(found.records, one.metric), found.transfers, one.metric, picture)
    return picture


def _picture(folder: Path, over: str, heading: str) -> Path:
    return folder / f"{over}_sweep{re.sub(r'[^0-9A-Za-z.-]+', '-', f' {heading}') if heading else ''}.png"


def by_setting(records: Records, *, over: str, along: Collection[str] = ()) -> Iterator[tuple[str, Records]]:
    """The runs of each setting, with a heading that says in what the settings differ.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"width": 8, "gamma": [0.5, 0.5, 2.0], "learning_rate": [1, 2, 1], "seed": 0})
    >>> [(heading, len(part.runs)) for heading, part in by_setting(Records(table), over="width")]
    [('gamma 0.5', 2), ('gamma 2', 1)]
    """
    runs = records.runs.drop(columns=[name for name in along if name in records.runs])
    names = (*SETTINGS, "optimizer")
    varying = [name for name in names if name != over and name in runs and runs[name].nunique(dropna=False) > 1]
    if not varying:
        yield "", Records(runs)
        return
    for values, part in runs.groupby(varying, dropna=False):
        texts = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        heading = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in zip(varying, texts, strict=True))
        yield heading, Records(part)


def draw_transfer(
    records: Records, found: Mapping[str, Transfer], metric: str, picture: Path, *, unit: str = " (nats)"
) -> None:
    """Draw final loss against learning rate, a panel per parameterization, into the file `picture`."""
    with house_style():
        figure, axes = plt.subplots(1, len(found), figsize=(3.6 * len(found), 3.2), squeeze=False, sharey=True)
        runs_of = dict(runs_by_name(records.runs))
        for ax, (name, result) in zip(axes[0], found.items(), strict=True):
            runs = runs_of[name]
            optima = dict(zip(result.sizes, zip(result.optimum, result.optimum_interval, strict=True), strict=True))
            draw_sweep(ax, runs, metric, optima, size=result.over)
            ax.set_title(f"{NAMES.get(name, name)}: {result.verdict}")
        leave_room_below(axes[0, 0], 0.25)
        axes[0, 0].set_ylabel(f"{'' if metric.startswith(LATE) else 'final '}{metric.replace('_', ' ')}{unit}")
        axes[0, -1].legend(handles=size_legend(result.sizes, size=result.over), loc="upper left")
        save_figure(figure, picture)
        plt.close(figure)
