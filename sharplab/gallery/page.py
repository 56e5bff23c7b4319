"""The page `report.html`, which opens without network: claims with what their verdicts mean and a picture each, to
filter; numbers, and curves to zoom, behind a click.

Its text comes from files that anyone may have written. The template `page.html` escapes whatever it is given, but for
what this module has made itself, and browsers run no script but the two whose digests stand in the page's policy.
"""

import base64
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.io
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image
from plotly.offline import get_plotlyjs

from sharplab.core.files import write_whole
from sharplab.core.text import printable
from sharplab.gallery.claims import CLAIMS, PAPER, PAPER_ADDRESS
from sharplab.gallery.curves import MOST_POINTS, plots
from sharplab.gallery.entries import MARKS, NOT_MADE, PRESETS, Entry, collect, verdict_on
from sharplab.gallery.meaning import MEANINGS, TOPICS, meaning, topic
from sharplab.gallery.numbers import headline, label, tables
from sharplab.gallery.readme import made_at

MOST_ROWS = 200  # of a table that is shown as such
COLOURS = 96  # of a picture: a third of the bytes
DIGITS = 4  # of numbers in curves, as many as are shown at a point


def write_report(folder: Path, entries: Sequence[Entry] | None = None) -> Path:
    """Write folder/report.html from the figures in the folder, and return its path."""
    text = page(folder, collect(folder) if entries is None else entries)
    path = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return path


def page(folder: Path, entries: Sequence[Entry]) -> str:
    """The HTML of the page about the figures in a folder."""
    script = _resource("page.js")
    claims = [_claim(name, statement, entries) for name, statement in CLAIMS.items()]
    return _template().render(
        policy=_policy(script, get_plotlyjs()),
        style=Markup(_resource("page.css")),
        script=Markup(script),
        plotly=_packed_plotly(),
        template=_json_text(json.dumps(plotly.io.templates["plotly_white"].to_plotly_json())),
        paper=PAPER,
        paper_address=PAPER_ADDRESS,
        made_at=made_at(entries),
        entries=entries,
        claims=claims,
        count=Counter(claim["verdict"] for claim in claims),
        beyond=[entry for entry in entries if not entry.claims],
        sections={entry.name: _section(folder, entry) for entry in entries},
        marks=[*MARKS.items(), ("", NOT_MADE)],
        topics={key: name for key, name in TOPICS.items() if any(topic(entry.name) == key for entry in entries)},
        presets=[name for name in PRESETS if any(entry.made and entry.made.preset == name for entry in entries)],
        digits=DIGITS,
        most_points=MOST_POINTS,
    )


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"inline": _inline, "packed": _packed_figures}
    environment.globals |= {
        "headline": _headline,
        "label": label,
        "table": _table,
        "topic": topic,
        "labelled": _labelled,
    }
    return environment.from_string(_resource("page.html"))


@cache
def _packed_plotly() -> str:
    return _base64(_packed(get_plotlyjs().encode()))


def _policy(*scripts: str) -> str:
    """What the page may do: nothing from outside, and no script but these."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"


def _claim(name: str, statement: str, entries: Sequence[Entry]) -> dict[str, Any]:
    verdict = verdict_on(name, entries)
    tests = [entry for entry in entries if name in entry.claims]
    return {
        "name": name,
        "statement": statement,
        "verdict": verdict,
        "mark": MARKS[verdict] if verdict else NOT_MADE,
        "entries": tests,
        # Of several figures the claim has a sentence of its own, and shows the picture of the one that decides.
        "meaning": meaning(name, verdict) if verdict and name in MEANINGS else "",
        "decides": next((entry.name for entry in tests if verdict and entry.verdict == verdict), ""),
    }


def _section(folder: Path, entry: Entry) -> dict[str, Any]:
    if entry.made is None:
        return {"entry": entry}
    path = folder / f"{entry.name}.csv"
    try:
        table = pd.read_csv(path)
        path = path.with_suffix(".png")
        picture = _picture(path)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is no figure's {'table' if path.suffix == '.csv' else 'picture'} ({printable(error)}): make it "
            f"again with `{entry.command}`."
        ) from error
    return {
        "entry": entry,
        "picture": f"data:image/webp;base64,{_base64(picture)}",
        "plots": plots(table),
        "first": table.head(MOST_ROWS),
        "rows": len(table),
        "numbers": tables(entry.made.numbers),
        "files": [f"{entry.name}.{kind}" for kind in ("csv", "json")],
    }


def _headline(entry: Entry) -> list[str]:
    return headline(entry.made.numbers) if entry.made else []


def _labelled(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, label(name)) for name in names]


def _table(table: pd.DataFrame) -> Markup:
    return Markup(table.to_html(index=False, na_rep="", border=0, float_format="{:.4g}".format))  # it escapes


def _inline(text: str) -> Markup:
    """Plain text as HTML, with code between backticks."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text)))


def _json_text(text: str) -> Markup:
    """JSON within a script element; nothing in it may end the element."""
    return Markup(text.replace("<", "\\u003c"))


def _packed_figures(figures: Sequence[Any]) -> str:
    """Figures of plotly's, compressed, with `DIGITS` digits of each number that is not whole."""
    short = [
        json.loads(figure.to_json(), parse_float=lambda number: float(f"{float(number):.{DIGITS}g}"))
        for figure in figures
    ]
    return _base64(_packed(json.dumps(short, separators=(",", ":")).encode()))


def _picture(path: Path) -> bytes:
    """A picture in few of its colours, as lossless WebP."""
    packed = BytesIO()
    with Image.open(path) as picture:
        # By coverage, so that a thin line keeps its colour: medians of few pixels would give it that of another.
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.convert("RGB").save(packed, "WEBP", lossless=True)
    return packed.getvalue()


def _resource(name: str) -> str:
    return (files("sharplab.gallery") / name).read_text(encoding="utf-8")


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=9, mtime=0)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
