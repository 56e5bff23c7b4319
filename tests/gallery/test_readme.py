"""The README of figures: their scripts and records, verdicts on claims from those on figures, and what is missing."""

import json
import re
import shutil

import pytest
from made_figures import leave

from sharplab.gallery import collect, figure_scripts, write_readme
from sharplab.gallery.claims import CLAIMS, TESTED_BY, claim_verdict
from sharplab.gallery.entries import MARKS, load_script, read_script
from sharplab.gallery.readme import prose

SCRIPT = '''"""C1: the optimum stays.

Paper: someone, somewhere.

Rule of the verdict, by `sharplab.transfer`: "holds" if a < b | c;
else "inconclusive".

Cost: a minute. Expected: holds. Paper preset: widths to 4,096,
on one accelerator.

    make figure-transfer
"""

CLAIM = (
    "The optimum "
    "stays."
)


def find(preset, store): ...
'''


@pytest.fixture
def scripts(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in ("transfer", "gamma"):
        (folder / f"{name}.py").write_text(SCRIPT)
    (folder / "shared.py").write_text("X = 1\n")
    return figure_scripts(folder)


@pytest.fixture
def figures(tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    return folder


def text_of(folder, scripts):
    return write_readme(folder, collect(folder, scripts)).read_text()


def rows_of(text):
    """The cells of every row of every table, by its first cell."""
    rows = (re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|"))
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in rows}


def test_every_claim_has_a_figure_and_every_figure_of_a_claim_a_claim():
    assert set(CLAIMS) == {f"C{i}" for i in range(1, 10)} == {c for claims in TESTED_BY.values() for c in claims}


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([None], None),
        (["holds"], "holds"),
        (["holds", "holds", "inconclusive"], "inconclusive"),
        (["holds", None], "inconclusive"),
        ([None, "fails", "holds"], "fails"),
    ],
)
def test_a_claim_holds_where_all_its_figures_do_and_fails_where_any_does(verdicts, verdict):
    assert claim_verdict(verdicts) == verdict


def test_a_script_is_read_and_not_run(tmp_path):
    path = tmp_path / "transfer.py"
    path.write_text(SCRIPT + "\nraise RuntimeError\n")
    script = read_script(path)
    assert script.claim == "The optimum stays."
    assert script.rule == 'Rule of the verdict, by `sharplab.transfer`: "holds" if a < b | c; else "inconclusive".'
    assert script.paper_preset == "widths to 4,096, on one accelerator."


def test_every_script_of_the_lab_states_claim_and_rule_where_the_gallery_reads_them():
    for name, path in figure_scripts().items():
        script = read_script(path)
        assert script.claim, name
        assert {'"holds"', '"fails"', '"inconclusive"'} <= set(re.findall(r'"[a-z]+"', script.rule)), name


def test_every_script_of_the_lab_can_be_loaded():
    for path in figure_scripts().values():
        assert callable(load_script(path).find)


def test_claims_table_has_a_row_per_claim_with_verdict_figure_and_numbers(figures, scripts):
    leave(figures, "transfer")
    leave(figures, "depth", verdict="inconclusive")
    rows = rows_of(text_of(figures, scripts))
    assert set(CLAIMS) <= rows.keys()
    statement, verdict, tested = rows["C1"]
    assert statement == CLAIMS["C1"]
    assert verdict == f"**{MARKS['holds']}**"
    assert "[transfer](#transfer)" in tested and r"muP shift per doubling 0.1 \[0.05, 0.15\]" in tested
    assert (
        rows["C5"][1] == f"**{MARKS['inconclusive']}**"
        and "[depth-convnet](#depth-convnet): not made yet" in rows["C5"][2]
    )
    assert rows["C2"][1] == "not made yet"
    assert rows["[gamma](#gamma)"] == ["The optimum stays.", "not made yet", "–"]


def test_a_figure_shows_picture_numbers_rule_and_how_to_make_it_again(figures, scripts):
    leave(figures, "transfer", preset="smoke")
    section = text_of(figures, scripts).split("\n## transfer\n")[1].split("\n## ")[0]
    assert "![It is so.](transfer.png)" in section
    assert "`make figure-transfer PRESET=smoke`" in section
    assert r'"holds" if a &lt; b | c; else "inconclusive".' in section
    assert "12 s" in section and "In practice: Made in seconds" in section
    assert rows_of(section)["shift per doubling"] == [r"0.1 \[0.05, 0.15\]", r"0.8 \[0.5, 1.1\]"]
    assert rows_of(section)["runs"] == ["24"]


def test_only_the_inconclusive_says_what_would_tell(figures, scripts):
    wanted = "It is: widths to 4,096, on one accelerator."
    leave(figures, "transfer", verdict="holds")
    assert wanted not in text_of(figures, scripts)
    leave(figures, "transfer", verdict="inconclusive")
    assert "PRESET=full" in text_of(figures, scripts)
    leave(figures, "transfer", verdict="inconclusive", preset="full")
    assert wanted in text_of(figures, scripts)
    leave(figures, "transfer", verdict="inconclusive", preset="paper")
    assert wanted not in text_of(figures, scripts)


def test_presets_are_named_and_told_apart(figures, scripts):
    assert "preset" not in text_of(figures, scripts)
    leave(figures, "transfer")
    assert "at the preset quick" in text_of(figures, scripts)
    leave(figures, "adam", preset="smoke")
    text = text_of(figures, scripts)
    assert rows_of(text)["C8"][2].startswith("[adam](#adam): **✓ holds (smoke)**")
    assert rows_of(text)["C1"][2].startswith("[transfer](#transfer): **✓ holds**")
    assert re.search(r"quick \([^)]*\): transfer; smoke \([^)]*\): adam", text)


def test_the_text_depends_on_the_files_alone(figures, scripts, tmp_path):
    leave(figures, "transfer")
    first = text_of(figures, scripts)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(figures, elsewhere)
    assert text_of(figures, scripts) == first == text_of(elsewhere, scripts)
    assert str(tmp_path) not in first


def test_what_markdown_would_take_for_markup_is_escaped(figures, scripts):
    leave(figures, "transfer", claim="x < y & a|b *c* [d](e), `f < g`\nand on", numbers={"a|b": {"c": 1}})
    text = text_of(figures, scripts)
    escaped = r"x &lt; y &amp; a|b \*c\* \[d\](e), `f < g` and on"
    assert prose("x < y & a|b *c* [d](e), `f < g`\nand on") == escaped and escaped in text
    assert r"| a\|b, c | 1 |" in text


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda made: made.write_text("{"), "truncated"),
        (lambda made: made.write_text("[]"), "object"),
        (lambda made: made.write_text(json.dumps(json.loads(made.read_text()) | {"verdict": "yes"})), "'yes'"),
        (lambda made: made.write_text('{"claim": "x"}'), "verdict"),
        (lambda made: made.with_suffix(".png").unlink(), "transfer.png"),
    ],
)
def test_a_broken_record_is_named_with_its_remedy(figures, scripts, damage, why):
    leave(figures, "transfer")
    damage(figures / "transfer.json")
    with pytest.raises(ValueError, match=re.escape(why)) as error:
        collect(figures, scripts)
    assert "transfer.json" in str(error.value) and "`make figure-transfer`" in str(error.value)
