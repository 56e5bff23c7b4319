"""`sharplab export`: the runs of a store as tables for other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sharplab.sweep.store import export as exporting


@dataclass(frozen=True)
class ExportOptions:
    """Write the runs of a store for other programs: runs.parquet, curves.parquet, and a data card, README.md.

    The card says what each column means, its unit, the settings and counts, and how to read the tables in Python or R.
    """

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """directory of the trained runs, as it was given to a sweep"""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """where the three files go: a new or empty directory, or an earlier export, which is replaced"""


def export(options: ExportOptions) -> None:
    """Write the two tables and the data card, and print their sizes.

    Raises:
        ValueError: where there is no store, or the folder holds other things or cannot be written.
    """
    folder = exporting.export(options.store, options.folder)
    console = Console()
    for name in exporting.EXPORTED:
        console.print(f"{folder / name}  {(folder / name).stat().st_size:,} bytes", highlight=False, soft_wrap=True)
