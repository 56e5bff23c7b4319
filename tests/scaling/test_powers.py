"""Sizes that follow width are told from those that do not, rounded or not."""

from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.scaling.powers import Power, power_of

WIDTHS = (64, 128, 256)


def at(size, widths=WIDTHS):
    return tuple(size(n) for n in widths)


@given(st.integers(64, 999), st.integers(1, 20), st.integers(6, 20), st.sampled_from([1, 2, 3, 8]))
def test_a_rounded_multiple_takes_the_base_to_the_width_exactly(base, quarters, parts, ratio):
    """quarters/4 of the width, up to a multiple of what is a part of that at the base."""
    widths = (base, 2 * base, ratio * base)
    multiple = max(1, base * quarters // (4 * parts))
    size = at(lambda n: -(-n * quarters // (4 * multiple)) * multiple, widths)
    found = power_of([size], widths)
    assert found.whole == 1
    assert size[0] * ratio**found.found == pytest.approx(size[2])
    both = power_of([size, widths], widths)
    assert both.whole == 2 and both.found == pytest.approx(found.found + 1)


@pytest.mark.parametrize("size, found", [
    (lambda n: 10, Power(0, 0)),
    (lambda n: 3 * n, Power(1, 1)),
    (lambda n: n + 1, 1),
    (isqrt, None), (lambda n: n**2, None), (lambda n: n + 512, None), (lambda n: 300 - n, None),
    (lambda n: 256, Power(0, 0)), (lambda n: max(n, 128), None), (lambda n: round(n**1.5), None),
])  # fmt: skip
def test_other_growths_are_no_power(size, found):
    result = power_of([at(lambda n: n), at(size)], WIDTHS)
    if found is None:
        assert result == 1  # the place of the one that is none
    elif isinstance(found, int):
        assert result.whole == 2 and result.found != 2
    else:
        assert result == Power(found.whole + 1, found.found + 1)


def test_factors_that_are_none_alone_may_be_one_together():
    roots = at(isqrt, (64, 256, 1024))
    assert power_of([roots, roots], (64, 256, 1024)) == Power(1, 1)
