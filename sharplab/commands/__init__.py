"""The commands behind `sharplab ...`, one module each."""

from collections.abc import Mapping

VERDICT_COLOURS: Mapping[str, str] = {"holds": "green", "fails": "red", "inconclusive": "yellow"}
