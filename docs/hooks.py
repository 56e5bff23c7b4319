"""What `mkdocs` reads besides docs/: the pages of the checkout around it, the report with its curves, tables of the
benchmarks, and a reference page for each public package.

The reference is made of the public names, so that none can be without an entry; one without a docstring is an error.
"""

import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bench_tables import fill
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

import sharplab
from sharplab.gallery import collect, figure_scripts
from sharplab.gallery.page import page as report

ROOT = Path(__file__).parents[1]
AROUND = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "figures/README.md", "deploy/sweep.sbatch")
REFERENCE_BOOST = 4  # times the score of a page in a search


def on_files(files: Files, config: Any) -> Files:
    """Add the pages around docs/, the report and what it and they link to, and the reference."""
    figures = ROOT / "figures"
    beside = sorted(str(p.relative_to(ROOT)) for p in figures.glob("*.*") if p.suffix in (".png", ".csv", ".json"))
    scripts = [f"experiments/{path.name}" for path in figure_scripts().values()]
    for name in (*AROUND, *beside, *scripts):
        shown = InclusionLevel.INCLUDED  # scripts too, though other .py files are left out
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name), inclusion=shown))
    files.append(File.generated(config, "figures/report.html", content=report(figures, collect(figures))))
    for name, text in reference().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_config(config: Any) -> Any:
    """Fill the reference's place in the navigation."""
    for entry in config.nav:
        if isinstance(entry, dict) and "Reference" in entry:
            entry["Reference"] = list(reference())
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links between the checkout's folders lead to where their pages lie on the site, side by side.

    A search finds the entry of a name before the pages that mention it.
    """
    name = page.file.src_uri
    if name.startswith("reference/"):
        page.meta["search"] = {"boost": REFERENCE_BOOST}
    if name == "benchmarks.md":
        return fill(markdown, ROOT / "figures" / "bench")
    if name == "figures/README.md" or name.startswith("tutorials/"):
        return markdown
    return re.sub(r"\]\((?:\.\./|docs/)", "](", markdown)


def reference() -> dict[str, str]:
    """The pages of the reference by path: one for each package that public names come from, and each public module.

    Raises:
        PluginError: for a public name without a docstring.
    """
    pages = {}
    for home, names in sharplab._NAMES.items():
        pages[f"reference/{home.rpartition('.')[2]}.md"] = _page(importlib.import_module(home), names, "sl")
    for short in sharplab._MODULES:
        module = importlib.import_module(f"sharplab.{short}")
        taken = sharplab._NAMES.get(module.__name__, ())
        names = [name for name in _public(module) if name not in taken]
        path = f"reference/{short}.md"
        pages[path] = pages.get(path, f"# sl.{short}\n\n") + _entries(module, names, f"sl.{short}")
    return dict(sorted(pages.items()))


def _page(module: ModuleType, names: Any, prefix: str) -> str:
    return f"# {module.__name__}\n\n" + _entries(module, names, prefix)


def _public(module: ModuleType) -> list[str]:
    """What a module offers: its `__all__`, else what it defines itself and gives no underscore."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [n for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == module.__name__]


def _entries(module: ModuleType, names: Any, prefix: str) -> str:
    return "\n".join(_entry(f"{module.__name__}.{name}", getattr(module, name), f"{prefix}.{name}") for name in names)


def _entry(name: str, value: Any, heading: str) -> str:
    """The entry of one public object: what its docstring says, or of a table its names."""
    if isinstance(value, Mapping):
        return f"## {heading}\n\nA table by name: {', '.join(f'`{key}`' for key in value)}.\n"
    if not (inspect.isroutine(value) or inspect.isclass(value)):
        return f"## {heading}\n\n`{value}`\n"
    if not (value.__doc__ or "").strip():
        raise PluginError(f"{name} is public and has no docstring: write one.")
    return f"::: {value.__module__}.{name.rpartition('.')[2]}\n    options:\n      heading: {heading}\n"
