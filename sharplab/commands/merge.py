"""`sharplab merge`: several stores made one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sharplab.sweep.store import export as exporting
from sharplab.sweep.store.directory import load


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


def merge(options: MergeOptions) -> None:
    """Copy the group files that `into` lacks, and print their number.

    Raises:
        ValueError: where one is no store, two of them differ in what a run is, or `into` cannot be written.
    """
    copied = exporting.merge(options.sources, options.into)
    runs = len(load(options.into).runs)
    files = f"{copied} group file{'' if copied == 1 else 's'}"
    Console().print(f"{files} copied; {options.into} now holds {runs} runs", highlight=False, soft_wrap=True)
