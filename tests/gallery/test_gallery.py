"""The gallery's README: verdicts on claims from those on figures, numbers with intervals, and what is missing."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from made_figures import NUMBERS, leave

from sharplab.commands import figures as command
from sharplab.commands.exit_codes import SOME_FAILED
from sharplab.gallery import collect, figure_scripts, write_readme
from sharplab.gallery.claims import CLAIMS, TESTED_BY, claim_verdict
from sharplab.gallery.entries import MARKS, load_script, read_script
from sharplab.gallery.numbers import flatten, headline, tables
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
    assert "12 s" in section
    assert rows_of(section)["shift per doubling"] == [r"0.1 \[0.05, 0.15\]", r"0.8 \[0.5, 1.1\]"]
    assert rows_of(section)["runs"] == ["24"]


def test_only_the_inconclusive_says_what_would_tell(figures, scripts):
    wanted = "It is: widths to 4,096, on one accelerator."
    leave(figures, "transfer", verdict="holds")
    assert wanted not in text_of(figures, scripts)
    leave(figures, "transfer", verdict="inconclusive")
    assert wanted in text_of(figures, scripts)
    leave(figures, "transfer", verdict="inconclusive", preset="paper")
    assert wanted not in text_of(figures, scripts)


def test_presets_are_named_and_told_apart(figures, scripts):
    assert "No figure is made yet." in text_of(figures, scripts)
    leave(figures, "transfer")
    assert "All that are made were made at the preset quick" in text_of(figures, scripts)
    leave(figures, "adam", preset="smoke")
    text = text_of(figures, scripts)
    assert rows_of(text)["C8"][2].startswith("[adam](#adam): **✓ holds (smoke)**")
    assert rows_of(text)["C1"][2].startswith("[transfer](#transfer): **✓ holds**")
    assert "Made at different presets: quick (" in text and "cores): transfer; smoke (" in text and "): adam." in text


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
        (lambda made: made.write_text("{"), "Expecting"),
        (lambda made: made.write_text("[]"), "indices"),
        (lambda made: made.write_text(json.dumps(json.loads(made.read_text()) | {"verdict": "yes"})), "'yes'"),
        (lambda made: made.write_text('{"claim": "x"}'), "'verdict'"),
        (lambda made: made.with_suffix(".png").unlink(), "transfer.png"),
    ],
)
def test_a_broken_record_is_named_with_its_remedy(figures, scripts, damage, why):
    leave(figures, "transfer")
    damage(figures / "transfer.json")
    with pytest.raises(ValueError, match=re.escape(why)) as error:
        collect(figures, scripts)
    assert "transfer.json" in str(error.value) and "`make figure-transfer`" in str(error.value)


def test_intervals_go_to_their_numbers_and_none_is_lost():
    numbers = {
        "optimum": {
            "8": {"optimum": 1.0, "optimum_low": 0.5, "optimum_high": 2.0, "edge": 4.0},
            "16": {"optimum": 1.5, "optimum_low": 0.0, "optimum_high": "inf", "edge": "nan"},
        },
        "slope": 0.5,
        "slope_of_others": 0.7,
        "slope_interval": [0.4, 0.6],
        "difference": 1.0,
        "interval": [0.0, 2.0],
        "trace": 3.0,
        "trace_stderr": 0.1,
        "widths": [8, 16],
        "pair_interval": [1, 2],
        "growth": {"value": 7.0, "interval": [6.0, 8.0]},
    }
    found = {number.path: str(number) for number in flatten(numbers)}
    assert found == {
        ("optimum", "8"): "1 [0.5, 2]",
        ("optimum", "16"): "1.5 [0, ∞)",
        ("edge", "8"): "4",
        ("edge", "16"): "–",
        ("slope",): "0.5 [0.4, 0.6]",
        ("slope_of_others",): "0.7",
        ("difference",): "1 [0, 2]",
        ("trace",): "3 ± 0.1",
        ("widths",): "8; 16",
        ("pair_interval",): "1; 2",
        ("growth",): "7 [6, 8]",
    }


def test_every_number_stands_in_exactly_one_cell_of_the_tables():
    numbers = NUMBERS | {"records": {"h": {"n": 1, "m": 2}, "g": {"n": 3}}, "one": {"two": {"three": 4}}, "left": 5}
    cells = [cell for _, table in tables(numbers) for cell in table.to_numpy().ravel() if cell]
    assert sorted(cells) == sorted(map(str, flatten(numbers)))
    titles = [(title, list(table.columns)) for title, table in tables(numbers)]
    assert titles == [("", ["muP", "NTK"]), ("records", ["h", "g"]), ("", ["value"])]


def test_headline_has_the_first_numbers_with_finite_intervals():
    numbers = NUMBERS | {"edge": {"shift": "nan", "shift_interval": ["-inf", "inf"]}}
    assert headline(numbers) == ["muP shift per doubling 0.1 [0.05, 0.15]", "NTK shift per doubling 0.8 [0.5, 1.1]"]
    assert headline(numbers, most=1) == ["muP shift per doubling 0.1 [0.05, 0.15]", "…"]


def test_a_figure_that_fails_does_not_lose_the_others(tmp_path, monkeypatch, capsys):
    def load(path):
        def find(preset, store):
            if path == "broken":
                raise RuntimeError("out of memory")
            return SimpleNamespace(verdict="inconclusive")

        return SimpleNamespace(CLAIM="It is so.", find=find)

    def save(finding, name, folder, **made_at):
        leave(folder, name, verdict=finding.verdict, preset=made_at["preset"])
        return folder / f"{name}.png"

    scripts = {name: name for name in ("transfer", "broken", "adam")}
    monkeypatch.setattr(command, "figure_scripts", lambda: scripts)
    monkeypatch.setattr(command, "load_script", load)
    monkeypatch.setattr(command, "save_finding", save)
    folder = tmp_path / "figures"
    assert command.make_figures(command.FiguresOptions(all=True, preset="smoke", folder=folder)) == SOME_FAILED
    said = capsys.readouterr()
    assert "out of memory" in said.err
    assert "not made: broken" in said.out
    verdicts = dict(re.findall(r"│ (\w+) +│ [C0-9–]+ +│ ([a-z ]+?) +│", said.out))
    assert verdicts == {"transfer": "inconclusive", "broken": "not made", "adam": "inconclusive"}
    assert rows_of((folder / "README.md").read_text())["C8"][1] == f"**{MARKS['inconclusive']}**"
