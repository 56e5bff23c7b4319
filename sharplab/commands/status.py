"""`sharplab status`: how far the sweeps of a store are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sharplab.sweep import status as seen


@dataclass(frozen=True)
class StatusOptions:
    """Say what a store holds, how far the latest sweeps are, who trains what now, and which groups failed."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """directory of the trained runs, as it was given to a sweep"""


def status(options: StatusOptions) -> None:
    """Print the state of a store, line by line.

    Raises:
        ValueError: where there is no store, or it cannot be read.
    """
    for line in seen.status(options.store):
        Console().print(line, highlight=False, markup=False, soft_wrap=True)
