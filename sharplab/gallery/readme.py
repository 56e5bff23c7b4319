"""The `README.md` of a folder of figures: the claims with their verdicts, then each figure with its numbers."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from sharplab.core.files import write_whole
from sharplab.core.text import code, prose
from sharplab.gallery.claims import CLAIMS, PAPER, PAPER_ADDRESS
from sharplab.gallery.entries import MARKS, NOT_MADE, PRESETS, Entry, collect, verdict_on
from sharplab.gallery.finding import Verdict
from sharplab.gallery.numbers import headline, tables

MOST_ROWS = 24  # of a figure's tables that are shown unfolded


def write_readme(folder: Path, entries: Sequence[Entry] | None = None) -> Path:
    """Write folder/README.md from the figures in the folder, the same text for the same files, and return its path."""
    text = readme(collect(folder) if entries is None else entries)
    path = folder / "README.md"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return path


def readme(entries: Sequence[Entry]) -> str:
    """The Markdown of the README about these figures."""
    beyond = [entry for entry in entries if not entry.claims]
    parts = [
        "# Figures",
        "Each claim of the paper, the figures that test it here, what was measured, and a verdict computed by a rule "
        "that stands in the figure's script. Numbers are followed by their 95 % interval, or ± a standard error, "
        "where they have one. Written by `make figures`, `make gallery` and `make report`, from the JSON files beside "
        "it; `make report` puts the same on one page, report.html, with curves to zoom.",
        made_at(entries),
        f"## Claims of the paper\n\n[{PAPER}]({PAPER_ADDRESS}). A claim holds where all its figures are made and "
        "hold, fails where any fails, and is inconclusive otherwise.",
        _table(
            ("", "the paper says", "verdict", "figures"),
            (
                (
                    claim,
                    prose(statement),
                    _verdict(verdict_on(claim, entries)),
                    "<br>".join(_summary(entry) for entry in entries if claim in entry.claims),
                )
                for claim, statement in CLAIMS.items()
            ),
        ),
    ]
    if beyond:
        parts += [
            "## Beyond the paper",
            _table(
                ("figure", "claim", "verdict", "measured"),
                ((_link(entry), prose(entry.claim), _mark(entry), _measured(entry) or "–") for entry in beyond),
            ),
        ]
    return "\n\n".join((*parts, *map(_section, entries))) + "\n"


def made_at(entries: Iterable[Entry]) -> str:
    """The presets at which the figures were made, in a sentence."""
    by: dict[str, list[str]] = {}
    for entry in entries:
        if entry.made:
            by.setdefault(entry.made.preset, []).append(entry.name)
    if not by:
        return "No figure is made yet."
    if len(by) == 1:
        (preset,) = by
        return f"All that are made were made at the preset {PRESETS[preset]}."
    listed = (f"{PRESETS[preset]}: {', '.join(names)}" for preset, names in sorted(by.items()))
    return f"Made at different presets: {'; '.join(listed)}."


def _summary(entry: Entry) -> str:
    measured = _measured(entry)
    return f"{_link(entry)}: {_mark(entry)}" + (f" ({measured})" if measured else "")


def _measured(entry: Entry) -> str:
    return prose("; ".join(headline(entry.made.numbers))) if entry.made else ""


def _link(entry: Entry) -> str:
    return f"[{entry.name}](#{entry.name})"


def _verdict(verdict: Verdict | None) -> str:
    return f"**{MARKS[verdict]}**" if verdict else NOT_MADE


def _mark(entry: Entry) -> str:
    return f"**{entry.mark}**" if entry.made else NOT_MADE


def _section(entry: Entry) -> str:
    tests = ", ".join(entry.claims) or "beyond the paper"
    parts = [f"## {entry.name}", f"{tests}: {prose(entry.claim)}" if entry.claim else f"{tests}."]
    if entry.made is None:
        how = f"make it with {code(entry.command)}." if entry.script else "there is no script for it yet."
        return "\n\n".join((*parts, f"**{NOT_MADE}**: {how}"))
    stated = f"{_mark(entry)}, at the preset {entry.made.preset}. In practice: {prose(entry.meaning)}"
    parts += [stated, f"![{_alt(entry.claim)}]({entry.name}.png)"]
    if entry.wanted:
        parts.append(prose(entry.wanted))
    parts += _numbers(entry)
    if entry.script:
        if entry.script.rule:
            parts.append(prose(entry.script.rule))
        parts.append(
            f"Made by {code(entry.command)} ([script](../experiments/{entry.script.file}); {entry.made.seconds:.0f} s "
            f"the last time, runs that were stored already not counted). Behind the picture: [{entry.name}.csv]"
            f"({entry.name}.csv), [{entry.name}.json]({entry.name}.json)."
        )
    return "\n\n".join(parts)


def _numbers(entry: Entry) -> list[str]:
    assert entry.made is not None
    shown: list[str] = []
    folded: list[str] = []
    rows = 0
    for title, table in tables(entry.made.numbers):
        rows += len(table)
        text = _frame(table)
        (shown if rows <= MOST_ROWS else folded).append(f"{prose(title)}:\n\n{text}" if title else text)
    if folded:
        folded = ["<details><summary>More numbers</summary>", *folded, "</details>"]
    return shown + folded


def _frame(table: pd.DataFrame) -> str:
    rows = ((prose(str(name)), *map(prose, row)) for name, row in zip(table.index, table.to_numpy(), strict=True))
    return _table(("", *(prose(str(column)) for column in table.columns)), rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, of texts that are Markdown already."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _alt(text: str) -> str:
    return prose(text).replace("`", "")
