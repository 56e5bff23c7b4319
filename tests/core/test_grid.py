"""The language of learning-rate grids."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.core.grid import parse_positive, parse_seeds, parse_sizes
from sharplab.sweep import parse_learning_rates


def test_octaves_include_both_ends():
    assert parse_learning_rates(["2^-6:2^2"]) == tuple(2.0**k for k in range(-6, 3))


def test_log_ranges_are_evenly_spaced_in_the_logarithm():
    rates = parse_learning_rates(["1e-3:1:log7"])
    assert len(rates) == 7
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.5, atol=1e-9)


def test_texts_add_up_sorted_and_without_repetition():
    assert parse_learning_rates(["1:4", "3", "2^-1", "2"]) == (0.5, 1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("text", ["2^-30", "2^0.5", "1e-7", "0.1"])
def test_a_rate_is_one_number_alone_or_as_the_end_of_a_range(text):
    (alone,) = parse_learning_rates([text])
    assert parse_learning_rates([f"{text}:1e3"])[0] == alone


@pytest.mark.parametrize("text", ["", "fast", "-1", "1.2.3", ".", "2^", "1:2:3", "nan", "1:0.5", "1:1", "1:2:log1"])
def test_a_text_of_another_form_is_refused_by_name(text):
    with pytest.raises(ValueError, match="learning_rates: ") as caught:
        parse_learning_rates(["0.1", text])
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "culprit"), [("0", "0"), ("0:1", "0"), ("2^5000", "2^5000"), ("1:1e999", "1e999")])
def test_a_number_out_of_range_is_refused_by_name(text, culprit):
    with pytest.raises(ValueError, match="must be a positive, finite number") as caught:
        parse_learning_rates([text])
    assert repr(culprit) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (64, (64,)),
        ("64", (64,)),
        ("2^6", (64,)),
        ("8:64", (8, 16, 32, 64)),
        ("8:100", (8, 16, 32, 64)),
        ("10:100:log3", (10, 32, 100)),
        ((48, "8:32", 8), (48, 8, 16, 32)),
        (np.array([4, 2]), (4, 2)),
    ],
)
def test_sizes_are_whole_numbers_in_the_order_given(given, sizes):
    assert parse_sizes("widths", given) == sizes


@given(low=st.integers(1, 1000), octaves=st.integers(1, 12))
def test_octaves_of_sizes_double_and_keep_both_ends(low, octaves):
    sizes = parse_sizes("widths", f"{low}:{low * 2**octaves}")
    assert sizes == tuple(low * 2**i for i in range(octaves + 1))


@given(low=st.integers(1, 1000), ratio=st.integers(2, 1000), points=st.integers(2, 30))
def test_log_spaced_sizes_keep_both_ends_and_increase(low, ratio, points):
    sizes = parse_sizes("widths", f"{low}:{low * ratio}:log{points}")
    assert sizes[0] == low
    assert sizes[-1] == low * ratio
    assert list(sizes) == sorted(set(sizes))


def test_numbers_keep_their_order_and_repeat_only_through_texts():
    assert parse_positive("gamma", (2, "0.5:2")) == (2.0, 0.5, 1.0)
    with pytest.raises(ValueError, match=r"gamma repeats a value: 2\.0, 2\.0"):
        parse_positive("gamma", (2, 2.0))


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (3, (0, 1, 2)),
        ("3", (0, 1, 2)),
        ((3,), (3,)),
        (("3",), (3,)),
        ("0:4", (0, 1, 2, 3, 4)),
        ("7:7", (7,)),
        ((9, "2:3"), (9, 2, 3)),
    ],
)
def test_seeds_are_a_count_alone_and_themselves_in_a_list(given, seeds):
    assert parse_seeds("seeds", given) == seeds


@pytest.mark.parametrize("text", ["0:4000000000", "1:2:log3", "2^3:2^5", "", "4000000000"])
def test_texts_that_are_no_seeds_are_refused_at_once(text):
    with pytest.raises(ValueError, match="seeds"):
        parse_seeds("seeds", text)


@pytest.mark.parametrize(("read", "name"), [(parse_positive, "gamma"), (parse_sizes, "depths"), (parse_seeds, "seeds")])
@pytest.mark.parametrize("wrong", [None, 1.5j, math.nan, True, b"8", -1, (), {"a": 1}])
def test_what_is_no_number_is_refused_by_name(read, name, wrong):
    with pytest.raises(ValueError, match=f"^{name}"):
        read(name, wrong)
