"""`sharplab report`: all that is made of figures on one page."""

from dataclasses import dataclass
from pathlib import Path

from sharplab.gallery import write_readme, write_report


@dataclass(frozen=True)
class ReportOptions:
    """Write README.md and report.html of a folder of figures: claims, verdicts, numbers; in the page curves to zoom."""

    folder: Path = Path("figures")
    """where the figures are"""


def report(options: ReportOptions) -> None:
    """Write both files and print where they are."""
    page = write_report(options.folder)
    print(f"{write_readme(options.folder)}, and on one page with curves to zoom {page}, to open in a browser")
