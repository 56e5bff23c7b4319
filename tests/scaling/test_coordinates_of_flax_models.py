"""Networks that were not written for this library: their coordinates are flat in width with `mup`, and not without."""

import jax
import numpy as np
import pytest
from flax_models import LENGTH, MLP, TOKENS, ConvNet, Gated, Transformer

from sharplab.checks import coordinate_check
from sharplab.losses import cross_entropy

EXAMPLES, CLASSES, FEATURES = 32, 3, 5
FLAT = 0.1  # octaves per doubling of width


def decoder(width, rngs):
    return Transformer(width, 1, rngs)


def images(shape):
    return jax.random.normal(jax.random.key(0), (EXAMPLES, *shape)), np.arange(EXAMPLES) % CLASSES


def text():
    tokens = jax.random.randint(jax.random.key(0), (EXAMPLES, LENGTH + 1), 0, TOKENS)
    return tokens[:, :-1], tokens[:, 1:]


CASES = {
    "MLP": (MLP, images((FEATURES,)), (32, 64, 128, 256)),
    "rounded": (Gated, images((FEATURES,)), (64, 128, 256)),
    "ConvNet": (ConvNet, images((8, 8, 2)), (32, 64, 128)),
    # Adam's steps after the first keep the embedding's signs the less the wider it is: that drift dies out with width,
    # -0.12 octaves per doubling at widths 64 to 512, -0.02 here.
    "decoder": (decoder, text(), (256, 512, 1024)),
}


def steepest(name, **scaled):
    """The largest |slope| of what training has changed of any hidden coordinate."""
    build, batch, widths = CASES[name]
    found = coordinate_check(
        build, widths=widths, batch=batch, loss=cross_entropy, learning_rate=2**-8, seeds=3, **scaled
    ).slopes()
    last = found[(found["kind"] == "hidden") & (found["step"] == found["step"].max())]
    return last["slope"].abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_hidden_coordinates_are_flat_with_mup_and_not_without(name):
    assert steepest(name, base=CASES[name][2][0]) < FLAT
    assert steepest(name) > 3 * FLAT
