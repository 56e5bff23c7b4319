"""What a figure was drawn from, kept beside it, and drawn from again."""

import dataclasses

import pandas as pd
import pytest
from fake_training import FakeTrainer, experiment

from sharplab.core.evidence import Evidence, gathering, measured
from sharplab.gallery.keeping import KEPT, from_kept, keep
from sharplab.sweep.runner import run_with

SWEEP = experiment(refine=True)
TABLE = pd.DataFrame({"name": ["a", "b"], "value": [1.5, float("nan")], "count": [1, 2]}, index=[3, 7])


def draw(trainer, store):
    """What a figure's script does: runs, and a table of its own."""
    return run_with(trainer, SWEEP, store).curves, measured("own", lambda: TABLE)


@pytest.fixture
def drawn(tmp_path):
    """A figure drawn once, whose store holds other runs too."""
    store, folder = tmp_path / "store", tmp_path / "figures"
    run_with(FakeTrainer(), dataclasses.replace(SWEEP, widths=(64,), seeds=4), store)
    with gathering(Evidence()) as evidence:
        curves, _ = draw(FakeTrainer(), store)
    keep(evidence, store, folder, "figure")
    return folder, curves


def test_a_figure_is_drawn_again_from_what_is_kept(drawn):
    folder, curves = drawn
    with from_kept(folder, "figure") as store:
        again, table = draw(FakeTrainer(stop_after=0), store)
    pd.testing.assert_frame_equal(again, curves)
    pd.testing.assert_frame_equal(table, TABLE.reset_index(drop=True))


def test_what_is_kept_is_left_as_it_is(drawn):
    folder, _ = drawn
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with from_kept(folder, "figure") as store:
        draw(FakeTrainer(), store)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_nothing_is_trained_or_computed_anew(drawn):
    folder, _ = drawn
    with from_kept(folder, "figure") as store:
        with pytest.raises(ValueError, match="runs are not among those"):
            run_with(FakeTrainer(), dataclasses.replace(SWEEP, seeds=9), store)
        with pytest.raises(ValueError, match="'another'"):
            measured("another", lambda: TABLE)
    with pytest.raises(ValueError, match="other is missing"), from_kept(folder, "other"):
        pass


def test_what_a_figure_no_longer_needs_goes(drawn, tmp_path):
    folder, _ = drawn
    with gathering(Evidence()) as evidence:
        measured("new", lambda: TABLE)
    keep(evidence, tmp_path / "store", folder, "figure")
    kept = folder / KEPT / "figure"
    assert [path.name for path in kept.rglob("*.parquet")] == ["new.parquet"]
    with gathering(Evidence()) as nothing:
        pass
    keep(nothing, tmp_path / "store", folder, "figure")
    assert not kept.exists()
