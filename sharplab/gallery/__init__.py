"""The figures as a whole: each claim with the figures that test it, in a README and in one page with curves to zoom.

Written from what figures leave in their folder (NAME.png, .csv and .json) and from their scripts' docstrings.
"""

from sharplab.gallery.entries import collect, figure_scripts
from sharplab.gallery.page import write_report
from sharplab.gallery.readme import write_readme

__all__ = ["collect", "figure_scripts", "write_readme", "write_report"]
