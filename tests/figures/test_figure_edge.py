"""The figure of the edge of stability: the rule, and what it reads off made-up records."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.records import Records

script = load("edge")
paths = sys.modules["edge_paths"]  # which the script imports from beside it


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ((0.95, 1.05), (0.92, 1.08), "holds"),
        ((0.95, 1.05), (1.05, 1.2), "inconclusive"),
        ((0.95, 1.05), (0.6, 0.85), "fails"),
        ((0.95, 1.05), (-np.inf, np.inf), "inconclusive"),
    ],
)
def test_rule(one, other, verdict):
    assert script.judge({"sgd": Measured(1.0, *one), "muon": Measured(1.0, *other)}) == verdict


def runs(optimizer, rate, sharpness):
    """Two seeds with the sharpness in three records each, the first before the second half."""
    runs = pd.DataFrame({"run_id": ["a", "b"], "optimizer": optimizer, "learning_rate": rate, "seed": [0, 1]})
    keys = {"run_id": np.repeat(["a", "b"], 3), "seed": np.repeat([0, 1], 3), "step": [0, 6, 10] * 2}
    curves = pd.DataFrame(keys | {"learning_rate": rate, "train_loss": 1.0, "sharpness": sharpness})
    return script.relative(Records(runs, curves))


def test_a_place_is_the_mean_of_the_second_half_over_the_optimizers_own_threshold():
    place = script.place_of(runs("momentum", 0.5, [0.0, 7.6, 7.6, 0.0, 6.8, 7.6]))
    assert place.value == pytest.approx((1 + 7.2 / 7.6) / 2) and place.low < place.value < place.high
    diverged = script.place_of(runs("adam", 0.5, [0.0, 76.0, 76.0, 0.0, 76.0, np.nan]))
    assert diverged.interval == (-np.inf, np.inf)


def test_a_catapult_survives_where_it_ends_below_its_first_loss():
    losses = {1.0: [1.0, 0.9, 0.5], 2.0: [1.0, 3.0, 0.2], 4.0: [1.0, 90.0, np.nan]}
    rows = [
        {"learning_rate": rate, "seed": 0, "step": step, "train_loss": value, "sharpness": 1.5}
        for rate, values in losses.items()
        for step, value in enumerate(values)
    ]
    found = script.catapults(pd.DataFrame(rows))
    assert found["survives"].tolist() == [True, True, False]
    assert found["multiple"].tolist() == [0.75, 1.5, 3.0]
    assert found["peak"].tolist() == [1.0, 3.0, 90.0] and found["late"][:2].tolist() == [0.75, 1.5]
    summary = script.summary_of(found)
    assert (summary["largest_c_that_survives"], summary["smallest_c_that_does_not"]) == (1.5, 3.0)


def test_averages_are_of_windows_about_the_middle_between_steps():
    found = paths.averages(np.arange(50.0))
    assert np.isnan(found[:9]).all() and np.isnan(found[40:]).all()
    np.testing.assert_allclose(found[9:40], np.arange(9, 40) + 0.5)


def test_slopes_at_the_edge_are_those_of_the_loss_and_of_the_eigenvalue(float64):
    def loss(w, batch):
        return (3 + w["y"] + w["z"] ** 2) * w["x"] ** 2 / 2 - batch * w["y"]

    point = {name: jnp.array(value) for name, value in {"x": 0.1, "y": 0.5, "z": 0.3}.items()}
    u = {name: jnp.array(value) for name, value in {"x": 1.0, "y": 0.0, "z": 0.0}.items()}
    slope, rise = paths.slopes_at(jax.tree_util.Partial(loss), point, jnp.array(0.2), u)
    assert {name: float(value) for name, value in slope.items()} == pytest.approx(
        {"x": 0.359, "y": 0.005 - 0.2, "z": 0.003}
    )
    assert {name: float(value) for name, value in rise.items()} == pytest.approx({"x": 0.0, "y": 1.0, "z": 0.6})
