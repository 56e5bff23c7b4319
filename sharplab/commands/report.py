"""`sharplab report`: the README of a folder of figures, and one page with all of them."""

from sharplab.commands.options import ReportOptions
from sharplab.gallery import write_readme, write_report


def report(options: ReportOptions) -> None:
    """Write README.md and report.html into the folder and print their paths.

    Raises:
        ValueError: where there are no scripts of figures, or a figure's record is damaged.
    """
    page = write_report(options.folder)
    print(f"{write_readme(options.folder)}, and on one page with curves to zoom {page}, to open in a browser")
