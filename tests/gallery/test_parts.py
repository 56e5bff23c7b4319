"""Long computations of figures, part by part: interrupted and gone on with."""

import io
import multiprocessing
import time

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from sharplab.core.evidence import Evidence, gathering, measured_parts
from sharplab.gallery import parts as module
from sharplab.gallery.keeping import KEPT, from_kept, keep
from sharplab.gallery.parts import KeptParts, kept_parts

NAMES = ["runs", "curves"]


def part(number, done, stop_at=None):
    """Tables of mixed types; every other part has none of the second."""
    if number == stop_at:
        raise KeyboardInterrupt
    done.append(number)
    table = pd.DataFrame(
        {"part": [number] * 2, "name": ["a", None], "x": np.float32([0.1, np.nan]), "ok": [True, False]}
    )
    return [table, None if number % 2 else table.assign(x=np.float64(number) / 3)]


def tables(folder, done, stop_at=None, count=4, console=None):
    kept = KeptParts(folder / "state", console or Console(file=io.StringIO()))
    with gathering(Evidence(compute=kept.compute)) as evidence:
        found = measured_parts(NAMES, {f"part {i}": lambda i=i: part(i, done, stop_at) for i in range(count)})
    return found, evidence


def test_parts_make_the_tables_that_they_make_at_once(tmp_path):
    expected = measured_parts(NAMES, {f"part {i}": lambda i=i: part(i, []) for i in range(4)})
    found, evidence = tables(tmp_path, [])
    for name, one, other in zip(NAMES, found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other)
        assert evidence.tables[name] is one


def test_what_was_interrupted_goes_on_and_computes_no_part_twice(tmp_path):
    done = []
    with pytest.raises(KeyboardInterrupt):
        tables(tmp_path, done, stop_at=2)
    assert done == [0, 1]
    found, _ = tables(tmp_path, done)
    assert done == [0, 1, 2, 3]
    again, _ = tables(tmp_path, done)
    assert done == [0, 1, 2, 3]
    for one, other in zip(found, again, strict=True):
        pd.testing.assert_frame_equal(one, other)


def _killed_in_the_third(folder):
    def sleeping(number, done):
        if number == 2:
            time.sleep(60)
        return part(number, done)

    kept = KeptParts(folder / "state", Console(file=io.StringIO()))
    kept.compute({f"runs, curves: part {i}": lambda i=i: sleeping(i, []) for i in range(4)})


@pytest.mark.long
def test_a_killed_process_leaves_whole_parts(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_killed_in_the_third, args=(tmp_path,))
    process.start()
    while len(list(tmp_path.glob("state/[0-9a-f]*"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.join()
    done = []
    tables(tmp_path, done)
    assert done == [2, 3]


@pytest.mark.parametrize("left", [0, 2, 100])
def test_a_part_that_was_cut_short_is_computed_anew(tmp_path, left):
    expected, _ = tables(tmp_path, [])
    for damaged in (tmp_path / "state").glob("*/1.parquet"):
        damaged.write_bytes(damaged.read_bytes()[:left])
    done = []
    found, _ = tables(tmp_path, done)
    assert set(done) >= {0, 2}  # those that have a second table
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_parts_of_other_code_preset_or_figure_are_not_read(tmp_path):
    (tmp_path / "script.py").write_text("x = 1")

    def folder(name="one", preset="quick"):
        return kept_parts(tmp_path / "figures", name, preset, tmp_path, Console()).folder

    first = folder()
    assert first == folder() and first.is_relative_to(tmp_path / "figures" / KEPT)
    assert len({first, folder(preset="full"), folder(name="two")}) == 3
    (tmp_path / "script.py").write_text("x = 2")
    assert folder() != first


def test_they_go_when_the_figure_is_made_and_are_no_evidence_of_one(tmp_path):
    figures = tmp_path / "figures"
    kept = kept_parts(figures, "one", "quick", tmp_path, Console(file=io.StringIO()))
    with gathering(Evidence(compute=kept.compute)) as evidence:
        found = measured_parts(NAMES, {"part 0": lambda: part(0, [])})
    assert kept.folder.is_dir()
    keep(evidence, tmp_path / "store", figures, "one")
    kept.clear()
    assert {path.name for path in (figures / KEPT).rglob("*.parquet")} == {"curves.parquet", "runs.parquet"}
    assert {path.name for path in (figures / KEPT).iterdir()} == {"one"}
    with from_kept(figures, "one"):
        again = measured_parts(NAMES, {"part 0": lambda: part(0, [], stop_at=0)})
    for one, other in zip(found, again, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_how_far_it_is_stands_in_a_line_now_and_then(tmp_path, monkeypatch):
    clock = iter(np.arange(0.0, 1000.0, 4.0))
    monkeypatch.setattr(module, "monotonic", lambda: float(next(clock)))
    said = io.StringIO()
    tables(tmp_path, [], count=40, console=Console(file=said, width=200))
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("    8%  3 of 40 parts (last: runs, curves: part 2), about ")
    assert 2 <= len(lines) <= 6
