"""`sharplab status`: how far the sweeps of a store are."""

from rich.console import Console

from sharplab.commands.options import StatusOptions
from sharplab.core.text import printable
from sharplab.sweep import status as seen


def status(options: StatusOptions) -> None:
    """Print the state of a store, line by line.

    Raises:
        ValueError: where there is no store, or it cannot be read.
    """
    for line in seen.status(options.store):
        Console().print(printable(line), highlight=False, markup=False, soft_wrap=True)
