"""Tables of anyone's sweeps."""

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sharplab as sl
from sharplab.records import RATE_DISTANCE, Records, has_diverged, join_rates, require_one_setting

RUNS = pd.DataFrame({"width": [8, 8, 16], "learning_rate": [0.1, 0.2, 0.1], "seed": 0, "eval_loss": [1.0, 2.0, 3.0]})


def test_select_filters_runs_and_curves_alike():
    curves = RUNS.assign(step=0)
    chosen = Records(RUNS, curves).select(width=8, learning_rate=[0.2, 0.3])
    assert chosen.runs["eval_loss"].tolist() == [2.0]
    assert chosen.curves is not None and len(chosen.curves) == 1


def test_an_unknown_column_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"column 'widht'.*width"):
        Records(RUNS).select(widht=8)


def test_a_table_without_learning_rates_is_refused():
    with pytest.raises(ValueError, match=r"runs .*'learning_rate'"):
        Records(RUNS.drop(columns="learning_rate"))


def test_mixed_settings_are_refused_unless_they_are_what_is_compared():
    require_one_setting(RUNS, apart_from=["width"])
    with pytest.raises(ValueError, match=r"width = 8, 16.*select\(width=8\)"):
        require_one_setting(RUNS, apart_from=["depth"])


@pytest.mark.parametrize("by", ["run_id", "keys"])
def test_curves_follow_a_setting_that_only_the_runs_have(by):
    runs = RUNS.assign(steps=[100, 100, 200], run_id=["a", "b", "c"])
    curves = runs.drop(columns=["steps", *(["run_id"] if by == "keys" else [])]).assign(step=0)
    chosen = Records(runs, curves).select(steps=200).curves
    assert chosen is not None and chosen["width"].tolist() == [16]


def test_curves_that_cannot_be_told_apart_are_refused():
    runs = pd.concat([RUNS.assign(steps=100), RUNS.assign(steps=200)])
    curves = pd.concat([RUNS, RUNS]).assign(step=0)
    with pytest.raises(ValueError, match="run_id"):
        Records(runs, curves).select(steps=100)


def test_selecting_what_no_run_has_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"width = 32.*8, 16"):
        Records(RUNS).select(width=32)


def test_all_missing_columns_are_named_and_empty_tables_refused():
    with pytest.raises(ValueError, match=r"runs .*'learning_rate', 'seed'"):
        Records(RUNS[["width"]])
    with pytest.raises(ValueError, match=r"runs .*rows"):
        Records(RUNS.head(0))


def test_missing_settings_count_as_a_setting_of_their_own():
    with pytest.raises(ValueError, match=r"steps = 100\.0, nan"):
        require_one_setting(RUNS.assign(steps=[100.0, 100.0, None]), apart_from=["width"])


@pytest.mark.parametrize("marks", [[True, False, None], [1, 0, 0], [1.0, np.nan, 0.0], pd.array([True, None, False])])
def test_divergence_is_true_or_one_and_a_missing_mark_is_none(marks):
    assert has_diverged(RUNS.assign(diverged=marks)).tolist() == [True, False, False]
    assert not has_diverged(RUNS).any()


@pytest.mark.parametrize("marks", ["False", "yes", 2, 0.5])
def test_divergence_that_is_no_truth_is_refused_with_the_remedy(marks):
    with pytest.raises(ValueError, match=f"diverged .*{marks}.*eq"):
        has_diverged(RUNS.assign(diverged=marks))


def test_arrays_hold_the_curves_by_their_keys():
    curves = pd.concat([RUNS.assign(step=step) for step in (0, 1)])
    arrays = Records(RUNS, curves).to_xarray()
    assert float(arrays["eval_loss"].sel(width=16, learning_rate=0.1, seed=0, step=1)) == 3.0
    with pytest.raises(ValueError, match="width, learning_rate, seed, step"):
        Records(RUNS, pd.concat([curves, curves])).to_xarray()


def test_without_xarray_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match="install xarray"):
        Records(RUNS).to_xarray()


@settings(deadline=None, max_examples=50)
@given(
    start=st.floats(1e-6, 10),
    ratio=st.floats(1.01, 4),
    jitters=st.lists(st.integers(-1000, 1000), min_size=2, max_size=5, unique=True),
    count=st.integers(1, 6),
    order=st.randoms(use_true_random=False),
)
def test_rates_that_differ_by_rounding_are_one_and_those_of_fine_grids_stay_apart(start, ratio, jitters, count, order):
    exact = np.repeat(start * ratio ** np.arange(count), len(jitters))
    rounded = exact * np.tile(1 + RATE_DISTANCE / 3000 * np.array(jitters), count)
    rows = order.sample(range(len(exact)), len(exact))
    runs = pd.DataFrame({"learning_rate": rounded[rows], "seed": 0, "exact": exact[rows]})
    with pytest.warns(UserWarning, match="learning_rate"):
        joined = join_rates(runs)
    assert (joined.groupby("exact")["learning_rate"].nunique() == 1).all()
    assert joined["learning_rate"].nunique() == count
    assert np.isclose(joined["learning_rate"], joined["exact"], rtol=RATE_DISTANCE).all()
    assert set(joined["learning_rate"]) <= set(runs["learning_rate"])
    assert join_rates(joined) is joined  # bit by bit, and without a word


def test_a_chain_of_near_rates_is_cut_where_it_leaves_its_lowest():
    chain = 0.1 * (1 + 0.6 * RATE_DISTANCE) ** np.arange(5)
    for order in (chain, chain[::-1]):
        with pytest.warns(UserWarning, match="2 of 5"):
            joined = join_rates(pd.DataFrame({"learning_rate": order}))["learning_rate"]
        assert sorted(joined.map(dict(zip(sorted(set(joined)), "abc", strict=True)))) == list("aabbc")


def test_a_rate_is_selected_as_it_was_rounded():
    runs = RUNS.assign(learning_rate=RUNS["learning_rate"].astype("float32"))
    assert len(Records(runs).select(learning_rate=0.1).runs) == 2
    with pytest.raises(ValueError, match="learning_rate"):
        Records(runs).select(learning_rate=0.1 * (1 + 2 * RATE_DISTANCE))


FOUR = pd.DataFrame(
    {"width": [8, 8, 16, 16], "learning_rate": [1.0, 2.0] * 2, "seed": 0, "eval_loss": [2.0, 1.0, 2.0, 1.0]}
)


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (FOUR.convert_dtypes().assign(width=[8, 8, pd.NA, pd.NA]).astype({"width": "Int64"}), "width must be positive"),
        (FOUR.astype({"width": "category"}), r"width must be numbers, not categories.*astype\(float\)"),
        (FOUR.assign(seed=["a", "a", None, "a"]), "seed must be a number in every run, or a text"),
        (FOUR.assign(seed=[0, "a", 0, 0]), "seed must be a number in every run, or a text"),
        (FOUR.rename(columns={"eval_loss": "width"}), "column 'width' twice"),
    ],
    ids=["missing", "category", "seedless", "mixed", "twice"],
)
def test_what_would_drop_or_confuse_runs_is_refused(runs, says):
    with pytest.raises(ValueError, match=says):
        sl.transfer(sl.Records(runs))
