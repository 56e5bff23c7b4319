"""Rounds of seeds: what a look may spend, where seeds go, and what is said of seeds that are wanted."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sharplab.analysis.optima import transfer
from sharplab.analysis.sequential import MOST_SEEDS, Rules, Sampling, allocate, wanted
from sharplab.analysis.simulation import SimulatedSweep
from sharplab.records import Records

WEIGHTS = (-0.3, -0.1, 0.1, 0.3)


def sampling(seeds=(3, 3, 3, 3), variance=0.09, doubt=0.0, excess=0.0) -> Sampling:
    return Sampling(seeds, WEIGHTS, (variance,) * 4, (doubt,) * 4, excess)


@given(sizes=st.integers(2, 9), first=st.integers(1, 40), more=st.integers(0, 40))
def test_the_looks_spend_all_of_the_error_and_no_more(sizes, first, more):
    rules = Rules((first + more,) * sizes, 0.25, 0.95)
    given = Sampling((first,) * sizes, (1.0,) * sizes, (0.1,) * sizes, (0.0,) * sizes)
    looks = [(), given.seeds]
    while looks[-1] != rules.most:
        looks.append(rules.next_seeds(replace(given, seeds=looks[-1]), (1.0,) * sizes))
    shares = [1 - rules.look_confidence(before, now) for before, now in itertools.pairwise(looks)]
    assert sum(shares) == pytest.approx(0.05)
    assert min(shares) > 0
    assert len(shares) < 3 + 3 * np.log2((first + more) / first)


@pytest.mark.parametrize("costs", [(1, 1, 1, 1), (1, 4, 16, 64), (7, 1, 1, 3)])
def test_single_seeds_at_one_cost_lessen_the_variance_as_much_as_any_choice(costs):
    given, most, added = sampling((2, 3, 2, 4)), (6, 6, 6, 6), 5
    if len(set(costs)) == 1:  # then greedy is the optimum: the gains fall with each seed
        choices = [
            seeds
            for seeds in itertools.product(*(range(now, top + 1) for now, top in zip(given.seeds, most, strict=True)))
            if sum(seeds) == sum(given.seeds) + added
        ]
        chosen = allocate(given, added, most, costs)
        assert sum(chosen) == sum(given.seeds) + added
        assert given.by_seeds(chosen) == pytest.approx(min(map(given.by_seeds, choices)))
        return
    seeds = given.seeds  # the first seed of a round lessens the variance most per cost
    options = [tuple(n + (i == j) for j, n in enumerate(seeds)) for i in range(4)]
    gains = [(given.by_seeds(seeds) - given.by_seeds(each)) / cost for each, cost in zip(options, costs, strict=True)]
    assert allocate(given, 1, most, costs) == options[int(np.argmax(gains))]


def test_long_runs_of_seeds_tend_to_the_closed_form():
    variances, costs = (0.01, 0.04, 0.09, 0.16), (1.0, 2.0, 4.0, 8.0)
    given = Sampling((1, 1, 1, 1), WEIGHTS, variances, (0.0,) * 4)
    many = np.array(allocate(given, 4000, (10**6,) * 4, costs))
    best = np.abs(WEIGHTS) * np.sqrt(variances) / np.sqrt(costs)  # Neyman's allocation at a cost
    np.testing.assert_allclose(many / many.sum(), best / best.sum(), rtol=0.02)


def test_no_size_has_more_seeds_than_it_may():
    assert allocate(sampling(), 8, (3, 5, 5, 7), (1, 1, 1, 1)) == (3, 5, 5, 7)
    unknown = Sampling((1, 1), (-1.0, 1.0), (np.inf, np.inf), (0.0, 0.0))
    assert allocate(unknown, 2, (4, 4), (1, 1)) == (2, 2)


def test_the_expected_half_width_is_that_of_the_interval():
    given, seeds = sampling(doubt=0.01), (5, 4, 4, 9)
    variance = sum(w**2 * (0.09 / n + 0.01) for w, n in zip(WEIGHTS, seeds, strict=True))
    assert given.half_width(seeds, 0.9) == pytest.approx(stats.t.ppf(0.95, 18) * np.sqrt(variance))


def test_the_chance_of_a_verdict_is_how_often_later_shifts_are_far_enough_from_the_tolerance():
    given, most, rng = sampling(doubt=0.002), (12,) * 4, np.random.default_rng(0)
    half = given.half_width(most, 0.95)
    for shift in (0.0, 0.1, 0.25, 0.4):
        taken = given.by_seeds(given.seeds) - given.by_seeds(most)
        later = abs(shift + np.sqrt(taken) * rng.standard_normal(100_000))
        often = np.mean((later <= 0.25 - half) | (later > 0.25 + half))
        assert given.chance(shift, 0.25, most, 0.95) == pytest.approx(often, abs=0.01)


def test_it_is_hopeless_at_the_tolerance_alone():
    rules = Rules((16,) * 4, 0.25, 0.95)
    given = sampling((8, 8, 8, 8), variance=0.04)
    hopeless = [rules.hopeless(given, shift) for shift in (0.0, 0.1, 0.25, 0.4, -0.25, -0.5)]
    assert hopeless == [False, False, True, False, True, False]
    assert rules.hopeless(sampling(doubt=0.5), 0.0)
    assert not rules.hopeless(sampling(excess=0.5), 0.0)  # which may be chance
    assert not rules.hopeless(sampling(variance=np.inf), 0.0)


LIMITS = {"tolerance": 0.25, "confidence": 0.95, "sizes": (8, 16, 32, 64), "over": "width"}


@pytest.mark.parametrize("costs", [None, (1, 4, 16, 64)])
@pytest.mark.parametrize("shift", [0.0, 0.1, -0.15, 0.36, 0.5])
def test_the_seeds_wanted_decide_and_fewer_do_not(shift, costs):
    given = sampling(variance=0.36)
    found = wanted(given, shift, **LIMITS, costs=costs).seeds
    assert given.half_width(found, 0.95) < abs(abs(shift) - 0.25)
    assert all(now <= then for now, then in zip(given.seeds, found, strict=True))
    if costs is None:
        assert len(set(found)) == 1
        assert given.half_width([n - 1 for n in found], 0.95) >= abs(abs(shift) - 0.25)
    else:
        equal = wanted(given, shift, **LIMITS).seeds
        assert np.dot(costs, found) < np.dot(costs, equal)


@pytest.mark.parametrize(
    ("given", "shift", "says"),
    [
        (sampling(), 0.2501, f"{MOST_SEEDS}.*tolerance"),
        (sampling(doubt=0.2), 0.0, "grid"),
        (sampling(excess=0.2), 0.1, "would decide.* line"),
        (sampling(variance=np.inf), 0.0, "two seeds"),
        (sampling(), np.nan, "two seeds"),
        (sampling(variance=0.36), 0.1, "seeds at each width would decide"),
    ],
)
def test_what_would_decide_is_said_or_why_nothing_does(given, shift, says):
    found = wanted(given, shift, **LIMITS)
    assert (found.seeds is None) == ("would decide" not in says)
    assert re.search(says, found.says)


def test_one_size_shows_no_shift():
    one = Sampling((3,), (0.0,), (0.1,), (0.0,))
    assert "another" in wanted(one, 0.0, tolerance=0.25, confidence=0.95, sizes=(8,), over="depth").says


def test_the_parts_of_the_variance_are_all_of_it():
    rng = np.random.default_rng(0)
    for outlier in (0.0, 1.0):
        (found,) = transfer(SimulatedSweep(optimum_sd=0.2, outlier=outlier).records(rng)).values()
        parts = found.sampling
        assert parts.seeds == (5, 5, 5, 3)
        assert parts.by_seeds(parts.seeds) + parts.fixed == pytest.approx(found.trend.noise.variance)
        assert (parts.excess > 0) == bool(outlier)


def test_as_many_seeds_as_are_wanted_decide_in_half_of_sweeps_or_more():
    sweep, rng, decided = SimulatedSweep(optimum_sd=0.5).with_seeds(3), np.random.default_rng(1), []
    for _ in range(12):
        (few,) = transfer(sweep.records(rng)).values()
        if few.wanted is None or few.wanted.seeds is None or few.wanted.seeds[0] > 32:
            continue
        assert f"undecided: {few.wanted.seeds[0]} seeds at each width" in str(few)
        (more,) = transfer(sweep.with_seeds(few.wanted.seeds[0]).records(rng)).values()
        decided.append(more.verdict == "transfers")
        assert more.verdict != "shifts"
    assert len(decided) >= 6
    assert np.mean(decided) >= 0.5


def test_a_decided_verdict_wants_nothing_and_a_grid_that_ends_wants_to_be_extended():
    (found,) = transfer(SimulatedSweep(shift=1.0).records(np.random.default_rng(0))).values()
    assert found.verdict == "shifts" and found.wanted is None and "undecided" not in str(found)
    runs = SimulatedSweep().records(np.random.default_rng(0)).runs
    (found,) = transfer(Records(runs[runs["learning_rate"] <= 1])).values()
    assert any(found.at_grid_edge) and found.wanted.seeds is None and "extend" in found.wanted.says
