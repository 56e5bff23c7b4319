"""ARCHITECTURE.md and all names in prose: they lead somewhere; the page's diffs apply, and what they add works."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import added_examples
import pytest
from test_floors import FLOORS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "ARCHITECTURE.md"
TEXT = PAGE.read_text()
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
DIFFS = re.findall(r"^```diff\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
MOST_LINES = 30  # of a diff


def apply(diff, root):
    """Apply a unified diff below `root`; the text of each hunk must be there exactly once, at whatever line."""
    nothing, *parts = re.split(r"^(?=--- \S+\n\+\+\+ )", diff, flags=re.MULTILINE)
    assert nothing == "" and parts
    for part in parts:
        header, *hunks = re.split(r"^@@ -\d+,(\d+) \+\d+,(\d+) @@.*\n", part, flags=re.MULTILINE)
        old, new = re.fullmatch(r"--- (\S+)\n\+\+\+ b/(\S+)\n", header).groups()
        file = root / new
        assert file.exists() == (old == f"a/{new}"), f"{new} is there, or is not"
        text = file.read_text() if file.exists() else ""
        for before, after, lines in zip(hunks[::3], hunks[1::3], hunks[2::3], strict=True):
            wanted, made = (
                [line[1:] or "\n" for line in lines.splitlines(keepends=True) if line[0] != left_out]
                for left_out in "+-"
            )
            assert (len(wanted), len(made)) == (int(before), int(after)), f"{new}: the counts of a hunk are wrong"
            assert not wanted or text.count("".join(wanted)) == 1, f"{new}: a hunk does not apply"
            text = text.replace("".join(wanted), "".join(made)) if wanted else "".join(made)
        file.write_text(text)


def resolves(name):
    """Whether a dotted name is a module, or an attribute of one, or a field of a dataclass."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if part in getattr(found, "__dataclass_fields__", ()):
                return True
            found = getattr(found, part, None)
        return found is not None
    return False


def docstrings(file):
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(file.read_text())
    return "\n".join(ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, nodes))


def test_every_dotted_name_in_prose_leads_somewhere():
    pages = [ROOT / "README.md", PAGE, *(ROOT / "docs").glob("*.md")]
    texts = {page: page.read_text() for page in pages}
    texts |= {file: docstrings(file) for place in ("sharplab", "experiments") for file in (ROOT / place).rglob("*.py")}
    found = {}
    for file, text in texts.items():
        for name in re.findall(r"`(?:sharplab|sl)((?:\.\w+)+)", text):
            found.setdefault(f"sharplab{name}", []).append(file.name)
    assert len(found) > 20
    assert {name: files for name, files in found.items() if not resolves(name)} == {}


def test_every_place_that_the_page_names_is_there():
    places = re.findall(r"`((?:\w+/)*(?:\w+\.py)?)(?:::(\w+))?`", PROSE)
    assert len(places) > 30
    for path, name in places:
        assert any((root / path).exists() for root in (ROOT, ROOT / "sharplab")) or "NAME" in path, path
        assert not name or resolves(f"sharplab.{path.removesuffix('.py').replace('/', '.')}.{name}"), (path, name)


def test_the_page_shows_the_floors():
    rows = re.findall(r"^\| \d+ \| (.*) \|$", TEXT, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == list(FLOORS)


def test_the_page_is_short():
    assert len(PROSE) <= 9000
    assert re.search(r"^## Words\n\n(?:- .*\n(?:  .*\n)*){1,10}\Z", TEXT, re.MULTILINE)
    assert len(DIFFS) == len(added_examples.EXAMPLES)
    assert max(len(diff.splitlines()) for diff in DIFFS) <= MOST_LINES


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of each example in a copy of the tree to which all diffs are applied: "" or a traceback."""
    tree = tmp_path_factory.mktemp("tree")
    for place in ("sharplab", "experiments"):
        shutil.copytree(ROOT / place, tree / place, ignore=shutil.ignore_patterns("__pycache__"))
    for diff in DIFFS:
        apply(diff, tree)
    environment = os.environ | {"PYTHONPATH": str(tree), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, added_examples.__file__]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
@pytest.mark.parametrize("name", added_examples.EXAMPLES)
def test_what_a_diff_adds_works(outcomes, name):
    assert outcomes[name] == ""


@pytest.mark.parametrize("wrong", ["context", "counts", "a file that is there"])
def test_a_diff_that_does_not_fit_is_refused(tmp_path, wrong):
    diff = "--- a/f.py\n+++ b/f.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    if wrong == "a file that is there":
        diff = "--- /dev/null\n+++ b/f.py\n@@ -0,0 +1,1 @@\n+c\n"
    (tmp_path / "f.py").write_text("a\nc\n" if wrong == "context" else "a\nb\n")
    with pytest.raises(AssertionError, match=r"f\.py"):
        apply(diff.replace("-1,2", "-1,3") if wrong == "counts" else diff, tmp_path)
