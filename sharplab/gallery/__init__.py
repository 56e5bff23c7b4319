"""The figures as a whole: each claim with the figures that test it, in a README and in one page with curves to zoom.

Written from what figures leave in their folder (NAME.png, .csv and .json) and from their scripts' docstrings.
"""

from typing import TYPE_CHECKING

from sharplab.core.lazy import attach

# isort: off
if TYPE_CHECKING:
    from sharplab.gallery.entries import collect as collect, figure_scripts as figure_scripts
    from sharplab.gallery.page import write_report as write_report
    from sharplab.gallery.readme import write_readme as write_readme
# isort: on

_NAMES = {
    "sharplab.gallery.entries": ("collect", "figure_scripts"),
    "sharplab.gallery.page": ("write_report",),
    "sharplab.gallery.readme": ("write_readme",),
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = attach(__name__, _NAMES)
