"""The figure of convergence in width: its rule, and that it shows every record."""

from types import SimpleNamespace

import pytest
from made_figures import script as load

script = load("convergence")
PARTS = ("early", "middle", "late")


def found(in_width, in_time):
    """A quantity with these intervals of its exponents."""
    gaps = SimpleNamespace(
        limit_exponents={part: (sum(in_width) / 2, in_width) for part in PARTS},
        in_time={"all": SimpleNamespace(exponent_interval=in_time)},
    )
    return SimpleNamespace(gaps=gaps)


FALLS, RISES, UNSURE = (-1.2, -0.4), (0.4, 1.2), (-0.5, 0.5)


@pytest.mark.parametrize(
    ("loss", "sharpness", "ntk", "verdict"),
    [
        (found(FALLS, RISES), found(FALLS, UNSURE), found(FALLS, RISES), "holds"),
        (found(FALLS, RISES), found(FALLS, FALLS), found(FALLS, RISES), "holds"),  # of sharpness nothing is claimed
        (found(FALLS, RISES), found(UNSURE, UNSURE), found(FALLS, RISES), "inconclusive"),
        (found(FALLS, UNSURE), found(FALLS, UNSURE), found(FALLS, RISES), "inconclusive"),
        (found(FALLS, FALLS), found(FALLS, UNSURE), found(FALLS, RISES), "fails"),
        (found(FALLS, RISES), found(RISES, UNSURE), found(FALLS, RISES), "fails"),
    ],
)
def test_rule(loss, sharpness, ntk, verdict):
    assert script.judge({"train_loss": loss, "sharpness": sharpness, "ntk_1": ntk}) == verdict


@pytest.mark.slow
def test_figure_shows_every_record_and_states_every_exponent(tmp_path):
    finding = script.find("smoke", tmp_path)
    experiment = script.PRESETS["smoke"]
    assert finding.verdict in ("holds", "fails", "inconclusive")
    assert len(finding.table) == len(experiment.widths) * 3 * len(experiment.record_steps())
    assert set(finding.numbers) == set(script.QUANTITIES)
    for stated in finding.numbers.values():
        assert set(stated["exponent_in_width_to_the_limit"]) == set(PARTS)
        assert stated["seeds"] == 3
    assert len(finding.figure.axes) == 6
