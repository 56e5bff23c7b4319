"""The result of a figure: the picture, the numbers it shows, and a verdict."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sharplab.core.files import write_whole
from sharplab.core.provenance import versions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Verdict = Literal["holds", "fails", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """A drawn figure, the table of its numbers, and the verdict on its claim."""

    figure: "Figure"
    table: "pd.DataFrame"
    claim: str
    verdict: Verdict
    numbers: Mapping[str, Any]


def save_finding(
    finding: Finding,
    name: str,
    folder: Path,
    *,
    preset: str,
    seconds: float,
    made_with: Mapping[str, str] | None = None,
) -> Path:
    """Write folder/name.png, .csv and .json, each whole or not at all, and return the picture's path.

    `seconds` is what the making took: runs that the store held already cost nothing in it. `made_with`: the versions
    that it was made with, by default those that are installed. Numbers have six digits. In the JSON those that are not
    finite stand as the strings "nan", "inf" and "-inf", which Python's `float` reads back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = {
        "claim": finding.claim,
        "verdict": finding.verdict,
        "numbers": finding.numbers,
        "preset": preset,
        "seconds": round(seconds, 1),
        "versions": dict(made_with or versions()),
    }
    table = finding.table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    numbers = json.dumps(plain(text), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    picture = folder / f"{name}.png"
    write_whole(picture, partial(finding.figure.savefig, format="png"))
    write_whole(picture.with_suffix(".csv"), table.encode())
    write_whole(picture.with_suffix(".json"), numbers.encode())
    return picture


def plain(value: Any) -> Any:
    """The value as JSON can say it; numbers that are not finite as the strings "nan", "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
