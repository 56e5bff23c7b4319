"""The figure of the power schedule: its rule on made-up intervals, and that it runs through."""

import numpy as np
import pytest
from made_figures import script

power = script("power")


@pytest.mark.parametrize(
    ("tokens", "batch", "over", "answers", "verdict"),
    [
        ((-0.6, -0.4), (0.9, 1.1), (-0.02, 0.005), "yes yes yes", "holds"),
        ((-0.9, -0.4), (0.6, 1.1), (-0.02, 0.02), "open open open", "inconclusive"),
        ((-0.4, -0.3), (0.9, 1.1), (-0.02, 0.005), "no yes yes", "fails"),
        ((-0.6, -0.4), (0.3, 0.7), (-0.02, 0.005), "yes no yes", "fails"),
        ((-0.6, -0.4), (0.9, 1.1), (0.02, 0.03), "yes yes no", "fails"),
        ((-np.inf, np.inf), (0.9, 1.1), (-0.02, 0.005), "open yes yes", "inconclusive"),
    ],
)
def test_rule_of_the_power_schedule(tokens, batch, over, answers, verdict):
    found = power.answer(tokens, batch, over)
    assert " ".join(found.values()) == answers
    assert power.judge(found) == verdict


@pytest.mark.long
def test_it_is_made(tmp_path):
    found = power.find("smoke", tmp_path)
    assert set(found.table["part"]) == {"sweep", "lengths"}
    lengths = found.table[found.table["part"] == "lengths"]
    assert set(lengths["width"]) == {16} and set(lengths["schedule"]) == {"WSD", "power"}
    assert set(found.numbers["exponents"]) == {"tokens", "batch_size"}
    assert set(found.numbers["optimum_at_width_4w"]) == {"128", "256"}
