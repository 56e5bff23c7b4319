"""The figure of readings: its verdict on made-up shares, which cases count, and the rules bundled with the package."""

import json

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load

from sharplab.analysis.trust_region import Share, share_interval, share_over_figures
from sharplab.gallery.keeping import from_kept
from sharplab.studies.suggest_lr.rate_rules import BUNDLED, rate_rules

script = load("trust-region")


@pytest.mark.parametrize(
    ("right", "verdict"),
    [((1.0,) * 15, "holds"), ((1.0,) * 4, "inconclusive"), ((0.9, 0.2, 0.5, 0.3, 0.1, 0.4), "fails")],
)
def test_the_verdict_is_that_of_the_share_over_figures(right, verdict):
    held = pd.Series([i < 10 * share for share in right for i in range(10)])
    figures = pd.Series(np.repeat(np.arange(len(right)), 10))
    assert script.judge(share_over_figures(held, figures)) == verdict


def test_without_a_figure_to_learn_from_the_verdict_is_open():
    assert script.judge(Share(np.nan, (0.0, 1.0), 0)) == "inconclusive"


def test_what_would_decide_is_a_number_of_figures_with_the_share_as_found():
    open_share = share_over_figures(pd.Series([True] * 5 + [False] * 4), pd.Series(range(9)))
    assert script.judge(open_share) == "inconclusive"
    wanted = script.figures_wanted(open_share)
    assert wanted > 9
    ends = [share_interval(open_share.value, n) for n in (wanted - 1, wanted)]
    assert ends[0][1] >= script.HELD > ends[1][1]
    assert script.figures_wanted(Share(script.HELD, share_interval(script.HELD, 9), 9)) is None


def row(figure, seeds, **changed):
    """A case of a table, of one setting unless told."""
    settings = {"width": 8, "depth": 2, "optimizer": "sgd", "parameterization": "mup", "sweep": 0, "over": "width"}
    found = {"optimum": 2.0, "recorded_rate": 0.5, "init": 0.5, "early": 1.0, "late": 1.0, "quantity": "sharpness"}
    return settings | found | {"figure": figure, "seeds": seeds} | changed


def test_a_setting_counts_once_where_it_has_most_seeds_and_only_with_optimum_and_reading():
    table = pd.DataFrame(
        [
            row("a", 3),
            row("b", 10),
            row("c", 10),
            row("a", 3, width=16),
            row("a", 3, width=32, optimum=np.nan),
            row("a", 3, width=64, recorded_rate=np.nan),
            row("a", 3, width=128, quantity="batch_sharpness"),
            {"figure": "d"},
        ]
    )
    assert script.distinct(table)[["figure", "width"]].to_numpy().tolist() == [["b", 8], ["a", 16]]
    assert script.distinct(table, "batch_sharpness")["width"].tolist() == [128]


def test_shifts_are_slopes_over_the_sizes_of_a_sweep():
    sizes = ((8, 1.0, 4.0), (16, 2.0, 2.0), (32, 4.0, 1.0))
    table = pd.DataFrame([row("a", 3, width=w, optimum=best, early=read) for w, best, read in sizes])
    found = script.shifts(pd.concat([table, table.assign(sweep=1).iloc[:2]])).iloc[0]
    assert (found["optimum"], found["early"]) == (pytest.approx(1), pytest.approx(-1))


def test_the_bundled_rules_are_those_of_the_kept_figure_and_it_is_drawn_again_from_there():
    bundled = json.loads(BUNDLED.read_bytes())
    assert json.loads(script.bundle()) == {
        source: {name: pytest.approx(rule) for name, rule in rules.items()} for source, rules in bundled.items()
    }
    with from_kept(script.FIGURES, script.NAME) as store:
        found = script.find("full", store)
    for source, rules in rate_rules().items():
        for name, rule in rules.items():
            stated = found.numbers["rules"][source][name]
            assert stated["offset"] == pytest.approx(rule.offset, rel=1e-4) and stated["cases"] == rule.cases


def test_it_is_gathered_from_the_runs_kept_with_other_figures():
    table = script.gather(script.FIGURES, most=1)
    known = table.dropna(subset=["quantity"])
    assert known["figure"].nunique() == 1 and script.NAME not in set(table["figure"])
    assert (known["optimum"].dropna() > 0).all() and known["early"].notna().any()


@pytest.mark.long
def test_the_kept_figure_is_of_all_evidence_that_is_kept():
    """A figure that is made anew, with other sizes or seeds, wants this one made anew too."""
    with from_kept(script.FIGURES, script.NAME):
        kept = script.measured("cases", lambda: pytest.fail("the figure's cases are not kept"))
    gathered = script.gather(script.FIGURES)
    columns = ["figure", "width", "depth", "seeds", "optimum"]
    kept, gathered = (
        each[each["optimum"].notna()][columns].sort_values(columns).reset_index(drop=True) for each in (kept, gathered)
    )
    pd.testing.assert_frame_equal(kept, gathered, rtol=1e-6)


def test_no_evidence_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="evidence"):
        script.gather(tmp_path)
