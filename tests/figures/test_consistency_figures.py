"""The figures that judge by consistency: their rules, and that each shows every record."""

import numpy as np
import pandas as pd
import pytest
from made_figures import judged, script

import sharplab as sl

SAME, APART, UNSURE = map(judged, ("super consistent", "finite-size effects", "inconclusive"))


@pytest.mark.parametrize(
    ("top", "others", "verdict"),
    [
        (SAME, [APART] * 4, "holds"),
        (SAME, [APART, APART, APART, UNSURE], "inconclusive"),
        (UNSURE, [APART] * 4, "inconclusive"),
        (SAME, [APART, SAME, APART, APART], "fails"),
        (APART, [APART] * 4, "fails"),
    ],
)
def test_rule_on_eigenvalues(top, others, verdict):
    eigenvalues = script("eigenvalues")
    found = {eigenvalues.CONSISTENT: top} | dict(zip(eigenvalues.OTHERS, others, strict=True))
    assert eigenvalues.judge(found) == verdict


@pytest.mark.parametrize(
    ("readout", "of_all", "of_readout", "verdict"),
    [
        (APART, (1.0, 2.0), (-0.2, 0.3), "holds"),
        (UNSURE, (1.0, 2.0), (-0.2, 0.3), "inconclusive"),
        (APART, (0.3, 2.0), (-0.2, 0.3), "inconclusive"),
        (APART, (1.0, 2.0), (0.3, 0.7), "inconclusive"),
        (SAME, (1.0, 2.0), (-0.2, 0.3), "fails"),
        (APART, (0.1, 0.4), (-0.2, 0.3), "fails"),
        (APART, (1.0, 2.0), (0.6, 0.9), "fails"),
    ],
)
def test_rule_on_random_features(readout, of_all, of_readout, verdict):
    rises = {"all": (sum(of_all) / 2, of_all), "readout": (sum(of_readout) / 2, of_readout)}
    assert script("random-features").judge(readout, rises) == verdict


@pytest.mark.parametrize(
    ("mup", "ntk", "verdict"),
    [
        ((SAME, SAME), (APART, APART), "holds"),
        ((SAME, UNSURE), (APART, APART), "inconclusive"),
        ((SAME, SAME), (APART, UNSURE), "inconclusive"),
        ((SAME, APART), (APART, APART), "fails"),
        ((SAME, SAME), (APART, SAME), "fails"),
    ],
)
def test_rule_on_directions(mup, ntk, verdict):
    directional = script("directional")
    found = {name: dict(zip(directional.JUDGED, two, strict=True)) for name, two in (("mup", mup), ("ntk", ntk))}
    assert directional.judge(found) == verdict


def test_a_rise_is_from_the_first_record_to_the_mean_of_the_second_half():
    rows = [
        {"width": width, "seed": seed, "learning_rate": 0.5, "step": step, "sharpness": width * 2.0 ** (seed + octaves)}
        for width in (8, 16)
        for seed in (0, 1)
        for step, octaves in ((0, 0.0), (2, 0.2), (4, 1.0 + seed), (8, 2.0 + seed))
    ]
    curves = pd.DataFrame(rows)
    records = sl.Records(curves[["width", "seed", "learning_rate"]].drop_duplicates(), curves)
    value, (low, high) = script("random-features").rise(records)
    # 1.5 and 2.5 octaves at either width: a standard error of √(½/4), and two degrees of freedom.
    assert value == pytest.approx(2.0)
    assert high - 2.0 == pytest.approx(2.0 - low) == pytest.approx(4.303 * np.sqrt(0.5 / 4), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "curves"), [("eigenvalues", 1), ("random-features", 2), ("directional", 2)])
def test_figure_shows_every_record(name, curves, tmp_path):
    finding = script(name).find("smoke", tmp_path)
    experiment = script(name).PRESETS["smoke"]
    assert finding.verdict in ("holds", "fails", "inconclusive")
    assert len(finding.table) == curves * len(experiment.widths) * 2 * len(experiment.record_steps())
    assert finding.numbers
