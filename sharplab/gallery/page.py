"""The page `report.html`, one file that opens without network: claims, pictures, curves to zoom, numbers."""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import pandas as pd
import plotly.io
from PIL import Image
from plotly.offline import get_plotlyjs

from sharplab.core.files import write_whole
from sharplab.gallery.claims import CLAIMS, PAPER, PAPER_ADDRESS
from sharplab.gallery.curves import MOST_POINTS, Plot, plots
from sharplab.gallery.entries import MARKS, NOT_MADE, Entry, Made, collect, verdict_on
from sharplab.gallery.finding import Verdict
from sharplab.gallery.numbers import headline, label, tables
from sharplab.gallery.readme import made_at

MOST_ROWS = 200  # of a table that is shown as such
COLOURS = 256  # of a picture, as many as a palette holds: a third of the bytes
DIGITS = 5  # of numbers in curves
# The browser itself refuses whatever is not in the file.
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(folder: Path, entries: Sequence[Entry] | None = None) -> Path:
    """Write folder/report.html from the figures in the folder, and return its path."""
    text = page(folder, collect(folder) if entries is None else entries)
    path = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return path


def page(folder: Path, entries: Sequence[Entry]) -> str:
    """The HTML of the page about the figures in a folder."""
    beyond = [entry for entry in entries if not entry.claims]
    resources = files("sharplab.gallery")
    template = json.dumps(plotly.io.templates["plotly_white"].to_plotly_json())
    body = [
        "<h1>Does a learning rate tuned on a small network transfer to a big one?</h1>",
        _p(
            "Each claim of the paper, the figures that test it, what was measured, and a verdict computed by a rule "
            "that stands in the figure's script. Numbers are followed by their 95 % interval, or ± a standard error, "
            "where they have one."
        ),
        _p(made_at(entries)),
        f"<nav><ul>{''.join(f'<li>{_link(entry)}</li>' for entry in entries)}</ul></nav>",
        f'<h2 id="claims">Claims of the paper</h2><p><a href="{PAPER_ADDRESS}">{escape(PAPER)}</a>. A claim holds '
        "where all its figures are made and hold, fails where any fails, and is inconclusive otherwise.</p>",
        _claims(entries),
    ]
    if beyond:
        body += ['<h2 id="beyond">Beyond the paper</h2>', _beyond(beyond)]
    body += [_section(folder, entry) for entry in entries]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>sharplab: figures and verdicts</title>
