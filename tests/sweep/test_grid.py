"""The language of learning-rate grids."""

import numpy as np
import pytest

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
