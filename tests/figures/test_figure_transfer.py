"""The headline figure: its rule."""

import pytest
from made_figures import judged
from made_figures import script as load

script = load("transfer")


@pytest.mark.parametrize(
    ("mup", "ntk", "shift", "verdict"),
    [
        ("transfers", "shifts", 0.8, "holds"),
        ("transfers", "shifts", -0.8, "inconclusive"),
        ("shifts", "shifts", 0.8, "fails"),
        ("transfers", "transfers", 0.0, "fails"),
        ("inconclusive", "shifts", 0.8, "inconclusive"),
    ],
)
def test_it_holds_only_where_mup_transfers_and_ntk_shifts_upwards(mup, ntk, shift, verdict):
    assert script.judge(judged(mup), judged(ntk, shift)) == verdict
