"""The order of training examples: permutations, independent of where one starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.data import batch_indices


@given(
    seed=st.integers(0, 2**32 - 1), batch_size=st.integers(1, 12), batches=st.integers(1, 6), epoch=st.integers(0, 3)
)
def test_an_epoch_without_tail_is_a_permutation(seed, batch_size, batches, epoch):
    examples = batch_size * batches
    indices = batch_indices(seed, examples, batch_size, epoch * batches, (epoch + 1) * batches)
    assert indices.shape == (batches, batch_size) and indices.dtype == np.int32
    assert sorted(indices.ravel()) == list(range(examples))


@given(examples=st.integers(5, 40), batch_size=st.integers(1, 5), cut=st.integers(0, 30))
def test_a_batch_does_not_depend_on_where_the_call_starts(examples, batch_size, cut):
    whole = batch_indices(3, examples, batch_size, 0, 30)
    parts = batch_indices(3, examples, batch_size, 0, cut), batch_indices(3, examples, batch_size, cut, 30)
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_a_ragged_tail_is_dropped_and_no_example_repeats_within_an_epoch():
    indices = batch_indices(seed=0, examples=11, batch_size=4, start=0, stop=4)
    for epoch in (indices[:2], indices[2:]):
        assert len(set(epoch.ravel())) == 8
    # The tail is cut after shuffling: over epochs, every example gets its turn.
    assert set(batch_indices(0, 11, 4, 0, 40).ravel()) == set(range(11))


def test_epochs_and_seeds_differ_and_calls_repeat():
    first = batch_indices(0, 64, 16, 0, 8)
    assert not np.array_equal(first[:4], first[4:])
    assert not np.array_equal(first, batch_indices(1, 64, 16, 0, 8))
    np.testing.assert_array_equal(first, batch_indices(0, 64, 16, 0, 8))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 11}, "batch_size is 11.*10"),
        ({"start": 3, "stop": 2}, "start is 3.*stop is 2"),
        ({"start": -1}, "start is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    good = {"seed": 0, "examples": 10, "batch_size": 2, "start": 0, "stop": 1}
    with pytest.raises(ValueError, match=named):
        batch_indices(**(good | arguments))
