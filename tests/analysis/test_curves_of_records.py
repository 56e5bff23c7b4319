"""Metrics that are computed from curves."""

import numpy as np
import pandas as pd
import pytest

from sharplab.analysis import transfer
from sharplab.analysis.curves import with_metric
from sharplab.records import Records

METRIC = "late_train_loss"
LOSSES = {
    (8, 0): [9.0, 5.0, 4.0, 3.0, 1.0],
    (8, 1): [9.0, 5.0, 4.0, 3.0, np.nan],
    (16, 0): [8.0, 8.0, 8.0, 5.0, 7.0],
}


def records(losses=LOSSES, *, gap=4, **columns) -> Records:
    """Runs of one learning rate, whose curves are in no order; columns differ from run to run."""
    keys = [{"parameterization": "mup", "width": width, "learning_rate": 1.0, "seed": seed} for width, seed in losses]
    each = [key | {name: values[i] for name, values in columns.items()} for i, key in enumerate(keys)]
    curves = pd.DataFrame(
        [
            row | {"step": gap * i, "train_loss": y}
            for row, ys in zip(each, losses.values(), strict=True)
            for i, y in enumerate(ys)
        ]
    )
    return Records(pd.DataFrame(each), curves.sample(frac=1, random_state=0))


def late(given: Records) -> list[float]:
    return with_metric(given, METRIC).runs[METRIC].tolist()


def test_a_late_metric_is_the_mean_of_the_last_quarter_and_missing_where_a_run_diverged():
    np.testing.assert_equal(late(records()), [2.0, np.nan, 6.0])
    given = records()
    np.testing.assert_equal(
        late(Records(given.runs.assign(diverged=[True, False, False]), given.curves)), [np.nan] * 2 + [6.0]
    )


def test_each_run_has_a_last_quarter_of_its_own():
    long = records({(8, 0): [4.0] * 5 + [1.0] * 3, (16, 0): [4.0] * 4}, gap=1)
    assert late(long) == [1.0, 4.0]  # steps 5.25 to 7, and 2.25 to 3


def test_runs_that_were_recorded_more_often_are_averaged_over_the_steps_of_all():
    seldom = records({(8, 0): [9.0, 5.0, 4.0, 3.0, 1.0], (16, 0): [8.0, 8.0, 8.0, 5.0, 7.0]})
    often = seldom.curves.query("width == 8").assign(step=lambda rows: rows["step"] - 1, train_loss=99.0)
    both = Records(seldom.runs, pd.concat([seldom.curves, often.query("step >= 0")]))
    assert late(both) == late(seldom) == [2.0, 6.0]


@pytest.mark.parametrize("column", ["run_id", "gamma"])
def test_runs_are_told_apart_by_identity_or_by_any_setting_that_curves_have(column):
    two = records({(8, 0): [3.0, 3.0]} | {(8, 1): [5.0, 5.0]}, **{column: [1, 2]})
    same_seed = Records(two.runs.assign(seed=0), two.curves.assign(seed=0))
    assert late(same_seed) == [3.0, 5.0]
    with pytest.raises(ValueError, match="run_id"):
        late(Records(same_seed.runs.drop(columns=column), same_seed.curves))


SHORT = {(8, 0): [4.0, 4.0, 3.0], (8, 1): [4.0] * 11, (16, 0): [5.0, 5.0, 4.0], (16, 1): [5.0] * 11}


def test_a_run_whose_own_loss_is_no_number_has_diverged_though_its_curve_ends_before():
    for final in (np.nan, np.inf):
        assert np.isnan(late(records(SHORT, train_loss=[final, 4.0, final, 5.0]))[::2]).all()
        assert late(records(SHORT, train_loss=[final, 4.0, final, 5.0]))[1::2] == [4.0, 5.0]


def test_curves_that_end_long_before_others_need_a_reason():
    with pytest.raises(ValueError, match=r"2 curves end .* step 8 of 40.*diverged.*steps"):
        late(records(SHORT))
    shorter = records(SHORT)
    assert late(Records(shorter.runs.assign(steps=[8, 40] * 2), shorter.curves)) == [3.0, 4.0, 4.0, 5.0]
    np.testing.assert_equal(late(records(SHORT, diverged=[True, False] * 2)), [np.nan, 4.0, np.nan, 5.0])


def test_a_column_of_the_runs_counts_for_more_than_curves():
    given = records()
    assert with_metric(given, "train_loss") is given
    own = Records(given.runs.assign(**{METRIC: 7.0}), given.curves)
    assert with_metric(own, METRIC) is own


def test_what_a_late_metric_needs_is_named():
    given = records()
    with pytest.raises(ValueError, match="late_eval_loss"):
        with_metric(given, "late_eval_loss")
    with pytest.raises(ValueError, match="late_train_loss"):
        with_metric(Records(given.runs), METRIC)
    with pytest.raises(ValueError, match="1 of the runs"):
        with_metric(Records(given.runs, given.curves[given.curves["width"] == 8]), METRIC)


def test_transfer_takes_a_late_metric():
    rates, widths, seeds = (x.ravel() for x in np.meshgrid(2.0 ** np.arange(-3, 4), [16, 32], range(3)))
    rng = np.random.default_rng(0)
    final = 1 + 0.1 * np.log2(rates) ** 2 + 0.001 * rng.standard_normal(rates.size)
    runs = pd.DataFrame({"width": widths, "learning_rate": rates, "seed": seeds})
    curves = pd.concat(
        [runs.assign(step=step, eval_loss=final + off) for step, off in ((0, 5), (75, 0.1), (100, -0.1))]
    )
    found = transfer(Records(runs, curves), metric="late_eval_loss")["runs"]
    same = transfer(Records(runs.assign(eval_loss=final)), metric="eval_loss")["runs"]
    assert found.metric == "late_eval_loss"
    np.testing.assert_allclose(found.optimum, same.optimum, rtol=1e-9)
