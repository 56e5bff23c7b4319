"""Entries of the gallery: of each figure its script's docstring, its claims, and the record of its last making."""

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from inspect import cleandoc
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from sharplab.core.files import DamagedFile, read_regular
from sharplab.core.text import printable
from sharplab.gallery.claims import TESTED_BY, claim_verdict
from sharplab.gallery.finding import Verdict
from sharplab.gallery.meaning import SMOKE, meaning

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MARKS: Mapping[Verdict, str] = {"holds": "✓ holds", "fails": "✗ fails", "inconclusive": "? inconclusive"}
NOT_MADE = "not made yet"
PRESETS: Mapping[str, str] = {
    "smoke": "smoke (seconds, to see that it works: its verdicts mean nothing)",
    "quick": "quick (small networks on bundled data, minutes on two cores)",
    "full": "full (more seeds and sizes on the same data, up to an hour and a half a figure on two cores)",
    "paper": "paper (the paper's own sizes)",
}
LARGEST = 2**24  # bytes of a figure's record
HEADLINE = ("transfer", "sharpening", "adam")  # each decided at quick, in minutes


def figure_scripts(folder: Path = EXPERIMENTS) -> dict[str, Path]:
    """The scripts that draw a figure, by name, the headline ones first.

    Raises:
        ValueError: where the folder has none, as beside an installed package.
    """
    scripts = (path for path in sorted(folder.glob("*.py")) if "def find(" in path.read_text(encoding="utf-8"))
    found = {path.stem.replace("_", "-"): path for path in scripts}
    if not found:
        raise ValueError(
            f"{folder} has no scripts of figures: figures are made from a checkout of sharplab, "
            "there by `make figures`, or by `pip install -e .` and then `sharplab figures`."
        )
    return {name: found[name] for name in (*HEADLINE, *found) if name in found}


def load_script(path: Path) -> ModuleType:
    """A figure's script as a module, freshly executed."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # scripts share modules that lie beside them
    spec = spec_from_file_location(f"experiments_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Script:
    """The docstring and the claim of a figure's script, read without running it."""

    file: str
    text: str
    claim: str

    @cached_property
    def _paragraphs(self) -> list[str]:
        return re.split(r"\n\s*\n", self.text)

    @property
    def rule(self) -> str:
        """The paragraph that begins with "Rule", in one line."""
        return next((" ".join(part.split()) for part in self._paragraphs if part.startswith("Rule")), "")

    @property
    def paper_preset(self) -> str:
        """The text after "Paper preset:" to the end of its paragraph, in one line."""
        for part in self._paragraphs:
            _, found, rest = " ".join(part.split()).partition("Paper preset: ")
            if found:
                return rest
        return ""


def read_script(path: Path) -> Script:
    """The docstring and the constant CLAIM of a script."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    claims = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "CLAIM" for t in node.targets)
    ]
    return Script(path.name, cleandoc(ast.get_docstring(tree) or ""), claims[0] if claims else "")


@dataclass(frozen=True)
class Made:
    """The record that a figure leaves in its JSON file."""

    claim: str
    verdict: Verdict
    numbers: dict[str, Any]
    preset: str
    seconds: float
    versions: dict[str, str]


def read_made(folder: Path, name: str) -> Made | None:
    """The record in folder/name.json, None where there is no such file.

    Raises:
        ValueError: the file is not such a JSON, or the picture or table beside it is missing; says how to mend it.
    """
    path = folder / f"{name}.json"
    try:
        made = msgspec.json.decode(read_regular(path, LARGEST), type=Made)
        if made.preset not in PRESETS:
            raise DamagedFile(f"has the preset {printable(made.preset)!r}, not one of {', '.join(PRESETS)}")
        for beside in (path.with_suffix(".png"), path.with_suffix(".csv")):
            if not beside.is_file():
                raise DamagedFile(f"has no {beside.name} beside it")
    except FileNotFoundError:
        return None
    except (DamagedFile, OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no figure's record ({printable(error)}): make it again with `make figure-{name}`, or delete it."
        ) from error
    return made


@dataclass(frozen=True)
class Entry:
    """A figure of the gallery, with its script and the record of its last making where there are such."""

    name: str
    claims: tuple[str, ...]
    script: Script | None
    made: Made | None

    @property
    def claim(self) -> str:
        """The claim that the figure tests, as its record has it, else its script."""
        return self.made.claim if self.made else self.script.claim if self.script else ""

    @property
    def verdict(self) -> Verdict | None:
        return self.made.verdict if self.made else None

    @property
    def mark(self) -> str:
        """The verdict as text with a symbol, or `NOT_MADE`."""
        if self.made is None:
            return NOT_MADE
        return MARKS[self.made.verdict] + (" (smoke)" if self.made.preset == "smoke" else "")

    @property
    def meaning(self) -> str:
        """What the verdict means in practice, in a sentence; empty where the figure is not made."""
        if self.made is None:
            return ""
        return SMOKE if self.made.preset == "smoke" else meaning(self.name, self.made.verdict)

    @property
    def command(self) -> str:
        """The command that makes the figure as it was made."""
        preset = f" PRESET={self.made.preset}" if self.made and self.made.preset != "quick" else ""
        return f"make figure-{self.name}{preset}"

    @property
    def wanted(self) -> str:
        """The run that could decide an inconclusive verdict, as text; else empty."""
        if self.made is None or self.made.verdict != "inconclusive" or self.made.preset == "paper":
            return ""
        if self.made.preset != "full":
            return f"To tell, make it with more seeds and sizes: `make figure-{self.name} PRESET=full`."
        said = self.script.paper_preset if self.script else ""
        more = f"To tell, run the paper preset on an accelerator: `make figure-{self.name} PRESET=paper`."
        return f"{more} It is: {said}" if said else more


def collect(folder: Path, scripts: Mapping[str, Path] | None = None) -> list[Entry]:
    """Every figure that tests a claim or has a script, in the order of the claims, those beyond the paper last."""
    scripts = figure_scripts() if scripts is None else scripts
    return [
        Entry(
            name,
            TESTED_BY.get(name, ()),
            read_script(scripts[name]) if name in scripts else None,
            read_made(folder, name),
        )
        for name in dict.fromkeys((*TESTED_BY, *scripts))
    ]


def verdict_on(claim: str, entries: Sequence[Entry]) -> Verdict | None:
    """The verdict on one of the paper's claims, None where none of its figures is made."""
    return claim_verdict([entry.verdict for entry in entries if claim in entry.claims])
