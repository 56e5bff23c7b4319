"""The figure of deep kernels: its rule, the effects that it judges, and its classes."""

import numpy as np
import pandas as pd
import pytest
from made_figures import script


def found(alpha=1.005, agreement=1.0, gain=(0.01, 0.03), slope=(-0.6, -0.4), median=1.05):
    return {
        "exponents": {1: (alpha, 1.0)},
        "agreement": {"A = 0: t²": 1.0, "ReLU": agreement},
        "consistent": {"falls_on_circle": (0.0, gain)},
        "slopes": {2: (0.0, slope)},
        "medians": {2: median},
    }


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        (found(), "holds"),
        (found(gain=(-0.01, 0.03)), "inconclusive"),
        (found(slope=(-0.8, -0.4)), "inconclusive"),
        (found(median=1.2), "inconclusive"),
        (found(agreement=0.9), "inconclusive"),
        (found(alpha=1.02), "fails"),
        (found(gain=(-0.03, -0.01)), "fails"),
        (found(slope=(-1.2, -0.8)), "fails"),
    ],
)
def test_the_verdict_follows_its_rule(effects, verdict):
    assert script("deep-kernels").judge(effects) == verdict


def test_effects_are_read_from_the_tables():
    figure = script("deep-kernels")
    near = figure.singularity()
    depth = pd.DataFrame(
        {"dual": ["ReLU", "ReLU", "A = 0: t²"], "depth": [1, 64, 8], "as_majority vote": [0.5, 0.75, 0.5]}
    )
    errors = pd.DataFrame(
        [
            {"draw": draw, "dimension": dimension, "examples": n, "dual": name, "excess": value + 0.001 * draw}
            for draw in range(3)
            for dimension in (1, 2)
            for n, of_own in ((8, 0.10), (64, 0.04))
            for name, value in ((list(figure.DUALS)[dimension], of_own), ("nearest neighbour", 0.12))
        ]
    )
    rng = np.random.default_rng(0)
    ratios = [(2, width, 1 + rng.normal() / width**0.5) for width in (16, 64, 256, 1024) for _ in range(64)]
    effects = figure.effects_of(
        near,
        depth.assign(**{"as_nearest neighbour": 1.0}),
        errors,
        pd.DataFrame(ratios, columns=["depth", "width", "ratio"]),
    )
    assert all(value == pytest.approx(alpha, rel=0.01) for value, alpha in effects["exponents"].values())
    assert effects["agreement"] == {"A = 0: t²": 1.0, "ReLU": 0.75}
    assert effects["consistent"]["falls_on_circle"][0] == pytest.approx(0.06)
    assert effects["consistent"]["below_nearest_on_sphere"][0] == pytest.approx(0.08)
    slope, (low, high) = effects["slopes"][2]
    assert (
        low < -0.5 < high
        and slope == pytest.approx(-0.5, abs=0.1)
        and effects["medians"][2] == pytest.approx(1, abs=0.05)
    )


def test_classes_have_their_probability_and_the_best_classifier_no_excess_error():
    figure = script("deep-kernels")
    rng = np.random.default_rng(0)
    x = figure.points(rng, 2, 20_000)
    likely = np.where(figure.is_likely(x), 1.0, -1.0)
    assert (x >= 0).all() and np.mean(figure.draw_labels(rng, x) == likely) == pytest.approx(0.75, abs=0.01)
    assert figure.excess(likely, x) == 0 and figure.excess(-likely, x) == 0.5 and figure.excess(0 * likely, x) == 0.25
    assert np.mean(likely > 0) == pytest.approx(2 / 3, abs=0.01)  # strips of equal angle, also on the sphere
