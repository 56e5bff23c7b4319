"""README.md, ARCHITECTURE.md and docs/: their Python runs, their commands parse, and their links lead somewhere."""

import ast
import builtins
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import tyro

from sharplab.commands.command_line import COMMANDS, _commands

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = [page for page in PAGES if "```python" in page.read_text()]
LOOPS = ROOT / "docs" / "loops.md"
MAKEFILE = (ROOT / "Makefile").read_text()

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


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
    assert len(README.read_text()) <= 6000
    assert lines.index("```python") < 30
    assert any(line.startswith("pip install") for line in lines)


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
@pytest.mark.long
def test_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "documentation"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
    assert capsys.readouterr().out


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
