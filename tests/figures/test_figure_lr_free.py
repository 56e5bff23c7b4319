"""The figure of learning-rate-free methods: its rule on made-up runs, its times, and that it can be made."""

import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.gallery.finding import plain

script = load("lr-free")
training = sys.modules["lr_free_runs"]  # which the script imports from beside it
WORKLOADS, WIDTHS, SEEDS = ("one", "two", "three"), (8, 16), 3
METHODS = ("prodigy", "dog", "cocob")
BEST = {"one": 2.0**-5, "two": 2.0**-5, "three": 2.0**-3}  # of NadamW on each workload


def made_up(lateness, slope=0.0):
    """Methods that take `lateness` times as long as NadamW at 2^-5, and find a rate that goes as width^slope."""
    rng = np.random.default_rng(0)
    rows = []
    for scaling in training.PARAMETERIZATIONS:
        for workload in WORKLOADS:
            for width in WIDTHS:
                for seed in range(SEEDS):
                    luck = rng.uniform(0.95, 1.05, len(METHODS))
                    keys = {"parameterization": scaling, "workload": workload, "width": width, "seed": seed}
                    for method, late, of in zip(METHODS, lateness, luck, strict=True):
                        rate = np.nan if method == "cocob" else 0.1 * width**slope * of
                        ends = {"found": rate, "threshold": 2 / rate, "sharpness": 1 / rate, "loss": 1.0}
                        rows.append(keys | {"method": method, "time": 100 * late * of} | ends)
                    for k in (-5, -3):
                        ends = {"found": 2.0**k, "threshold": 2.0, "sharpness": 1.0, "time": 100.0}
                        loss = 1 + abs(k - np.log2(BEST[workload]))
                        rows.append(keys | {"method": "nadamw", "learning_rate": 2.0**k, "loss": loss} | ends)
    return pd.DataFrame(rows)


def judged(lateness):
    runs = made_up(lateness)
    part = runs[runs["parameterization"] == "standard"]
    return script.judge(script.behind(script.profile(part, script.calibrated(runs)["standard"])))


@pytest.mark.parametrize(
    ("lateness", "verdict"),
    [((2.5, 3.0, np.inf), "holds"), ((1.5, 0.5, np.inf), "fails"), ((1.0, 3.0, np.inf), "inconclusive")],
)
def test_rule(lateness, verdict):
    assert judged(lateness) == verdict


def test_seeds_that_would_decide():
    gains = {"a": Measured(-0.3, -0.4, -0.2), "b": Measured(0.1, -0.1, 0.3)}
    assert script.seeds_wanted(gains, 3) == 12


def test_one_setting_is_chosen_on_the_other_workloads():
    chosen = script.calibrated(made_up((1.0, 1.0, 1.0)))["mup"]
    # Of "one" the others disagree by as much, and the lower rate comes first; for "three" the others agree.
    assert chosen == {"one": 2.0**-5, "two": 2.0**-5, "three": 2.0**-5}
    alone = made_up((1.0, 1.0, 1.0)).query("workload == 'three'")
    assert script.calibrated(alone)["mup"] == {"three": 2.0**-3}


def test_slopes_of_what_is_found_and_the_edge():
    runs = made_up((1.0, 1.0, 1.0), slope=-0.5)
    slopes = script.transfer_of_found(runs)["mup"]
    assert set(slopes) == {"prodigy", "dog", "nadamw, best"}  # COCOB finds none
    assert slopes["prodigy"].value == pytest.approx(-0.5, abs=0.1)
    assert slopes["nadamw, best"].interval == (0, 0)
    assert script.transfer_verdict(slopes["nadamw, best"]) == "transfers"
    assert script.transfer_verdict(Measured(-0.5, -0.6, -0.4)) == "shifts"
    assert script.transfer_verdict(Measured(-0.5, -0.6, 0.2)) == "inconclusive"
    given = runs.assign(found=runs["found"].where(runs["method"] != "dog", 0.01))
    assert script.at_bound(given) == {"standard": ["dog"], "mup": ["dog"]}
    # At width 8 and 16, 0.1/√8 and 0.1/√16 against 2^-5 for two workloads and 2^-3 for the third.
    away = script.found_over_best(runs)["mup"]
    assert set(away) == {"prodigy"}
    assert away["prodigy"].value == pytest.approx(np.log2(0.1) - 1.75 + (5 + 5 + 3) / 3, abs=0.03)
    edge = script.over_threshold(runs)["mup"]["prodigy"]
    assert edge.value == edge.low == edge.high == pytest.approx(0.5)


def test_times_are_read_off_lines_through_log_loss():
    steps = np.array([0, 10, 20])
    assert training.time_to(0.5, steps, np.array([2.0, 1.0, 0.25])) == pytest.approx(15)
    assert training.time_to(0.2, steps, np.array([2.0, 1.0, 0.25])) == np.inf
    assert training.time_to(3.0, steps, np.array([2.0, 1.0, 0.25])) == 1
    assert training.time_to(0.5, steps, np.array([2.0, np.nan, 0.25])) == 20


@pytest.mark.long
def test_it_is_made(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        finding = script.find("smoke", tmp_path)
    runs = finding.table[finding.table["part"] != "profile"]
    lanes = len(script.COLOURS) - 1 + 2  # NadamW at two learning rates
    assert len(runs) == 2 * 2 * lanes and set(runs["method"]) == set(script.COLOURS)
    base = runs.pivot(index=["method", "learning_rate", "seed"], columns="parameterization", values="loss")
    adam = ~base.index.get_level_values("method").isin(script.MARKS)
    assert np.allclose(base[adam]["mup"], base[adam]["standard"], rtol=1e-3)  # the same at the base width
    json.dumps(plain(finding.numbers))
