"""What mkdocs is given besides docs/: an entry for each public name, and benchmarks as their files say."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import sharplab

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "figures" / "bench"
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()


def load(name, monkeypatch):
    """A module of docs/, as mkdocs loads it."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("bench_tables", None)
    return module


def test_every_public_name_has_an_entry_and_one_without_a_docstring_fails_the_build(monkeypatch):
    pytest.importorskip("mkdocs", reason="needs mkdocs: make docs")
    hooks = load("hooks", monkeypatch)
    text = "\n".join(hooks.reference().values())
    names = [f"sl.{name}" for names in sharplab._NAMES.values() for name in names]
    names += [f"sl.{short}.{name}" for short in ("data", "optimizers", "scaling") for name in public(short)]
    assert [
        name for name in names if not {f"heading: {name}", f"## {name}"} & set(map(str.strip, text.splitlines()))
    ] == []

    def bare():
        pass

    bare.__module__ = "sharplab.schedules"
    monkeypatch.setattr(sharplab.schedules, "wsd", bare)
    with pytest.raises(hooks.PluginError, match=r"schedules\.wsd"):
        hooks.reference()


def public(short):
    module = getattr(sharplab, short)
    taken = sharplab._NAMES.get(module.__name__, ())
    return [name for name in getattr(module, "__all__", ()) if name not in taken]


def test_the_benchmarks_page_has_every_table_and_the_numbers_of_the_files(monkeypatch):
    tables = load("bench_tables", monkeypatch)
    assert {found[1] for found in tables.PLACE.finditer(PAGE)} == set(tables.TABLES)
    page = tables.fill(PAGE, BENCH)
    assert "<!--" not in page
    for name, row in json.loads((BENCH / "spectrum.json").read_text())["headline"].items():
        cells = (
            f"| {name} | {row['products_over_oracle']:.2f} | {row['best_peer']} | {row['seconds_of_best_peer']:.1f} |"
        )
        assert cells in page
    missed = [
        t for r in ("sweep_speed", "figure1") for t in json.loads((BENCH / f"{r}.json").read_text())["targets"].values()
    ]
    assert page.count("| **no** |") == sum(not target["met"] for target in missed)


def test_other_numbers_make_another_page_and_a_report_that_lacks_some_is_refused(monkeypatch, tmp_path):
    tables = load("bench_tables", monkeypatch)
    made = json.loads((BENCH / "memory.json").read_text())
    made["parts"]["memory"]["found"] = [
        made["parts"]["memory"]["found"][0] | {"products": 77, "error": 0.5, "vectors": 31.0, "parameters": 254_592}
    ]
    (tmp_path / "memory.json").write_text(json.dumps(made))
    page = tables.fill("<!-- benchmark: memory -->", tmp_path)
    assert "| 4 | 254,592 | 77 | 31 | 5.0e-01 | 0.62 billion |" in page
    with pytest.raises(FileNotFoundError, match=r"spectrum\.json"):
        tables.fill("<!-- benchmark: errors -->", tmp_path)
    del made["parts"]["memory"]["hardware"]
    (tmp_path / "memory.json").write_text(json.dumps(made))
    with pytest.raises(KeyError, match="hardware"):
        tables.fill("<!-- benchmark: memory -->", tmp_path)
