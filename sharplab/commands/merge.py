"""`sharplab merge`: several stores made one."""

from rich.console import Console

from sharplab.commands.options import MergeOptions
from sharplab.sweep.store import export as exporting
from sharplab.sweep.store.directory import load


def merge(options: MergeOptions) -> None:
    """Copy the group files that `into` lacks, and print their number.

    Raises:
        ValueError: where one is no store, two of them differ in what a run is, or `into` cannot be written.
    """
    copied = exporting.merge(options.sources, options.into)
    runs = len(load(options.into).runs)
    files = f"{copied} group file{'' if copied == 1 else 's'}"
    Console().print(f"{files} copied; {options.into} now holds {runs} runs", highlight=False, soft_wrap=True)
