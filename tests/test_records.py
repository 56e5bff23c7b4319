"""Tables of anyone's sweeps."""

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
    with pytest.raises(ValueError, match=r"no column 'widht'.*width"):
        Records(RUNS).select(widht=8)


def test_a_table_without_learning_rates_is_refused():
    with pytest.raises(ValueError, match="runs lacks the column 'learning_rate'"):
        Records(RUNS.drop(columns="learning_rate"))


def test_mixed_settings_are_refused_unless_they_are_what_is_compared():
    require_one_setting(RUNS, apart_from=["width"])
    with pytest.raises(ValueError, match=r"mix width = 8, 16.*select\(width=8\)"):
        require_one_setting(RUNS, apart_from=["depth"])
