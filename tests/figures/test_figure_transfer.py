"""The headline figure: the loss that it goes by, and its rule."""

import numpy as np
import pandas as pd
import pytest
from made_figures import judged
from made_figures import script as load

import sharplab as sl

script = load("transfer")


def test_late_loss_is_the_mean_of_the_last_quarter_and_missing_where_a_run_diverged():
    runs = pd.DataFrame(
        {"parameterization": "mup", "width": [8, 8, 16], "learning_rate": 1.0, "seed": [0, 1, 0]}
        | {"diverged": [False, True, False]}
    )
    losses = {
        (8, 0): [9.0, 5.0, 4.0, 3.0, 1.0],
        (8, 1): [9.0, 5.0, 4.0, 3.0, np.nan],
        (16, 0): [8.0, 8.0, 8.0, 5.0, 7.0],
    }
    curves = pd.DataFrame(
        [
            {"parameterization": "mup", "width": width, "learning_rate": 1.0, "seed": seed}
            | {"step": 4 * i, "train_loss": y}
            for (width, seed), trajectory in losses.items()
            for i, y in enumerate(trajectory)
        ]
    ).sample(frac=1, random_state=0)  # in no order
    late = script.with_late_loss(sl.Records(runs, curves)).runs.set_index(["width", "seed"])[script.METRIC]
    assert late[8, 0] == 2.0
    assert late[16, 0] == 6.0
    assert np.isnan(late[8, 1])


@pytest.mark.parametrize(
    ("mup", "ntk", "shift", "verdict"),
    [
        ("transfers", "shifts", 0.8, "holds"),
        ("transfers", "shifts", -0.8, "inconclusive"),
        ("shifts", "shifts", 0.8, "fails"),
        ("transfers", "transfers", 0.0, "fails"),
        ("inconclusive", "shifts", 0.8, "inconclusive"),
    ],
)
def test_it_holds_only_where_mup_transfers_and_ntk_shifts_upwards(mup, ntk, shift, verdict):
    assert script.judge(judged(mup), judged(ntk, shift)) == verdict
