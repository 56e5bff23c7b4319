"""The largest stable learning rate by bisection, where an edge was put in and where whole grids train or diverge."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from fake_training import FakeTrainer, experiment

from sharplab.studies import stable_rates
from sharplab.studies.stable_rates import brackets_of, largest_stable_rates, next_rates
from sharplab.sweep.runner import run_with


@dataclass
class Edged(FakeTrainer):
    """Runs diverge above 2^(b/2 + seed/8), b the log₂ of the batch size."""

    def result(self, task, run):
        edge = 2.0 ** (np.log2(task.batch_size) / 2 + run.seed / 8)
        return FakeTrainer(lambda _: run.learning_rate, edge=edge / run.learning_rate).result(task, run)


def test_the_edge_that_was_put_in_is_found_with_its_slope(tmp_path, monkeypatch):
    trainer = Edged()
    monkeypatch.setattr(stable_rates, "run", partial(run_with, trainer))
    one = experiment(widths=(4,), parameterizations=("mup",), learning_rates=(1.0,), seeds=3)
    sizes = (1, 4, 16, 64)
    found = largest_stable_rates([replace(one, batch_size=size) for size in sizes], tmp_path)
    for row in found.brackets.to_dict("records"):
        edge = 2.0 ** (np.log2(row["batch_size"]) / 2 + row["seed"] / 8)
        assert row["low"] <= edge < row["high"] <= row["low"] * 2**0.25 * (1 + 1e-9)
    slope = found.slope()
    assert slope.low < 0.5 < slope.high
    assert slope.high - slope.low < 0.1
    assert found.slope((1, 4)).value == pytest.approx(0.5, abs=0.1)
    assert np.isnan(found.slope((1,)).value)
    table = found.table()
    assert ((table["edge_low"] < table["edge"]) & (table["edge"] < table["edge_high"])).all()
    assert np.allclose(table["edge"], 2.0 ** (np.log2(sizes) / 2 + 1 / 8), rtol=0.1)
    # A grid of the same reach and fineness is three times as many.
    assert len(trainer.trained) < 150
    assert len({(task.batch_size, run.learning_rate, run.seed) for task, run in trainer.trained}) == len(
        trainer.trained
    )


def test_brackets_end_at_the_first_rate_that_does_not_train():
    runs = pd.DataFrame(
        {
            "batch_size": 4,
            "seed": [0, 0, 0, 0, 1, 1, 2],
            "learning_rate": [4.0, 1.0, 2.0, 8.0, 1.0, 2.0, 1.0],
            "trains": [True, True, False, True, True, True, False],
        }
    )
    found = brackets_of(runs, "batch_size")
    assert found[["low", "high"]].to_numpy().tolist() == [[1, 2], [2, np.inf], [0, 1]]
    assert next_rates(found, 0.25) == {float(f"{2**0.5:.12g}"), 8.0, 0.25}
    assert next_rates(found[:1], 1.0) == set()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"widths": (4, 8)}, "experiments"),
        ({"observables": ("eval_loss",)}, "train_loss"),
    ],
)
def test_experiments_that_tell_no_edge_are_refused(wrong, name, tmp_path):
    one = experiment(**{"widths": (4,), "parameterizations": ("mup",), "learning_rates": (1.0,)} | wrong)
    with pytest.raises(ValueError, match=name):
        largest_stable_rates([one], tmp_path)


def test_two_of_one_value_are_refused(tmp_path):
    one = experiment(widths=(4,), parameterizations=("mup",), learning_rates=(1.0,))
    with pytest.raises(ValueError, match="batch_size"):
        largest_stable_rates([one, one], tmp_path)
