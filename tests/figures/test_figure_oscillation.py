"""The figure of benign oscillation: its rule, what it compares, and the data that it plants features in."""

import numpy as np
import pandas as pd
import pytest
from made_figures import script

from sharplab.data import load_dataset


def toy(learned=0.3005, unlearned=0.0125):
    rows = [(0.4, 0.0, unlearned), (0.7, 0.2976, learned)]
    ends = pd.DataFrame(rows, columns=["learning_rate", "limit", "weak_squared"]).assign(step=9)
    return pd.concat([ends.assign(step=1, weak_squared=0.5), ends])


@pytest.mark.parametrize(
    ("runs", "patches", "images", "verdict"),
    [
        (toy(), (0.4, 0.6), (0.03, 0.09), "holds"),
        (toy(), (0.4, 0.6), (0.01, 0.09), "inconclusive"),
        (toy(), (0.4, 0.6), (-np.inf, np.inf), "inconclusive"),
        (toy(), (0.4, 0.6), (-0.05, 0.01), "fails"),
        (toy(), (-0.1, 0.0), (0.03, 0.09), "fails"),
        (toy(learned=0.32), (0.4, 0.6), (0.03, 0.09), "fails"),
        (toy(unlearned=0.03), (0.4, 0.6), (0.03, 0.09), "fails"),
    ],
)
def test_the_verdict_follows_its_rule(runs, patches, images, verdict):
    effects = {"two_patches": (np.mean(patches), patches), "planted_images": (0.05, images)}
    assert script("oscillation").judge(runs, effects) == verdict


def images(late=(0.4, 1.0, 1.0), losses=(0.001, 0.002, np.nan)):
    """Three draws at three rates, which gain 5 points from rate to rate; one draw at the last rate is not fitted."""
    rows = []
    for rate, sharpness, loss in zip((1.0, 2.0, 4.0), late, losses, strict=True):
        for seed in range(3):
            keys = {"learning_rate": rate, "seed": seed, "sharpness": 2 * sharpness / rate}
            accuracy = 0.6 + 0.05 * np.log2(rate) + 0.01 * seed * rate
            end = {"time": 8.0, "step": 8 / rate, "train_loss": loss if seed == 2 else 0.001, "accuracy": accuracy}
            rows += [keys | {"time": 0.0, "step": 0, "train_loss": 1.0, "accuracy": 0.5, "sharpness": 9.0}, keys | end]
    return pd.DataFrame(rows)


def test_the_largest_rate_is_compared_that_all_draws_fit_and_only_at_the_edge():
    figure = script("oscillation")
    value, (low, high) = figure.gain_of_images(images())
    assert value == pytest.approx(0.06) and low < value < high and np.isfinite([low, high]).all()
    assert figure.gain_of_images(images(losses=(0.001, 0.002, 0.003)))[0] == pytest.approx(0.13)
    assert figure.gain_of_images(images(late=(0.4, 0.8, 1.0)))[1] == (-np.inf, np.inf)
    assert figure.gain_of_images(images(losses=(0.5, 0.5, 0.5)))[1] == (-np.inf, np.inf)


def test_planted_features_tell_the_class_and_the_strong_one_is_not_held_out():
    script("oscillation")  # which finds the module of its data beside it
    data = load_dataset("planted:draw_6@1")
    sign = 2 * data.train_targets - 1
    strong, weak = (data.train_inputs[:, i, i, 0] * sign for i in (4, 27))
    assert np.isin(strong, (0, 6)).all() and np.mean(strong > 0) == pytest.approx(0.8, abs=0.01)
    assert weak == pytest.approx(np.full(len(weak), 0.2))
    assert not data.eval_inputs[:, 4, 4].any() and (np.abs(data.eval_inputs[:, 27, 27]) > 0.1).all()
    assert data.eval_targets.mean() == 0.5 and load_dataset("planted:draw_7@1").checksum != data.checksum


def test_two_patches_hold_both_features_or_noise():
    figure = script("oscillation")
    inputs, signs = figure.patch_examples(figure.jax.random.key(0), 40, 0.8)
    has = np.abs(inputs[:, 1, 0]) > 0
    assert has.sum() == 32 and np.allclose(inputs[:, 0, 1] * signs, 0.2**0.5)
    assert np.allclose(np.sum(inputs[has, 1] ** 2, axis=1), 4) and not inputs[~has, 1, :2].any()
    # One neuron along the strong feature alone gives its share of a squared output.
    weights = np.zeros((2, 8, 64), np.float32)
    weights[0, 0, 0] = 1.0
    assert np.allclose(figure.patch_outputs(weights, inputs), np.where(has & (signs > 0), 4 / 8, 0))
