"""Wider is better: losses in closed form, and networks sound and broken."""

import re

import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import pytest
from checked_models import Lever, Perceptron, batch_of, scaled_adam

from sharplab.checks import wider_is_better
from sharplab.checks.wider import WiderIsBetter
from sharplab.losses import cross_entropy


def squares(outputs, targets):
    return ((outputs - 1) ** 2).mean()


def lever(rate, **options):
    """The mean over n coordinates of (w − 1)²: under SGD of η = n r/2 it falls as (1 − r)^2t."""
    settings = {"widths": (4, 8), "optimizer": lambda width: optax.sgd(width * rate(width) / 2), "seeds": 2, "steps": 5}
    return wider_is_better(Lever, batch=(np.ones((1, 1), np.float32), None), loss=squares, **settings | options)


def test_losses_are_those_after_so_many_steps():
    losses = lever(lambda width: 0.5).table().query("seed == 0 and width == 8")["loss"]
    np.testing.assert_allclose(losses, 0.25 ** np.arange(6), rtol=1e-5)


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [
        (lambda width: 0.5, "holds"),
        (lambda width: width / 20, "holds"),
        (lambda width: 1 / width, "fails"),
        (lambda width: 1e30 if width > 4 else 0.5, "fails"),
    ],
    ids=["alike", "better", "worse", "overflow"],
)
def test_the_verdict_follows_the_losses(rate, verdict):
    found = lever(rate)
    assert found.verdict == verdict
    assert bool(found.reasons) == (verdict == "fails")
    assert set(found.rises()["step"]) == {1, 2, 4, 5}


def test_a_sound_network_is_better_when_wider_and_a_broken_one_is_not():
    def verdict(build, optimizer):
        return wider_is_better(
            build,
            widths=(16, 256),
            batch=batch_of(Perceptron, examples=32),
            loss=cross_entropy,
            optimizer=optimizer,
            seeds=4,
            steps=4,
        )

    assert verdict(Perceptron, scaled_adam(2**-4)).verdict == "holds"
    plain = verdict(Perceptron, optax.adam(2**-4))
    assert plain.verdict == "fails"
    assert re.search(r"width 16 .*256.* step 1 ", plain.reasons[0])
    forgotten = verdict(lambda width, rngs: Perceptron(width, rngs, multiplier=1.0), scaled_adam(2**-4))
    assert forgotten.verdict == "fails"


def test_the_picture_has_a_line_per_width():
    figure = lever(lambda width: 0.5).draw()
    (ax,) = figure.axes
    assert len(ax.lines) == 2 and ax.get_ylabel() == "training loss"
    plt.close(figure)


def test_seeds_that_diverge_are_counted_and_the_tolerance_is_a_size():
    def verdict(narrow, wide):
        rows = [
            (w, s, t, 1.0 if t == 0 else x[s]) for w, x in ((16, narrow), (64, wide)) for s in range(5) for t in (0, 1)
        ]
        return WiderIsBetter(pd.DataFrame(rows, columns=["width", "seed", "step", "loss"]), 0.05).verdict

    fine, one, all_of_them = [0.5] * 5, [0.5] * 4 + [np.nan], [np.nan] * 5
    assert verdict(one, all_of_them) == verdict(fine, one) == "fails"
    assert verdict(all_of_them, one) == verdict(one, fine) == "holds"
    assert verdict(all_of_them, all_of_them) == verdict(one, one) == "inconclusive"
    assert "lower learning rate" in lever(lambda width: 1e30).reasons[0]
    negative = pd.DataFrame(
        [(w, s, t, -10 + 0.01 * s) for w in (16, 64) for s in range(5) for t in (0, 1)],
        columns=["width", "seed", "step", "loss"],
    )
    assert WiderIsBetter(negative, 0.05).verdict == "holds"


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match=r"seeds.*2"):
        lever(lambda width: 0.5, seeds=1)
