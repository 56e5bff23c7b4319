"""Tables of anyone's sweeps."""

import sys

import pandas as pd
import pytest

from sharplab.records import Records, require_one_setting

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
