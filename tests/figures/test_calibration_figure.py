"""The figure on the lab's own statistics: its rule, and that it shows what it counts."""

import numpy as np
import pandas as pd
import pytest
from made_figures import script as load
from scipy.stats import binomtest

script = load("calibration")


def rates(covered: float, shifts: float, transfers: float, *, shift: float = 0.25, draws: int = 1000) -> pd.DataFrame:
    """Twenty coverages, of which one is `covered`, and the verdicts at one shift."""
    rows = [{"part": "coverage", "of": "shift", "hits": 960, "shift": 0.0}] * 19
    rows += [{"part": "coverage", "of": "regret", "hits": covered * draws, "shift": 0.0}]
    shares = {"shifts": shifts, "transfers": transfers}
    rows += [{"part": "verdict", "of": name, "hits": share * draws, "shift": shift} for name, share in shares.items()]
    return pd.DataFrame(rows).assign(draws=draws)


@pytest.mark.parametrize(
    ("table", "verdict"),
    [
        (rates(0.95, 0.01, 0.01), "holds"),
        (rates(0.91, 0.01, 0.01), "inconclusive"),
        (rates(0.89, 0.01, 0.01), "inconclusive"),
        (rates(0.80, 0.01, 0.01), "fails"),
        (rates(0.95, 0.15, 0.01), "fails"),
        (rates(0.95, 0.01, 0.06), "inconclusive"),
        (rates(0.95, 0.01, 0.90, shift=0.0), "holds"),
        (rates(0.95, 0.90, 0.01, shift=1.0), "holds"),
        (rates(0.95, 0.01, 0.90, shift=-1.0), "fails"),
    ],
)
def test_the_verdict_follows_its_rule(table, verdict):
    assert script.judge(table) == verdict


def test_bounds_of_shares_are_those_of_clopper_and_pearson():
    table = pd.DataFrame({"hits": [0, 3, 50], "draws": 50})
    for i, hits in enumerate(table["hits"]):
        interval = binomtest(hits, 50).proportion_ci(0.95, method="exact")
        assert script.lower(table, 0.975)[i] == pytest.approx(interval.low)
        assert script.upper(table, 0.975)[i] == pytest.approx(interval.high)


@pytest.mark.long
def test_the_figure_shows_every_kind_of_sweep_and_states_its_lowest_coverage(tmp_path):
    finding = script.find("smoke", tmp_path)
    table = finding.table
    covered = table[table["part"] == "coverage"]
    real = {f"drawn from a real one, {name}" for name in script.REAL.values()}
    assert set(covered["kind"]) == {*script.KINDS, *real}
    counts = covered.groupby("of").size()
    assert counts["shift"] == len(script.SEEDS) * (len(script.KINDS) + len(real))
    assert counts["edge"] == len(script.SEEDS) * len(script.KINDS)  # where all seeds end tells nothing of one's end
    verdicts = table[table["part"] == "verdict"].groupby(["kind", "seeds", "shift"])["hits"].sum()
    assert (verdicts == script.DRAWS["smoke"]).all()
    lowest = {name: one["share"] for name, one in finding.numbers["lowest_coverage"].items()}
    expected = (covered["hits"] / covered["draws"]).groupby(covered["of"]).min()
    assert lowest == pytest.approx(expected.to_dict())
    assert not list(tmp_path.iterdir())
    assert np.isfinite([one["share"] for one in finding.numbers["highest_rate_of_error"].values()]).all()