<style>
{(resources / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
{chr(10).join(body)}
<script type="application/json" id="template">{_inert(template)}</script>
<script type="application/gzip" id="plotly">{_base64(_packed(get_plotlyjs().encode()))}</script>
<script>
{(resources / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _claims(entries: Sequence[Entry]) -> str:
    rows = []
    for claim, statement in CLAIMS.items():
        figures = "".join(
            f"<li>{_link(entry)} {_badge(entry.verdict, entry.mark)}{_measured(entry)}</li>"
            for entry in entries
            if claim in entry.claims
        )
        verdict = verdict_on(claim, entries)
        badge = _badge(verdict, MARKS[verdict] if verdict else NOT_MADE)
        rows.append(
            f'<tr id="{claim}"><th>{claim}</th><td>{_inline(statement)}</td><td>{badge}</td>'
            f"<td><ul>{figures}</ul></td></tr>"
        )
    return _table("claims", ("", "the paper says", "verdict", "figures"), rows)


def _beyond(entries: Iterable[Entry]) -> str:
    rows = (
        f"<tr><th>{_link(entry)}</th><td>{_inline(entry.claim)}</td><td>{_badge(entry.verdict, entry.mark)}</td>"
        f"<td>{_measured(entry)}</td></tr>"
        for entry in entries
    )
    return _table("claims", ("figure", "claim", "verdict", "measured"), rows)


def _section(folder: Path, entry: Entry) -> str:
    tests = ", ".join(f'<a href="#{claim}">{claim}</a>' for claim in entry.claims) or "beyond the paper"
    parts = [
        f'<h2 id="{entry.name}">{entry.name}</h2>',
        f"<p>{tests}{': ' if entry.claim else ''}{_inline(entry.claim)}</p>",
    ]
    if entry.made is None:
        how = f"Make it with <code>{entry.command}</code>." if entry.script else "There is no script for it yet."
        return "\n".join((*parts, f"<p>{_badge(None, NOT_MADE)} {how}</p>"))
    parts += [
        f"<p>{_badge(entry.verdict, entry.mark)} at the preset {escape(entry.made.preset)}. "
        f"{_inline(entry.wanted)}</p>",
        f'<div class="wide picture"><img src="{_address(_picture(folder / f"{entry.name}.png"), "image/png")}" '
        f'alt="{escape(entry.claim)}"></div>',
        *(_curves(folder, entry.name)),
        "<h3>Numbers</h3>",
        *(_numbers(title, table) for title, table in tables(entry.made.numbers)),
        "<h3>How it was made</h3>",
        _how(folder, entry, entry.made),
    ]
    return "\n".join(parts)


def _how(folder: Path, entry: Entry, made: Made) -> str:
    parts = [_p(entry.script.rule)] if entry.script and entry.script.rule else []
    downloads = ", ".join(_download(folder / f"{entry.name}.{kind}") for kind in ("csv", "json"))
    parts.append(
        f"<p>Made by <code>{entry.command}</code> in {made.seconds:.0f} s, runs that were stored already not counted. "
        f"Behind the picture: {downloads}.</p>"
    )
    if entry.script:
        parts.append(
            f"<details><summary>Paper, settings, cost and what was expected: experiments/{entry.script.file}</summary>"
            f"<pre>{escape(entry.script.text)}</pre></details>"
        )
    versions = ", ".join(f"{escape(name)} {escape(version)}" for name, version in made.versions.items())
    return "\n".join((*parts, f'<p class="faint">{versions}</p>'))


def _curves(folder: Path, name: str) -> list[str]:
    table = pd.read_csv(folder / f"{name}.csv")
    found = plots(table)
    if found:
        return [_plot(plot) for plot in found]
    first = table.head(MOST_ROWS)
    text = first.to_html(index=False, na_rep="", border=0, float_format="{:.4g}".format)
    return [
        f"<details><summary>The first {len(first)} of the table's {len(table):,} rows</summary>"
        f'<div class="wide">{text}</div></details>'
    ]


def _plot(plot: Plot) -> str:
    menu = "".join(f'<option value="{escape(name)}">{escape(label(name))}</option>' for name in plot.quantities)
    choice = f"<label>quantity <select>{menu}</select></label>" if len(plot.quantities) > 1 else ""
    panels = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<div class="plot"><script type="application/json">{_inert(_short(figure.to_json()))}</script></div></figure>'
        for title, figure in plot.panels
    )
    title = f"Curves: {escape(plot.title)}" if plot.title else "Curves"
    return (
        f'<div class="plots" data-quantity="{escape(plot.quantities[0])}"><h3>{title}</h3>'
        f'<p class="faint">Means over seeds with one standard deviation, to {DIGITS} digits; points at which a seed '
        f"diverged are left out. Of lines of more than {MOST_POINTS} points, the lowest and highest of each stretch "
        f'are shown.</p>{choice}<div class="panels">{panels}</div></div>'
    )


def _numbers(title: str, table: pd.DataFrame) -> str:
    head = "".join(f"<th>{escape(str(column))}</th>" for column in table.columns)
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    )
    return (
        f'<div class="wide"><table class="numbers"><thead><tr><th>{escape(title)}</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _table(kind: str, columns: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _badge(verdict: Verdict | None, mark: str) -> str:
    return f'<span class="verdict {verdict or "missing"}">{mark}</span>'


def _measured(entry: Entry) -> str:
    numbers = headline(entry.made.numbers) if entry.made else []
    return "".join(f'<div class="faint">{escape(number)}</div>' for number in numbers)


def _link(entry: Entry) -> str:
    return f'<a href="#{entry.name}">{entry.name}</a>'


def _p(text: str) -> str:
    return f"<p>{_inline(text)}</p>"


def _inline(text: str) -> str:
    """Plain text as HTML, with code between backticks."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _short(text: str) -> str:
    """The same JSON with `DIGITS` digits of each number that is not whole."""
    shorter = json.loads(text, parse_float=lambda number: float(f"{float(number):.{DIGITS}g}"))
    return json.dumps(shorter, separators=(",", ":"))


def _inert(text: str) -> str:
    return text.replace("<", "\\u003c")  # nothing in it may end the script


def _picture(path: Path) -> bytes:
    """A picture with a palette of its most frequent colours, as PNG."""
    packed = BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def _download(path: Path) -> str:
    address = _address(_packed(path.read_bytes()), "application/gzip")
    return f'<a download="{path.name}.gz" href="{address}">{path.name}.gz</a>'


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=6, mtime=0)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _address(content: bytes, media: str) -> str:
    return f"data:{media};base64,{_base64(content)}"
