"""The figure of stopping early: its rule on made-up runs, and that it can be made."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trend import Measured
from sharplab.gallery.finding import plain

script = load("early-stop")


def made_up(scale, settings=24):
    """Errors of two runs of each setting by method, of these scales; every third run is not told by proximity."""
    rng = np.random.default_rng(0)
    rows = []
    for run in range(2 * settings):
        for method in script.COLOURS:
            error = scale.get(method, 0.1) * rng.normal()
            if method == "proximity" and run % 3 == 2:
                error = np.nan
            covered = np.nan if np.isnan(error) else float(rng.random() < 0.9)
            keys = {"run": run, "setting": str(run // 2), "stop": script.JUDGED, "method": method}
            rows.append(keys | {"error": error, "covered": covered})
    return pd.DataFrame(rows)


def test_the_verdict_goes_by_paired_errors_of_the_runs_that_proximity_tells():
    ahead, behind = made_up({"proximity": 0.01}), made_up({"proximity": 0.4, "collapse": 0.01})
    for told, verdict in ((ahead, "holds"), (behind, "fails")):
        compared = script.comparable(told)
        assert compared["run"].nunique() == 32 and len(compared) == 32 * 4
        differences = {rival: script.difference(compared, rival) for rival in script.RIVALS}
        assert script.judge(differences, 24) == verdict and script.judge(differences, 19) == "inconclusive"
    wide = {rival: Measured(0.0, -0.1, 0.1) for rival in script.RIVALS}
    assert script.judge(wide, 24) == "inconclusive"
    assert script.share_told(ahead, script.JUDGED) == pytest.approx(2 / 3)
    covered = script.coverage(ahead, "law")
    assert covered["low"] < 0.9 < covered["high"]


def test_what_a_method_does_not_tell_counts_as_the_largest_error():
    told = made_up({"proximity": 0.01})
    told.loc[(told["method"] == "law") & (told["run"] == 0), "error"] = np.nan
    table = script.errors(script.comparable(told), script.JUDGED)
    assert table.loc[0, "law"] == pytest.approx(np.log(2)) and table["law"].iloc[1:].max() < np.log(2)
    medians = script.medians(script.comparable(told), script.JUDGED)
    assert medians["proximity"]["high"] < medians["collapse"]["low"]


@pytest.mark.long
def test_it_is_made(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        finding = script.find("smoke", tmp_path)
    table = finding.table
    assert finding.verdict == "inconclusive" and finding.numbers["runs"] == 2 * 2
    assert set(table["part"]) == {f"{method} at {stop}" for method in script.COLOURS for stop in script.STOPS}
    assert table.loc[table["part"].str.startswith("collapse"), "error"].notna().all()
    json.dumps(plain(finding.numbers))
