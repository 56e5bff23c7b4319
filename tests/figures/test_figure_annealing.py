"""The figure of annealing laws: its rule and its numbers on made-up runs, and that it is made."""

import numpy as np
import pandas as pd
import pytest
from made_figures import script

from sharplab.analysis.trend import Measured

annealing = script("annealing")


def about(low, high):
    return Measured((low + high) / 2, low, high)


GOOD, UNKNOWN, BAD = about(0.001, 0.005), about(0.005, 0.02), about(0.02, 0.03)


@pytest.mark.parametrize(
    ("errors", "over", "slope", "answers"),
    [
        ({"momentum": [GOOD, GOOD], "multi_power": [BAD, GOOD]}, [GOOD, GOOD], about(-0.01, 0.2), "yes yes yes"),
        (
            {"momentum": [GOOD, UNKNOWN], "multi_power": [BAD, BAD]},
            [GOOD, UNKNOWN],
            about(-0.01, 0.3),
            "open open open",
        ),
        ({"momentum": [BAD, GOOD], "multi_power": [GOOD, BAD]}, [BAD, UNKNOWN], about(-0.5, -0.26), "no no no"),
    ],
)
def test_rule_of_annealing_laws(errors, over, slope, answers):
    errors = {law: dict(enumerate(found)) for law, found in errors.items()}
    slopes = {"momentum": slope, "multi_power": about(1.0, 2.0)}
    found = annealing.answer(errors, dict(enumerate(over)), slopes)
    assert " ".join(found.values()) == answers


def test_errors_are_means_over_schedules_and_the_best_other_is_chosen_on_other_seeds():
    told = pd.DataFrame(
        {"width": 8, "seed": [0, 0, 1, 1], "last": True, "predicted": np.exp([0.01, -0.03, 0.02, 0.02])}
        | {"train_loss": 1.0}
    )
    found = annealing.errors_of(told)[8]
    assert np.isclose(found.value, 0.02) and np.isclose(found.low, 0.02)
    losses = {"linear": [1.0, 1.2, 1.0], "cosine": [1.1, 1.1, 1.3], annealing.BEST: [1.0, 1.0, 1.0]}
    ends = pd.DataFrame(
        {"width": 8, "seed": seed, "schedule": name, "train_loss": loss}
        for name, of_seeds in losses.items()
        for seed, loss in enumerate(of_seeds)
    )
    # Seed 0: linear has 1.1 on the others, cosine 1.2; seed 1: linear 1.0; seed 2: linear, by the mean of logarithms.
    expected = -np.log([1.0, 1.2, 1.0])
    assert np.isclose(annealing.over_the_best(ends)[8].value, np.mean(expected))


@pytest.mark.long
def test_the_figure_of_annealing_laws_is_made(tmp_path):
    found = annealing.find("smoke", tmp_path)
    assert set(found.numbers["error_of_final_losses"]["momentum"]) == {"4", "8"}
    assert set(found.table["schedule"]) == {*annealing.FITTED, *annealing.ASKED, annealing.BEST}
