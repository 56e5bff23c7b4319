"""README.md, ARCHITECTURE.md and docs/: their Python runs, their commands parse, and their links lead somewhere.

A block of Python whose first line names a file, as `# mynet.py`, is that file too. A block ```text after one of Python
is what that prints: the words exactly, numbers to three tenths or 0.1, as processors round differently and training
makes more of it.
"""

import ast
import builtins
import json
import re
import shlex
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import tyro

from sharplab.commands.command_line import COMMANDS, _commands

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = [page for page in PAGES if "```python" in page.read_text()]
LOOPS = ROOT / "docs" / "loops.md"
MAKEFILE = (ROOT / "Makefile").read_text()

NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")


def page_name(page):
    return str(page.relative_to(ROOT)).removeprefix("docs/")


pages = pytest.mark.parametrize("page", PAGES, ids=page_name)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page, program):
    """The words after `program` of each command of a page, in blocks and between backticks."""
    text = page.read_text()
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    split = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
    return [words[1:] for words in split]


def test_the_readme_is_short_and_shows_python_early():
    lines = README.read_text().splitlines()
    assert len(lines) <= 75 and len(README.read_text()) <= 3500
    assert lines.index("```python") < 30
    assert any(line.startswith("pip install") for line in lines)


def test_each_use_of_the_readme_takes_at_most_five_lines_beside_imports():
    shown = re.findall(r"^```(?:python)?\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    lines = [[x for x in block.splitlines() if x and not re.match("import |from .* import ", x)] for block in shown]
    assert len(shown) >= 4 and max(map(len, lines)) <= 5


def test_numbers_of_the_readme_are_those_of_the_figure():
    made = json.loads((ROOT / "figures" / "transfer.json").read_text())
    text = " ".join(README.read_text().split())
    assert made["verdict"] == "holds" and "**Transfer holds under muP, not under NTK**" in text
    for found in (made["numbers"]["mup"], made["numbers"]["ntk"]):
        low, high = found["shift_interval"]
        assert f"{found['shift_per_doubling']:.2f} [{low:.2f}, {high:.2f}]" in text
    assert "from width {} to {} ".format(*list(made["numbers"]["mup"]["optimum"])[:: len(found["optimum"]) - 1]) in text


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A current directory with the figure that pages open; what they import from there is forgotten afterwards."""
    evidence = tmp_path / "figures" / "evidence" / "transfer"
    shutil.copytree(ROOT / "figures" / "evidence" / "transfer", evidence)
    shutil.copy(ROOT / "figures" / "transfer.json", tmp_path / "figures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PYTHON, ids=page_name)
@pytest.mark.long
def test_python_of_a_page_runs_and_prints_what_stands_beneath(page, checkout, capsys):
    names = {"__name__": "documentation"}
    printed = ""
    found = re.findall(r"^```python\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", page.read_text(), re.DOTALL | re.MULTILINE)
    assert [code for code, _ in found] == blocks(page, "python")
    for code, shown in found:
        file = re.match(r"# (\w+\.py)\n", code)
        if file:
            (checkout / file[1]).write_text(code)
        exec(compile(code, page.name, "exec"), names)
        out = capsys.readouterr().out
        printed += out
        if shown:
            same_but_for_rounding(out, shown)
    assert printed


def same_but_for_rounding(out, shown):
    """That two texts have the same words, and numbers that differ by 30 % or 0.1 at most."""
    words = ([line.split() for line in NUMBER.sub("#", text).splitlines()] for text in (out, shown))
    assert next(words) == next(words), f"it prints now:\n{out}"
    numbers = ([float(x.replace("−", "-")) for x in NUMBER.findall(text)] for text in (out, shown))
    assert next(numbers) == pytest.approx(next(numbers), rel=0.3, abs=0.1), f"it prints now:\n{out}"


@pytest.mark.parametrize("change", [("0.98", "1.48"), ("transfers", "shifts"), ("\n", "\n\n1.0 more")])
def test_another_output_than_the_one_shown_is_noticed(change):
    out = "mup: transfers over width\n  width 16: best 0.98 [0.6, 1.6]\n"
    same_but_for_rounding(out.replace("0.98", "0.981"), out)
    with pytest.raises(AssertionError, match="it prints now"):
        same_but_for_rounding(out.replace(*change), out)


@pytest.mark.parametrize(
    "block", blocks(LOOPS, "py(?:thon)?"), ids=lambda block: re.findall("^(?:class|from) .*|$", block)[0]
)
def test_a_loop_needs_at_most_five_lines_and_is_whole_without_them(block):
    loop = "".join(line for line in block.splitlines(keepends=True) if not line.endswith("# new\n"))
    assert block.count("# new\n") <= 5
    nodes = list(ast.walk(ast.parse(loop)))
    bound = {node.arg for node in nodes if isinstance(node, ast.arg)} | {"Logger", *dir(builtins)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {(node.asname or node.name).partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    assert loop == block or {name.id for name in names} <= bound - {"sl", "tracker"}


@pages
def test_commands_of_a_page_parse(page):
    for words in commands(page, "sharplab"):
        if words[0] in COMMANDS and len(words) > 1:
            options = tyro.cli(_commands(words), args=words, config=(tyro.conf.OmitSubcommandPrefixes,))
            assert isinstance(options, COMMANDS[words[0]][0])
        else:
            assert words[0] in COMMANDS


@pages
def test_make_targets_of_a_page_exist(page):
    for words in commands(page, "make"):
        target = re.sub(r"^figure-.*", "figure-%", words[0])
        assert re.search(rf"^{re.escape(target)}:", MAKEFILE, flags=re.MULTILINE), words
        for setting in words[1:]:
            assert re.search(rf"^{setting.partition('=')[0]} \?=", MAKEFILE, flags=re.MULTILINE), words


@pages
def test_options_of_a_page_exist(page):
    known = {f"--{field.name.replace('_', '-')}" for options, _ in COMMANDS.values() for field in fields(options)}
    named = set(re.findall(r"`(--[a-z-]+)", page.read_text())) - {"--help"}
    assert named <= known


@pages
def test_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http|#)([^)]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
