"""Curves of a figure's table: what is drawn against what, and with which spread."""

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_figures import sweep_and_trajectories

from sharplab.gallery.curves import (
    AXES,
    BOOKKEEPING,
    MOST_PANELS,
    MOST_POINTS,
    SETTINGS,
    average,
    find_shape,
    plots,
    thin,
)
from sharplab.gallery.entries import figure_scripts


def part(name):
    table = sweep_and_trajectories()
    return table[table["part"] == name].drop(columns="part").dropna(axis=1, how="all")


def traces_of(plot, panel, quantity):
    figure = dict(plot.panels)[panel]
    return {trace.name: trace for trace in figure.data if trace.meta["quantity"] == quantity}


def test_a_sweep_is_drawn_against_the_learning_rate_and_a_trajectory_against_the_step():
    sweep, trajectory = plots(sweep_and_trajectories())
    assert (sweep.title, sweep.quantities) == ("sweep", ("train_loss",))
    assert (trajectory.title, trajectory.quantities) == ("course", ("sharpness", "train_loss"))
    for plot in (sweep, trajectory):
        assert [title for title, _ in plot.panels] == ["muP", "NTK"]
        assert list(traces_of(plot, "muP", "train_loss")) == ["width 8", "width 16"]
    assert traces_of(sweep, "muP", "train_loss")["width 8"].x == (0.5, 1.0, 2.0)
    assert traces_of(trajectory, "muP", "sharpness")["width 8"].x == (0, 32, 64)


def test_lines_are_means_over_seeds_with_their_spread_and_without_points_where_a_seed_diverged():
    sweep, trajectory = plots(sweep_and_trajectories())
    line = traces_of(trajectory, "NTK", "sharpness")["width 16"]
    assert line.y == pytest.approx((1.5, 2.5, 3.5))
    assert line.error_y.array == pytest.approx([np.std([0, 1], ddof=1)] * 3)
    assert traces_of(sweep, "NTK", "train_loss")["width 8"].x == (0.5, 1.0)
    assert traces_of(sweep, "NTK", "train_loss")["width 16"].x == (0.5, 1.0, 2.0)


def test_of_one_seed_the_spread_is_the_error_that_the_table_states():
    rows = pd.DataFrame({"step": [0, 1, 2], "top": [1.0, 2.0, np.nan], "top_error": [0.1, 0.2, 0.3]})
    found = average(rows, "step", "top")
    assert found["mean"].tolist() == [1.0, 2.0]
    assert found["spread"].tolist() == [0.1, 0.2]


def test_equal_values_have_no_spread():
    found = average(pd.DataFrame({"step": [0, 0, 0], "top": [0.1, 0.1, 0.1]}), "step", "top")
    assert found.to_dict("list") == {"step": [0], "mean": [0.1], "spread": [0.0], "count": [3]}


def test_of_a_long_line_the_ends_and_every_peak_stay():
    rng = np.random.default_rng(0)
    y = rng.normal(size=10_000)
    peaks = rng.choice(np.arange(1, 9_999), 20, replace=False)
    y[peaks] = 10 * np.where(np.arange(20) % 2, 1, -1)
    points = pd.DataFrame({"step": np.arange(10_000), "mean": y, "spread": np.nan})
    thinned = thin(points)
    assert len(thinned) <= MOST_POINTS
    assert {0, 9_999, *peaks} <= set(thinned["step"])
    assert thinned["step"].is_monotonic_increasing
    pd.testing.assert_frame_equal(thinned, points.loc[thinned.index])
    assert len(thin(points.head(MOST_POINTS))) == MOST_POINTS


def test_a_line_is_drawn_at_no_more_points_than_are_seen():
    steps = np.arange(5_000)
    table = pd.DataFrame({"step": steps, "width": 8, "loss": np.exp(-steps / 1_000) / 3})
    (((_, figure),),) = [plot.panels for plot in plots(table)]
    (trace,) = figure.data
    assert len(trace.x) <= MOST_POINTS and {trace.x[0], trace.x[-1]} == {0, 4_999}
    assert trace.y == pytest.approx(np.exp(-np.array(trace.x) / 1_000) / 3)


def test_only_the_first_quantity_is_shown_at_first():
    (_, trajectory) = plots(sweep_and_trajectories())
    for _, figure in trajectory.panels:
        shown = {trace.meta["quantity"] for trace in figure.data if trace.visible}
        assert shown == {"sharpness"}


def test_what_another_column_determines_makes_no_panels():
    table = part("course").assign(optimizer="sgd", column=lambda t: t["parameterization"].str.upper())
    assert find_shape(table).panels == ("column",)
    table["learning_rate"] = np.where(table["parameterization"] == "mup", 0.5, 4.0)
    assert find_shape(table).panels == ("column",)


def test_a_table_without_the_shape_of_curves_makes_none():
    assert plots(pd.DataFrame({"name": ["a", "b"], "seconds": [1.0, 2.0]})) == []
    many = pd.concat([part("course").assign(column=str(i)) for i in range(MOST_PANELS + 1)])
    assert plots(many) == []


@pytest.mark.parametrize("name", sorted(set(figure_scripts()) - {"calibration"}))  # which has shares of words
@pytest.mark.long
def test_tables_that_were_left_become_curves(name):
    """Of the figures that lie in the repository, whatever their layout."""
    made = figure_scripts()[name].parents[1] / "figures" / f"{name}.csv"
    if not made.exists():
        pytest.skip(f"needs {made.name}: make figure-{name}")
    found = plots(pd.read_csv(made))
    assert found
    for plot in found:
        for _, figure in plot.panels:
            for trace in figure.data:
                assert len(trace.x) == len(trace.y) == len(set(trace.x)) > 0
                assert np.isfinite(np.asarray(trace.y, float)).all()


CELL = st.sampled_from(
    ["", "0", "1", "0.5", "-3", "1e400", "inf", "nan", "x", "<b>", "True", "[1]", "18446744073709551616"]
)
COLUMN = st.sampled_from(
    [*SETTINGS, *BOOKKEEPING, *AXES, "part", "column", "stderr", "loss", "loss_stderr", "a_low", ""]
)


def test_an_error_that_is_text_is_not_drawn():
    table = pd.DataFrame({"width": [8, 16], "score": [1.0, 2.0], "stderr": [None, "<b>"]})
    (plot,) = plots(table)
    assert "\\u003cb\\u003e" not in plot.panels[0][1].to_json()


@settings(max_examples=100)
@given(columns=st.lists(COLUMN, min_size=1, max_size=6), data=st.data())
def test_any_table_has_curves_or_none(columns, data):
    rows = data.draw(st.lists(st.tuples(*[CELL] * len(columns)), max_size=8))
    text = "\n".join(",".join(row) for row in [columns, *rows])
    try:
        table = pd.read_csv(StringIO(text))
    except ValueError:
        return
    for plot in plots(table):
        for title, figure in plot.panels:
            assert "<b>" not in figure.to_json().replace("\\u003cb\\u003e", "<b>") and isinstance(title, str)
