"""Areas under ROC curves against scikit-learn's, and intervals over groups."""

import numpy as np
import pytest
from scipy.stats import binomtest, t
from sklearn.metrics import roc_auc_score

from sharplab.analysis.prediction import group_interval, roc_area


def test_the_area_is_scikit_learns_with_ties():
    rng = np.random.default_rng(0)
    events = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + events, 1)
    assert roc_area(scores, events) == pytest.approx(roc_auc_score(events, scores), abs=1e-12)
    assert roc_area(np.where(scores == scores.max(), np.inf, scores), events) == pytest.approx(roc_area(scores, events))
    assert np.isnan(roc_area(scores, np.ones(200)))
    with pytest.raises(ValueError, match="events"):
        roc_area(np.array([1.0, 2.0]), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="scores"):
        roc_area(np.array([1.0, np.nan]), np.array([True, False]))


def test_the_interval_is_that_of_independent_groups():
    groups = np.repeat(np.arange(50), 20)
    of_group = np.random.default_rng(0).normal(size=50)
    values = of_group[groups]  # runs of a group are copies: twenty times as many tell no more
    (low, none), (high, some) = group_interval(lambda rows: np.array([values[rows].mean(), np.nan]), groups)
    assert high - low == pytest.approx(2 * t.ppf(0.975, 49) * of_group.std(ddof=1) / np.sqrt(50), rel=0.1)
    assert (none, some) == (-np.inf, np.inf)


@pytest.mark.parametrize("count", [5, 8, 15])
def test_few_groups_are_covered_at_their_rate(count):
    random = np.random.default_rng(1)
    samples = random.normal(size=(300, count))
    ends = [group_interval(lambda rows, x=x: x[rows].mean(), np.arange(count)) for x in samples]
    hits = sum(bool(low <= 0 <= high) for low, high in ends)
    assert binomtest(hits, len(samples), 0.93, alternative="less").pvalue > 0.005, hits
    halves = t.ppf(0.975, count - 1) * samples.std(axis=1, ddof=1) / np.sqrt(count)
    assert np.mean([(high - low) / 2 for low, high in ends] / halves) > 0.88  # of Student's, of a mean


def test_too_few_groups_tell_nothing_of_others():
    low, high = group_interval(lambda rows: np.array([1.0, len(rows)]), np.repeat(np.arange(4), 9))
    assert low.tolist() == [-np.inf] * 2 and high.tolist() == [np.inf] * 2
