"""Examples are taken as arrays, as loaders and as functions, and what is none of these is named."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharplab.data.examples import examples_of

INPUTS = np.arange(24.0).reshape(8, 3)
TARGETS = np.arange(8)


class Loader:
    """As those of torch: iterated over anew each time, batches as lists."""

    def __init__(self, *sizes, forever=False):
        self.sizes, self.forever = sizes, forever

    def __iter__(self):
        first = 0
        while True:
            for size in self.sizes:
                chosen = np.arange(first, first + size) % len(INPUTS)
                yield [INPUTS[chosen], TARGETS[chosen]]
                first += size
            if not self.forever:
                return


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 12))
def test_a_loader_is_joined_up_to_what_is_needed(sizes, most):
    counts = np.cumsum(sizes)
    expected = next((count for count in counts if count >= most), counts[-1])
    loader = Loader(*sizes)
    for form in (loader, iter(loader), list(loader), lambda: loader, partial(iter, loader)):
        inputs, targets = examples_of("data", form, most)
        assert np.array_equal(inputs, INPUTS[np.arange(expected) % 8])
        assert np.array_equal(targets, TARGETS[np.arange(expected) % 8])


def test_a_loader_without_end_is_read_as_far_as_is_needed():
    assert len(examples_of("data", Loader(3, 2, forever=True), 100)[1]) == 100


def test_arrays_are_themselves_and_inputs_may_be_trees():
    for pair in ((INPUTS, TARGETS), [INPUTS, TARGETS], (INPUTS, None)):
        assert all(a is b for a, b in zip(examples_of("batch", pair, 1), pair, strict=True))
        assert all(a is b for a, b in zip(examples_of("batch", lambda pair=pair: pair, 1), pair, strict=True))
    batches = [({"tokens": INPUTS, "mask": INPUTS > 3}, TARGETS)] * 2
    assert examples_of("data", batches, 16)[0]["mask"].shape == (16, 3)


@pytest.mark.parametrize("wrong, says", [
    (INPUTS, r"one array .*\(8, 3\)"),
    ({"x": INPUTS, "y": TARGETS}, "dict of x, y"),
    ((INPUTS, TARGETS, TARGETS), "ndarray|array"),
    ([(INPUTS, TARGETS, TARGETS)], "tuple of 3"),
    ([{"x": INPUTS, "y": TARGETS}], "dict of x, y"),
    ([(INPUTS, TARGETS[:4])], r"\[4, 8\]"),
    ([(INPUTS[0], TARGETS[0])], r"\[0, 3\]"),
    ([(INPUTS, TARGETS), (INPUTS[:, :2], TARGETS)], "do not join"),
    ([], "without a batch"),
    ("arrays.npz", "str"),
    (3, "int"),
    (lambda seed: (INPUTS, TARGETS), "seed"),
    (lambda: INPUTS, "returns .*array"),
])  # fmt: skip
def test_what_is_no_data_is_named_with_what_was_found(wrong, says):
    with pytest.raises(ValueError, match=rf"--data.*({says})"):
        examples_of("--data", wrong, 10)
