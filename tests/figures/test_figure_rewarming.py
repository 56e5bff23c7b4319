"""The figure of re-warming: its rule on made-up runs, and that it can be made."""

import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.gallery.finding import plain

script = load("rewarming")
first_training = sys.modules["rewarming_checkpoints"]  # which the script imports from beside it


def made_up(told_by, checkpoints=24, noise=0.3):
    """Runs of checkpoints whose critical rate is drawn, that spike where a score exceeds 1."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(checkpoints):
        critical, earlier = 2.0 ** rng.uniform(-6, -2, 2)
        for data in first_training.SHARES:
            for over in script.PEAKS:
                peak = over * script.MIDDLE["sgd"]
                score = peak / critical if told_by == "critical" else over
                spike = script.SPIKE * score * 2.0 ** (noise * rng.normal())
                relative = critical * 2.0 ** rng.normal()
                keys = {"optimizer": "sgd", "width": 8, "seed": seed, "earlier": earlier, "data": data, "peak": peak}
                ends = {"spike": spike, "final": 1.0, "forgetting": peak / relative, "relative": relative}
                for warmup in (0.0, 0.02):
                    rows.append(
                        keys | ends | {"critical": critical, "effective_sharpness": 1 / critical, "warmup": warmup}
                    )
                    rows[-1]["spike"] = spike - 0.2 * (warmup > 0)
    return script.scored(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def told():
    return made_up("critical")


def test_it_holds_where_the_critical_rate_tells(told):
    found = {"all": script.areas_of(script.cold(told))}
    assert script.judge(found, 24) == "holds"
    assert script.judge(found, 19) == "inconclusive"
    assert found["all"]["over_critical"].low > found["all"]["over_middle"].high
    told_at_1 = script.at_threshold(told)
    assert told_at_1["over_critical"]["sensitivity"]["value"] > 0.85
    assert told_at_1["over_critical"]["specificity"]["value"] > 0.85
    assert told_at_1["over_effective"]["sensitivity"]["value"] < 0.8  # half the score: λ = 1/η_c, threshold 2/η
    assert all(of["over_critical"] > of["over_middle"] for of in script.by_height(told).values())


def test_it_fails_where_the_peak_tells():
    assert script.judge({"all": script.areas_of(script.cold(made_up("peak")))}, 24) == "fails"


def test_rule_and_what_would_decide():
    def places(area, less):
        return {name: less for name in script.bounds()} | {"over_critical": area}

    good, open_, low = Measured(0.9, 0.85, 0.95), Measured(0.05, -0.05, 0.15), Measured(0.7, 0.6, 0.79)
    above, below = Measured(0.1, 0.05, 0.15), Measured(-0.1, -0.15, -0.05)
    judged = [
        script.judge({"all": places(*each)}, 50) for each in ((good, above), (good, open_), (low, above), (good, below))
    ]
    assert judged == ["holds", "inconclusive", "fails", "fails"]
    many = script.wanted(places(good, open_), 50)
    assert list(many.values()) == [pytest.approx(200)] * 2  # half the value on either side: four times as many
    assert script.wanted(places(good, above), 50) == {}


def test_forgetting_and_warm_up_are_those_that_were_put_in(told):
    found = script.forgetting(told)
    assert all(found[f"over_relative, {data}"]["value"] == pytest.approx(1) for data in ("half", "shifted"))
    assert all(found[f"over_critical, {data}"]["high"] < 0.95 for data in ("half", "shifted"))
    change = script.warming(told.assign(spike=told["spike"].clip(upper=5)))
    assert change["final"] == {"value": 0, "low": 0, "high": 0}
    assert -0.2 <= change["spike"]["low"] <= change["spike"]["value"] < 0


@pytest.mark.long
def test_it_is_made(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        finding = script.find("smoke", tmp_path)
    runs = finding.table
    assert finding.verdict == "inconclusive" and runs["checkpoint"].nunique() == 6
    assert (runs.groupby("checkpoint").size() == 3 * 2 * 2).all()
    same = runs[runs["data"] == "same"]
    assert np.allclose(same["critical"], same["relative"])
    assert (runs["effective_sharpness_error"] <= 0.02 * runs["effective_sharpness"]).all()
    assert (2 / runs["critical"] <= 1.1 * runs["effective_sharpness"]).mean() > 0.8
    json.dumps(plain(finding.numbers))
