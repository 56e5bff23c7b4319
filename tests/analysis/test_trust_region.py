"""The rule from a reading to the optimum: closed forms, figures left out one by one, and coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sharplab.analysis.trust_region import RateRule, all_rules, fit_rules, left_out, share_over_figures


def cases(gaps, *, optimizer="sgd", seed=0):
    """Cases of figures whose octaves from reading to optimum are given, the readings drawn."""
    rng = np.random.default_rng(seed)
    rows = []
    for figure, values in gaps.items():
        for value in values:
            early = 2.0 ** rng.normal(0, 3)
            rows.append({"figure": figure, "optimizer": optimizer, "early": early, "optimum": early * 2.0**value})
    return pd.DataFrame(rows)


GAPS = {"a": [1.0, 2.0, 3.0], "b": [2.5], "c": [0.0, 1.0], "d": [4.0, 4.0, 4.0, 4.0]}


def test_offset_and_error_are_means_over_figures_however_many_cases_they_have():
    rule = fit_rules(cases(GAPS), "early")["sgd"]
    means = {name: np.mean(values) for name, values in GAPS.items()}
    assert rule.offset == pytest.approx(np.mean(list(means.values())))
    squares, right = [], []
    for name, values in GAPS.items():
        errors = np.array(values) - np.mean([mean for other, mean in means.items() if other != name])
        squares.append(np.mean(errors**2))
        right.append(np.mean(np.abs(errors) <= 1))
    assert rule.error == pytest.approx(np.sqrt(np.mean(squares))) and rule.right == pytest.approx(np.mean(right))
    assert (rule.figures, rule.cases) == (4, 10)
    assert rule.predict(0.5) == pytest.approx(0.5 * 2**rule.offset)
    low, high = rule.interval(0.5)
    assert np.log2(high / low) == pytest.approx(2 * stats.t.ppf(0.9, 3) * rule.error)


@pytest.mark.parametrize("reading", [0.0, -0.1])
def test_a_reading_that_is_no_learning_rate_is_refused(reading):
    with pytest.raises(ValueError, match="reading"):
        RateRule(1.0, 1.0, 1.0, 3, 9).interval(reading)


def test_a_figure_left_out_is_predicted_from_all_others_alone():
    table = pd.concat([cases(GAPS), cases({"a": [-1.0], "b": [-3.0]}, optimizer="adam")], ignore_index=True)
    found = left_out(table, "early")
    for (figure, name), part in found.groupby(["figure", "optimizer"]):
        rules = fit_rules(table[table["figure"] != figure], "early")
        if name == "adam":  # one other figure is none to learn from
            assert part["error"].isna().all() and part["covered"].isna().all() and name not in rules
            continue
        gap = np.log2(part["optimum"] / part["early"])
        np.testing.assert_allclose(part["error"], gap - rules[name].offset)
        assert (part["covered"] == (part["error"].abs() <= rules[name].half_width())).all()
    # What the figure itself says moves nothing of it.
    moved = table.assign(optimum=table["optimum"].where(table["figure"] != "a", table["optimum"] * 8))
    apart = left_out(moved, "early").query("figure == 'a' and optimizer == 'sgd'")["error"].to_numpy()
    np.testing.assert_allclose(apart - 3, found.query("figure == 'a' and optimizer == 'sgd'")["error"])


@pytest.mark.parametrize(("figures", "between"), [(3, 1.0), (5, 1.0), (5, 0.0)])
def test_intervals_hold_the_optima_of_a_figure_not_seen(figures, between):
    """80 % or somewhat more: the error of figures left out holds the spread over figures and within them."""
    rng, draws, each = np.random.default_rng(1), 400, 4
    shape = (draws, figures + 1)
    gaps = 2 + between * rng.normal(size=(*shape, 1)) + 0.5 * rng.normal(size=(*shape, each))
    draw, figure, _ = np.indices((draws, figures, each)).reshape(3, -1)
    seen = {"optimizer": draw.astype(str), "figure": figure, "early": 1.0, "optimum": 2.0 ** gaps[:, :-1].ravel()}
    rules = fit_rules(pd.DataFrame(seen), "early")
    covered = [
        np.mean(np.abs(unseen - rules[str(i)].offset) <= rules[str(i)].half_width())
        for i, unseen in enumerate(gaps[:, -1])
    ]
    assert 0.8 - 2 * np.std(covered) / np.sqrt(draws) <= np.mean(covered) <= 0.95


def test_a_fixed_rate_is_the_reading_of_nothing_and_cases_without_a_reading_are_left_out():
    table = cases(GAPS).assign(init=np.nan, late=1.0, recorded_rate=lambda t: t["optimum"] / 4)
    rules = all_rules(table)
    assert rules["fixed"] == rules["late"] and rules["init"] == {}
    assert rules["recorded_rate"]["sgd"].offset == pytest.approx(2) and rules["recorded_rate"]["sgd"].error < 1e-12
    assert left_out(table, "init").empty
    with pytest.raises(ValueError, match="'plateau'"):
        fit_rules(table, "plateau")


def test_a_share_counts_figures_and_not_cases():
    held, figures = pd.Series([True] * 9 + [False, None]), pd.Series(["a"] * 9 + ["b", "c"])
    found = share_over_figures(held, figures)
    assert (found.value, found.figures) == (0.5, 2)
    np.testing.assert_allclose(found.interval, stats.beta.ppf([0.025, 0.975], 1.5, 1.5))
    assert share_over_figures(held[:9], figures[:9]).interval[1] == 1.0
    assert share_over_figures(held[10:], figures[10:]).interval == (0.0, 1.0)
