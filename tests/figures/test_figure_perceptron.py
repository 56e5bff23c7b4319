"""The figure of the perceptron: its rule, and the effects that it judges."""

import numpy as np
import pandas as pd
import pytest
from made_figures import script

RATES = (1.0, 16.0)


def steps(plain=(4096, 256), normalised=10, bound=(100.0, 101.0), gap=1e-4, loss=(0.5, 8.0)):
    """Three draws whose effects are the same but for a little noise."""
    rows = []
    for draw in range(3):
        noise = 1 + 0.01 * draw
        for rate, count, mean in zip(RATES, plain, loss, strict=True):
            keys = {"draw": draw, "learning_rate": rate, "bound_low": bound[0], "bound_high": bound[1]}
            found = {"steps": count * noise, "loss": mean * noise, "gap": gap * noise / rate, "separated": True}
            rows.append(keys | {"method": "logistic"} | found)
            rows.append(keys | {"method": "normalised_logistic", "steps": normalised, "separated": True})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "verdict"),
    [
        (steps(), "holds"),
        (steps(normalised=100.5), "inconclusive"),  # between the ends that the margin's give
        (steps(normalised=102), "fails"),
        (steps(plain=(256, 256)), "inconclusive"),
        (steps(plain=(256, 4096)), "fails"),
        (steps(loss=(8.0, 0.5)), "fails"),
        (steps(gap=0.1584), "inconclusive"),  # 1 % within the noise at the larger rate
        (steps(gap=16.0), "fails"),
    ],
)
def test_the_verdict_follows_its_rule(table, verdict):
    perceptron = script("perceptron")
    assert perceptron.judge(table, perceptron.effects_of(table)) == verdict


def test_effects_are_in_octaves_and_say_how_the_normalised_method_compares():
    effects = script("perceptron").effects_of(steps())
    assert effects["fewer_steps"][0] == pytest.approx(4) and effects["higher_loss"][0] == pytest.approx(4)
    assert effects["gap"][0] == pytest.approx(np.log2(1e-4 / 16), abs=0.02)
    assert effects["normalised_over_plain_at_largest"][0] == pytest.approx(np.log2(10 / 256), abs=0.02)


def test_random_features_separate_the_images():
    perceptron = script("perceptron")
    inputs, labels = perceptron.separable_images(perceptron.PRESETS["smoke"], 0)
    lower, upper, _ = perceptron.largest_margin(inputs, labels)
    assert len(labels) == len(inputs) <= 100 and lower == pytest.approx(upper, rel=1e-6)
