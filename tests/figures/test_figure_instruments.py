"""The figure of instruments: curvatures over their own thresholds, the plateau's place of each, and the rule."""

import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured

script = load("instruments")


def curves(optimizer, **columns):
    steps = [0, 4, 8, 0, 4, 8]
    table = {"optimizer": optimizer, "batch_size": 32, "learning_rate": 0.5, "seed": [0, 0, 0, 1, 1, 1], "step": steps}
    return pd.DataFrame(table | {"train_loss": 1.0} | dict.fromkeys(script.QUANTITIES, 8.0) | columns)


def test_each_curvature_is_over_its_own_threshold():
    adam = script.relative(curves("adamw")).iloc[0]
    threshold = (2 / 0.5 - 0.01) * 19  # of the metric's curvature, with AdamW's usual decay
    assert adam["sharpness"] == adam["batch_sharpness"] == pytest.approx(8 / threshold)
    assert adam["critical_sharpness"] == adam["update_sharpness"] == 8 / 4  # along the step itself: 2/η


def test_what_lives_in_a_metric_is_left_out_where_there_is_none():
    both = script.relative(pd.concat([curves("sgd"), curves("lion")]))
    lion = both[both["optimizer"] == "lion"]
    assert lion[list(script.IN_METRIC)].isna().all(axis=None)
    assert (lion["sharpness"] == 2).all()
    assert set(script.plateau(both)["lion", 32]) == set(script.QUANTITIES) - set(script.IN_METRIC)


def test_the_plateau_is_the_median_of_the_second_half_and_its_interval_over_seeds():
    found = script.plateau(script.relative(curves("sgd", critical_sharpness=[9, 9, 4, 9, 9, 8])))
    place = found["sgd", 32]["critical_sharpness"]
    assert place.value == 1.5 and place.low == pytest.approx(1.5 - 12.706 * 0.5, rel=1e-4)  # Student's t of two


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ((0.95, 1.05), (0.92, 1.08), "holds"),
        ((0.95, 1.05), (1.05, 1.2), "inconclusive"),
        ((0.95, 1.05), (1.15, 1.2), "fails"),
        ((0.8, 1.2), (0.5, 0.8), "fails"),
        ((float("-inf"), float("inf")), (0.95, 1.05), "inconclusive"),
    ],
)
def test_rule(one, other, verdict):
    assert script.judge({("sgd", 1): Measured(1.0, *one), ("lion", 1): Measured(1.0, *other)}) == verdict
