"""Performance profiles: tables that can be counted by hand, and intervals that cover."""

import numpy as np
import pytest

from sharplab.studies.performance import performance_profile

INF = np.inf


def shares(profile, name):
    return profile.shares[profile.shares["method"] == name]["share"].tolist()


def test_shares_and_scores_of_a_table_counted_by_hand():
    times = {
        "first": [[10, 10], [20, INF], [INF, INF], [5, 8]],
        "second": [[20, 15], [10, INF], [INF, 7], [INF, 16]],
    }
    profile = performance_profile(times, [1, 1.5, 2, 4])
    # Of eight pairs, one of which nobody reaches: ratios of the first 1 1 2 - - - 1 1, of the second 2 1.5 1 - - 1 - 2.
    assert shares(profile, "first") == [4 / 8, 4 / 8, 5 / 8, 5 / 8]
    assert shares(profile, "second") == [2 / 8, 3 / 8, 5 / 8, 5 / 8]
    assert profile.scores["score"]["first"] == pytest.approx((4 + 2 / 3) / 8)
    assert profile.scores["score"]["second"] == pytest.approx((2 / 3 + 2.5 / 3 + 1 + 1 + 2 / 3) / 8)
    difference = profile.less("first", "second")
    assert difference.value == pytest.approx((4 + 2 / 3 - 25 / 6) / 8)
    assert difference.interval == (-INF, INF)  # two seeds
    table = profile.shares
    assert (table["low"] <= table["share"]).all() and (table["share"] <= table["high"]).all()


def test_one_seed_has_open_intervals_and_equal_times_no_difference():
    times = {"a": [[3], [4]], "b": [[3], [4]]}
    profile = performance_profile(times, [1, 2])
    assert profile.scores[["score", "low", "high"]].to_numpy().tolist() == [[1, 0, 1]] * 2
    assert profile.less("a", "b").interval == (-INF, INF)
    repeated = performance_profile({name: np.repeat(each, 3, axis=1) for name, each in times.items()}, [1, 2])
    # Six runs miss what has a probability of 0.459 in 2.5 %.
    assert repeated.less("a", "b").interval == pytest.approx((-0.459, 0.459), abs=1e-3)
    assert repeated.scores[["score", "low", "high"]].to_numpy().ravel() == pytest.approx([1, 0.541, 1] * 2, abs=1e-3)


def test_intervals_of_three_seeds_cover():
    """Of 100 made-up tables of 12 workloads, in which one method takes twice the other's time but for luck."""
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 0.3, (12, 1))

    def difference(workloads, seeds):
        noise = rng.normal(0, 0.5, (2, len(workloads), seeds))
        times = np.exp2(np.stack([noise[0], 1 + workloads + noise[1]]))
        return performance_profile({"a": times[0], "b": times[1]}, [1, 4]).less("a", "b")

    truth = difference(np.repeat(offsets, 2000, axis=0), 1).value
    covered = np.mean([found.low <= truth <= found.high for found in (difference(offsets, 3) for _ in range(100))])
    assert 0.9 <= covered <= 0.99


@pytest.mark.parametrize(
    ("workloads", "seeds", "later"), [(2, 2, 1), (8, 2, 1), (8, 3, 2), (1, 3, 2), (1, 4, 4), (2, 6, 3)]
)
def test_intervals_of_few_seeds_and_rare_shares_cover(workloads, seeds, later):
    """Those of shares, scores and their difference, of 200 made-up tables each."""
    rng = np.random.default_rng(0)
    offsets = later + rng.normal(0, 0.3, (workloads, 1))

    def found(seeds):
        noise = rng.normal(0, 0.5, (2, workloads, seeds))
        times = np.exp2(np.stack([noise[0], offsets + noise[1]]))
        profile = performance_profile({"a": times[0], "b": times[1]}, [1, 1.5, 4])
        less = profile.less("a", "b")
        rows = [profile.shares[["share", "low", "high"]], profile.scores, [[less.value, less.low, less.high]]]
        return np.concatenate([np.asarray(each, float) for each in rows]).T

    truth = found(2000)[0]
    tables = np.stack([found(seeds) for _ in range(200)])
    covered = ((tables[:, 1] <= truth + 1e-9) & (truth <= tables[:, 2] + 1e-9)).mean(axis=0)
    assert (covered >= 0.92).all(), covered


@pytest.mark.parametrize(
    ("times", "taus", "named"),
    [
        ({}, [1, 2], "times"),
        ({"a": [[1.0]], "b": [[1.0], [2.0]]}, [1, 2], "times"),
        ({"a": [1.0, 2.0]}, [1, 2], "times"),
        ({"a": [[0.0]]}, [1, 2], "times"),
        ({"a": [[np.nan]]}, [1, 2], "times"),
        ({"a": [[1.0]]}, [0.5, 2], "taus"),
        ({"a": [[1.0]]}, [2, 1], "taus"),
        ({"a": [[1.0]]}, [1], "taus"),
    ],
)
def test_wrong_calls_are_refused(times, taus, named):
    with pytest.raises(ValueError, match=named):
        performance_profile(times, taus)
