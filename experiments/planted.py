"""Fashion-MNIST with coin flips for classes, and two features planted that tell them: a strong one and a weak one.

The images are what is memorised. A square of 6 × 6 pixels in one corner is raised or lowered by `STRONG`, as the coin
fell, in four training images of five, and never in the held-out images. One in the opposite corner is raised or lowered
by `WEAK` in all. So held-out accuracy is that of the weak feature.
"""

from functools import partial

import numpy as np

from sharplab.data import load_dataset
from sharplab.data.dataset import Dataset, make_dataset

EXAMPLES, HELD_OUT, SHARE = 128, 1024, 0.8
STRONG, WEAK = 6.0, 0.2  # pixels range over 2
DRAWS = 40


def planted(draw: int) -> Dataset:
    """The data set of other images for each draw: 128 to train on, 1,024 held out, one class as often as the other."""
    source = load_dataset("fashion-mnist-10k")
    order = np.random.default_rng(draw).permutation(source.examples)[: EXAMPLES + HELD_OUT]
    images = source.train_inputs[order] - source.train_inputs.mean(axis=0)
    coin = np.arange(len(images)) % 2
    sign = (2.0 * coin - 1)[:, None, None, None]
    strong = (np.arange(len(images)) < SHARE * EXAMPLES)[:, None, None, None]
    images[:, 2:8, 2:8] = STRONG * sign * strong
    images[:, 24:30, 24:30] = WEAK * sign
    pairs = images.astype(np.float32), coin.astype(np.int32)
    train, held_out = zip(*((array[:EXAMPLES], array[EXAMPLES:]) for array in pairs), strict=True)
    definition = f"planted; draw {draw} of {source.checksum}; {EXAMPLES}, {HELD_OUT}, {SHARE}, {STRONG}, {WEAK}"
    return make_dataset(f"planted-{draw}", train, held_out, 2, definition)


# By name, as experiments name data sets: planted:draw_0@1 and so on.
globals().update({f"draw_{draw}": partial(planted, draw) for draw in range(DRAWS)})
