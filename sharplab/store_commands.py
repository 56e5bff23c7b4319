"""What the commands `sharplab status`, `sharplab export` and `sharplab merge` do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sharplab.sweep import export as exporting
from sharplab.sweep import status as seen
from sharplab.sweep.store import load


@dataclass(frozen=True)
class StatusOptions:
    """Say what a store holds, how far the latest sweeps are, who trains what now, and which groups failed."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """directory of the trained runs, as it was given to a sweep"""


@dataclass(frozen=True)
class ExportOptions:
    """Write the runs of a store for other programs: runs.parquet, curves.parquet, and a data card, README.md.

    The card says what each column means, its unit, the settings and counts, and how to read the tables in Python or R.
    """

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """directory of the trained runs, as it was given to a sweep"""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """where the three files go: a new or empty directory, or an earlier export, which is replaced"""


@dataclass(frozen=True)
class MergeOptions:
    """Copy the runs of several stores into one.

    Nothing is written if they differ in what a run is: in its settings, or in its loss before the first step, which
    tells that the model or the data behind a name has changed. What is there already is not copied twice.
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="STORE...", help_behavior_hint="")]
    """directories of trained runs"""
    into: Annotated[Path, tyro.conf.arg(metavar="STORE")]
    """a new or empty directory, or the store that takes the others in"""


def status(options: StatusOptions) -> None:
    """Print it."""
    for line in seen.status(options.store):
        Console().print(line, highlight=False, markup=False, soft_wrap=True)


def export(options: ExportOptions) -> None:
    """Write the three files and say so."""
    folder = exporting.export(options.store, options.folder)
    console = Console()
    for name in exporting.EXPORTED:
        console.print(f"{folder / name}  {(folder / name).stat().st_size:,} bytes", highlight=False, soft_wrap=True)


def merge(options: MergeOptions) -> None:
    """Copy what is new and say how much that was."""
    copied = exporting.merge(options.sources, options.into)
    runs = len(load(options.into).runs)
    files = f"{copied} group file{'' if copied == 1 else 's'}"
    Console().print(f"{files} copied; {options.into} now holds {runs} runs", highlight=False, soft_wrap=True)
