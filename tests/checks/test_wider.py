"""Wider is better: losses in closed form, and networks sound and broken."""

import re

import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from checked_models import Lever, Perceptron, batch_of, scaled_adam

from sharplab.checks import wider_is_better
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


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match=r"seeds.*2"):
        lever(lambda width: 0.5, seeds=1)
