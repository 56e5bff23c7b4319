"""The figure of batch spectra: its parts, its rule, and that it can be made."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.gallery.finding import plain
from sharplab.studies.batch_spectra import SpikeLaw
from sharplab.studies.stable_rates import StableRates

script = load("batch-spectra")
ONE = Measured(1.0, 0.9, 1.1)


def law(noise, low, high):
    return SpikeLaw(ONE, Measured(noise, low, high), Measured(4.0, 3.0, 5.0), 1.0, 8192, 0.95)


def rates(slopes, break_at=4):
    """Three seeds whose brackets have one slope up to a batch size and another from there on."""
    rows = []
    for size in (1, 2, 4, 8, 16, 32, 64):
        below, above = min(size, break_at), max(size, break_at) / break_at
        middle = below ** slopes[0] * above ** slopes[1]
        rows += [(size, seed, middle * (0.99 + seed / 100), middle * (1.01 + seed / 100)) for seed in range(3)]
    return StableRates("batch_size", pd.DataFrame(rows, columns=["batch_size", "seed", "low", "high"]), 0.95)


class Spectra:
    def __init__(self, largest, smallest):
        self.largest, self.smallest = largest, smallest


def verdicts(noise, sgd, adam):
    spectra = Spectra(law(1.0, 0.9, 1.1), noise)
    parts = script.parts_of(spectra, {"sgd": rates(sgd), "adam": rates((adam, adam))})
    return {name: script.judge_part(name, part) for name, part in parts.items()}


def test_a_world_of_the_theory_holds_and_others_do_not():
    found = verdicts(law(1.0, 0.9, 1.1), (1.0, 0.0), 0.5)
    assert set(found.values()) == {"holds"}
    assert script.judge(found) == "holds"
    found = verdicts(law(1 / 64, 1 / 70, 1 / 60), (0.5, 0.5), 1.0)
    assert set(found.values()) == {"fails"}
    assert script.judge(found) == "fails"
    found = verdicts(law(1.0, 0.0, 1.1), (1.0, 0.0), 0.5)
    assert found["noise_of_both_ends"] == script.judge(found) == "inconclusive"
    assert script.judge(found | {"adam": "fails"}) == "fails"


def test_noise_ratio_in_octaves_and_unknown_without_the_other_end():
    ratio = script.noise_ratio(law(8.0, 8.0, 16.0), law(1.0, 0.5, 1.0))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((3.0, 3.0, 3 + math.sqrt(2)))
    assert script.judge_part("noise_of_both_ends", script.noise_ratio(law(1, 1, 1), None)) == "inconclusive"


@pytest.mark.long
def test_it_is_made_and_its_numbers_can_be_recomputed(tmp_path):
    finding = script.find("smoke", tmp_path)
    assert set(finding.numbers["parts"]) == set(script.THEORY)
    table = finding.table
    spectra = table[table["part"] == "eigenvalues"]
    assert len(spectra) == 2 * 2 * 3  # points, batch sizes, draws
    assert (spectra["largest"] > spectra["smallest"]).all()
    for name in ("sgd", "adam"):
        edges = table[table["part"] == f"largest stable learning rate, {name}"]
        assert np.isfinite(edges[["edge", "edge_low", "edge_high"]]).all(axis=None)
    json.dumps(plain(finding.numbers))
