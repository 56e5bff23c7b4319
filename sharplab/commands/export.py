"""`sharplab export`: the runs of a store as tables for other programs."""

from rich.console import Console

from sharplab.commands.options import ExportOptions
from sharplab.sweep.store import export as exporting


def export(options: ExportOptions) -> None:
    """Write the two tables and the data card, and print their sizes.

    Raises:
        ValueError: where there is no store, or the folder holds other things or cannot be written.
    """
    folder = exporting.export(options.store, options.folder)
    console = Console()
    for name in exporting.EXPORTED:
        console.print(f"{folder / name}  {(folder / name).stat().st_size:,} bytes", highlight=False, soft_wrap=True)
