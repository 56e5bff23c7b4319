"""The figures that compare schedules: their rules on made-up rankings, and that they run through."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_figures import script

import sharplab as sl

tournament, refined = script("schedules"), script("refined")


def intervals(columns, **rows):
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def ranking(rex=(-2.0, -0.5), linear=(0.0, 0.04), as_good=(-0.02, 0.005)):
    """What the rule reads of a ranking, given the intervals of the three questions."""
    ends = ["low", "high"]
    differences = pd.concat({"REX": intervals(ends, linear=(-3.0, -1.0), cosine=rex)})
    regrets = pd.concat({"linear": intervals(ends, a=(-0.01, 0.01), b=linear)})
    return SimpleNamespace(
        differences=differences,
        regrets=regrets,
        losses=pd.concat({"refined": intervals(ends, linear=as_good)}),
    )


@pytest.mark.parametrize(
    ("found", "answers", "verdict"),
    [
        (ranking(), "yes yes yes", "holds"),
        (ranking(rex=(-1.0, 0.2)), "open yes yes", "inconclusive"),
        (ranking(rex=(0.1, 0.2)), "no yes yes", "fails"),
        (ranking(linear=(0.02, 0.06)), "yes open yes", "inconclusive"),
        (ranking(linear=(0.06, 0.07)), "yes no yes", "fails"),
        (ranking(as_good=(0.02, 0.03)), "yes yes no", "fails"),
        (ranking(as_good=(-np.inf, np.inf)), "yes yes open", "inconclusive"),
    ],
)
def test_rule_of_the_tournament(found, answers, verdict):
    answered = tournament.answer(found, found)
    assert " ".join(answered.values()) == answers
    assert tournament.judge(answered) == verdict


def test_seeds_that_would_decide_shrink_the_interval_to_the_margin():
    open_one = intervals(["low", "high"], a=(-1.0, 3.0), b=(5.0, 6.0))  # centre 1, half 2: half of that decides about 0
    assert tournament.wanted(open_one, 0.0, 6) == 24
    assert tournament.wanted(open_one.loc[["b"]], 0.0, 6) == 6


@pytest.mark.parametrize(
    ("twice", "tau", "carried", "answers"),
    [
        ((-0.02, 0.005), (0.1, 0.9), (-0.05, 0.01), "yes yes yes"),
        ((-0.02, 0.015), (-0.1, 0.9), (-0.05, 0.03), "open open open"),
        ((0.02, 0.03), (-0.8, -0.1), (0.03, 0.04), "no no no"),
    ],
)
def test_rule_of_refining(twice, tau, carried, answers):
    found = refined.answer(pd.Series(twice, ["low", "high"]), tau, pd.Series(carried, ["low", "high"]))
    assert " ".join(found.values()) == answers


def test_agreement_is_kendalls_tau_and_seeds_that_differ_widen_it():
    order = {"a": 1.0, "b": 2.0, "c": 3.0}
    losses = {(name, seed): bound for name, bound in order.items() for seed in range(6)}
    losses |= {("d", seed): 0.5 if seed % 2 else 9.0 for seed in range(6)}
    table = pd.Series(losses).rename_axis(["schedule", "seed"]).rename("loss").reset_index()
    assert refined.agreement(order, table) == (1.0, (1.0, 1.0))
    tau, (low, high) = refined.agreement(order | {"d": 4.0}, table)
    assert low < tau < high or low == tau < high or low < tau == high


def test_bounds_are_those_of_convex_theory_over_that_of_linear():
    found = refined.bounds_of({"linear": "linear", "constant": "constant"}, np.ones(64))
    bound = sl.theory.last_iterate_bound
    ratio = bound(np.ones(64)).best_bound / bound(1 - np.arange(64) / 64).best_bound
    assert found == {"linear": 1.0, "constant": pytest.approx(ratio)}


@pytest.mark.long
def test_the_figures_run_through(tmp_path):
    found = tournament.find("smoke", tmp_path)
    assert len(found.table) == 2 * 2 * 7 * 3  # workloads, budgets, schedules, seeds
    assert sorted(found.numbers["mean_rank"]) == sorted([*tournament.NAMED, "refined"])
    assert np.mean([row["value"] for row in found.numbers["mean_rank"].values()]) == pytest.approx(4.0)
    found = refined.find("smoke", tmp_path)
    assert set(found.numbers["log_loss_over_linear"]["width 32"]) == {"refined at 8", "refined at 32"}
    assert set(found.table["width"]) == {8, 32}
    assert found.verdict in ("holds", "fails", "inconclusive")
