"""Crossings of a threshold by curves whose times are known."""

import numpy as np
import pytest

from sharplab.analysis.edge_cycles import edge_cycles


def test_times_of_a_wave_about_the_threshold_whatever_its_unit():
    steps = np.arange(0, 201, 2)
    wave = 5 - np.cos(2 * np.pi * steps / 50)
    found = edge_cycles(steps, wave, 5.0)
    assert found == pytest.approx((12.5, 25.0, 50.0, 3), abs=0.02)
    assert edge_cycles(steps * 0.1, wave * 7, 35.0) == pytest.approx((1.25, 2.5, 5.0, 3), abs=0.002)


@pytest.mark.parametrize(
    ("values", "crossing", "above"),
    [
        ([0.5, 0.7, 0.9, 0.8], np.inf, np.nan),
        ([0.5, 1.5, 2.0, 1.2], 0.5, np.inf),
        ([2.0, 0.5, 1.5, 0.5], 1.5, 1.0),  # above at first is no crossing
        ([0.5, 1.5, np.nan, np.nan], 0.5, np.inf),  # diverged
        ([0.0, 1.0, 0.0, 0.5], 1.0, 0.0),  # touched from below
        ([0.0, 2.0, 1.0, 2.0], 0.5, np.inf),  # touched from above
    ],
)
def test_what_does_not_occur_is_inf_or_nan(values, crossing, above):
    found = edge_cycles(range(4), values, 1.0)
    np.testing.assert_array_equal([found.crossing, found.above, found.period], [crossing, above, np.nan])
    assert found.cycles == 0


@pytest.mark.parametrize("times", [[0, 1, 1], [0, np.nan, 2], [0, 1]])
def test_times_that_are_none_are_refused(times):
    with pytest.raises(ValueError, match="times"):
        edge_cycles(times, [1.0, 2.0, 3.0], 1.0)
