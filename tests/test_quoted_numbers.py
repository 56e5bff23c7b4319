"""Numbers with intervals in docs/ are those of the figure that is named beside them, as it is committed.

A paragraph, list item or row of a table that names a figure, as `edge`, figure-edge or figures/edge, has intervals as
0.93 [0.92, 0.95]: each is one of that figure's JSON file, at as many digits, with or without its sign, or a hundred
times one, in points or percent. What is said of a quick run has the word "quick" in its paragraph.
"""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = {path.stem: json.loads(path.read_text()) for path in (ROOT / "figures").glob("*.json")}

NUMBER = r"[-+−]?\d+(?:\.\d+)?"
NAMED = re.compile(r"(?:`|figures?[-/])([a-z-]+)(?![\w=(/])")
QUOTED = re.compile(rf"(?:({NUMBER})[^\d.,;:()\[\]]*)?\[({NUMBER})(?:,| to) ({NUMBER})\]")  # the value may have a unit


def quotes(text):
    """The intervals in paragraphs, items and rows that name figures: the names, and (value, low, high) as written."""
    for part in re.split(r"\n\s*\n|\n(?=\s*[-|] )", text):
        names = MADE.keys() & set(NAMED.findall(part))
        if names and "quick" not in part:
            yield from ((names, found) for found in QUOTED.findall(" ".join(part.split())))


def intervals(node):
    """All (values, low, high) of a figure's numbers: the pairs in a dict, with the single numbers that stand beside."""
    if isinstance(node, list):
        for item in node:
            yield from intervals(item)
    if not isinstance(node, dict):
        return
    values = [x for key, x in node.items() if isinstance(x, int | float) and not key.endswith(("low", "high"))]
    ends = [x for x in node.values() if isinstance(x, list) and len(x) == 2 and not isinstance(x[0], dict)]
    ends += [(node[key], node.get(key[:-3] + "high")) for key in node if key.endswith("low")]
    yield from ((values, low, high) for low, high in ends if all(isinstance(x, int | float) for x in (low, high)))
    for item in node.values():
        yield from intervals(item)


def rounds_to(number, written):
    digits = len(written.partition(".")[2])
    return math.isclose(number, float(written.replace("−", "-")), abs_tol=(0.5 + 1e-6) * 10**-digits, rel_tol=0)


def is_of(names, quote):
    """Whether a quote, as (value or "", low, high), is an interval of one of the figures."""
    value, *ends = quote
    for values, *found in (x for name in names for x in intervals(MADE[name]["numbers"])):
        for scale in (1, -1, 100, -100):
            if all(map(rounds_to, sorted(scale * end for end in found), ends)) and (
                not value or any(rounds_to(scale * x, value) for x in values)
            ):
                return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_intervals_of_a_page_are_those_of_the_figures_that_it_names(page):
    assert [(sorted(names), quote) for names, quote in quotes(page.read_text()) if not is_of(names, quote)] == []


def test_pages_quote_intervals_and_another_number_than_the_figures_is_noticed():
    theory = (ROOT / "docs" / "theory.md").read_text()
    assert len(list(quotes(theory))) >= 10
    for there, instead in (
        ("0.93 [0.92, 0.95]", "0.92 [0.92, 0.95]"),
        ("[0.94, 0.97]", "[0.94, 0.98]"),
        ("24 draws", "[1, 2]"),
    ):
        assert there in theory
        changed = quotes(theory.replace(there, instead))
        assert sum(not is_of(*quote) for quote in changed) == 1
