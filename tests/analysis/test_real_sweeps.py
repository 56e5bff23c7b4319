"""Real sweeps resampled: seeds are drawn anew from a sweep of many, whose own optimum and shift are then the truth.

Losses near the cliff are heavy-tailed as no formula of `sharplab.analysis.simulation` is.
"""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sharplab.analysis.grids import grids_over
from sharplab.analysis.limits import approach
from sharplab.analysis.regrets import benefit_of_tuning, excess_losses, find_regrets
from sharplab.analysis.seed_optima import find_optima, sampling, shift
from sharplab.analysis.sequential import Rules
from sharplab.analysis.single_seeds import single_seed_optima
from sharplab.analysis.trend import Measured, lies_outside, lies_within, shrunk_noises
from sharplab.analysis.valley import Losses
from sharplab.gallery.entries import EXPERIMENTS

TABLE = EXPERIMENTS / "figure1_seeds.csv"  # the figure transfer as it was at widths 8 to 64
NAMES, SEEDS = ("mup", "ntk"), (3, 4, 5, 8)
DRAWS, CONFIDENCE, TOLERANCE = 60, 0.95, 0.25
COPIES = 4  # of the sweep that is drawn from: its own estimate, with the doubt about shape alone left


@functools.cache
def population(name):
    """The widths, and the losses of all seeds."""
    table = pd.read_csv(TABLE)
    table = table[table["parameterization"] == name]
    return grids_over(name, table, "width", "late_train_loss")


def drawn(grids, seeds, rng):
    return [Losses(g.rates, g.values[:, rng.integers(g.values.shape[1], size=seeds)]) for g in grids]


@functools.cache
def draws(name, seeds):
    """The optima and the shift of sweeps of so many seeds."""
    sizes, grids = population(name)
    rng = np.random.default_rng(seeds)
    found = [find_optima(drawn(grids, seeds, rng)) for _ in range(DRAWS)]
    return [(optima, shift(sizes, optima)) for optima in found]


@functools.cache
def drawn_regrets(name, seeds):
    """The regrets of sweeps of so many seeds: of the smallest size's optimum anywhere, of all at the largest size."""
    _, grids = population(name)
    rng = np.random.default_rng(seeds)
    sweeps = [drawn(grids, seeds, rng) for _ in range(DRAWS)]
    return [find_regrets(sweep, find_optima(sweep), CONFIDENCE) for sweep in sweeps]


def carried(regrets):
    """The regrets of every carried optimum that was computed."""
    return (*regrets.of_smallest[1:], *regrets.at_largest[1:-1])


@functools.cache
def true_regrets(name):
    _, grids = population(name)
    copies = [Losses(g.rates, np.tile(g.values, COPIES)) for g in grids]
    return find_regrets(copies, find_optima(copies), CONFIDENCE)


@functools.cache
def truth(name):
    sizes, grids = population(name)
    optima = find_optima([Losses(g.rates, np.tile(g.values, COPIES)) for g in grids])
    return np.array([optimum.value for optimum in optima]), shift(sizes, optima).slope


def acceptable(hits, trials, rate):
    """Whether so few hits would be likelier than 1 in 10,000 at this rate."""
    return stats.binom.cdf(hits, trials, rate) > 1e-4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seeds", SEEDS)
def test_intervals_of_real_sweeps_cover_what_all_seeds_say(name, seeds):
    optima, slope = truth(name)
    covered = [
        [
            low <= value <= high
            for value, (low, high) in zip(optima, (o.measured(CONFIDENCE).interval for o in found), strict=True)
        ]
        for found, _ in draws(name, seeds)
    ]
    of_widths = np.sum(covered, axis=0)
    assert all(acceptable(hits, DRAWS, 0.9) for hits in of_widths), of_widths / DRAWS
    hits = sum(low <= slope <= high for low, high in (trend.interval(CONFIDENCE) for _, trend in draws(name, seeds)))
    assert acceptable(hits, DRAWS, 0.9), hits / DRAWS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("true_shift", [0.0, 0.25, 0.5])
def test_verdicts_on_real_sweeps_moved_to_a_known_shift_seldom_err(name, seeds, true_shift):
    _, slope = truth(name)
    intervals = [trend.interval(CONFIDENCE) for _, trend in draws(name, seeds)]
    moved = [(low - slope + true_shift, high - slope + true_shift) for low, high in intervals]
    wrong = sum(
        (true_shift >= TOLERANCE and lies_within(interval, TOLERANCE))
        or (true_shift <= TOLERANCE and lies_outside(interval, TOLERANCE))
        for interval in moved
    )
    assert acceptable(DRAWS - wrong, DRAWS, 0.95), wrong / DRAWS


@pytest.mark.parametrize(
    ("name", "seeds", "widest"), [("mup", 4, 0.95), ("mup", 8, 0.75), ("ntk", 4, 1.1), ("ntk", 8, 0.9)]
)
def test_intervals_of_real_sweeps_are_bounded_and_no_wider_than_they_need_be(name, seeds, widest):
    found = [optimum.measured(CONFIDENCE).interval for optima, _ in draws(name, seeds) for optimum in optima]
    widths = np.array([high - low for low, high in found])
    assert np.isfinite(widths).mean() > 0.95
    assert np.median(widths) < widest


@pytest.mark.parametrize("name", NAMES)
def test_intervals_from_one_seed_of_each_size_cover_what_all_seeds_say(name):
    sizes, grids = population(name)
    optima, slope = truth(name)
    rng = np.random.default_rng(0)
    found = [single_seed_optima(sizes, drawn(grids, 1, rng)) for _ in range(DRAWS)]
    hits = sum(low <= slope <= high for low, high in (trend.interval(CONFIDENCE) for _, trend in found))
    assert acceptable(hits, DRAWS, 0.9), hits / DRAWS
    low, high = np.moveaxis(np.array([[o.measured(CONFIDENCE).interval for o in each] for each, _ in found]), -1, 0)
    covered = (low <= optima) & (optima <= high)
    assert acceptable(int(covered.sum()), covered.size, 0.9), covered.mean(axis=0)
    assert np.isfinite([trend.interval(CONFIDENCE) for _, trend in found]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.long
def test_intervals_of_regrets_of_real_sweeps_cover_what_all_seeds_say(name, seeds):
    true, found = carried(true_regrets(name)), [carried(regrets) for regrets in drawn_regrets(name, seeds)]
    for quantity in ("loss", "share"):
        values = [getattr(regret, quantity).value for regret in true]
        lows, highs = np.moveaxis([[getattr(regret, quantity).interval for regret in each] for each in found], -1, 0)
        hits = ((lows <= values) & (values <= highs)).sum(axis=0)
        assert all(acceptable(int(of_pair), DRAWS, 0.9) for of_pair in hits), (quantity, hits / DRAWS)


@pytest.mark.parametrize(("seeds", "widest", "open_at_most"), [(4, 0.12, 0.3), (8, 0.09, 0.2)])
def test_regrets_under_mup_are_bounded_in_most_real_sweeps(seeds, widest, open_at_most):
    highs = np.array([[one.loss.high for one in each.of_smallest[1:]] for each in drawn_regrets("mup", seeds)])
    assert (np.isinf(highs).mean(axis=0) < open_at_most).all()
    assert (np.median(highs, axis=0) < widest).all()


def laws(name, grids):
    """The lowest loss of each size, its limit and exponent, and the loss of half the best rate at the largest size."""
    sizes, _ = population(name)
    excesses, _ = excess_losses(grids)
    lowest = [excess.lowest for excess in excesses]
    values, noises = [each.mean() for each in lowest], shrunk_noises(lowest)
    law = approach(sizes, values, noises, CONFIDENCE)
    losses = [Measured(v, *noise.interval(v, CONFIDENCE)) for v, noise in zip(values, noises, strict=True)]
    return [*losses, law.limit, law.exponent, benefit_of_tuning(excesses, find_optima(grids), CONFIDENCE)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.long
def test_laws_of_real_sweeps_cover_what_all_seeds_say(name, seeds):
    _, grids = population(name)
    true = np.array([one.value for one in laws(name, [Losses(g.rates, np.tile(g.values, COPIES)) for g in grids])])
    rng = np.random.default_rng(seeds)
    found = [[one.interval for one in laws(name, drawn(grids, seeds, rng))] for _ in range(DRAWS)]
    lows, highs = np.moveaxis(np.array(found), -1, 0)
    covered = (lows <= true) & (true <= highs)
    hits = [covered[:, : len(grids)].sum() / len(grids), *covered[:, len(grids) :].sum(axis=0)]
    assert all(acceptable(hit, DRAWS, 0.9) for hit in hits), np.array(hits) / DRAWS


FIRST, RULES = 3, Rules((16,) * 4, TOLERANCE, CONFIDENCE)


@functools.cache
def sequential_draws(name, paths):
    """Of sweeps in rounds, each look's seeds, trend and sampling, up to the most seeds: seeds follow from noise alone.

    A run costs as much as the square of its width, as in the rounds of a sweep.
    """
    sizes, grids = population(name)
    rng, found = np.random.default_rng(1), []
    for _ in range(paths):
        order = [rng.integers(g.values.shape[1], size=max(RULES.most)) for g in grids]
        looks, seeds = [], (FIRST,) * len(sizes)
        while not looks or looks[-1][0] != RULES.most:
            known = [Losses(g.rates, g.values[:, o[:n]]) for g, o, n in zip(grids, order, seeds, strict=True)]
            optima = find_optima(known)
            trend = shift(sizes, optima)
            looks.append((seeds, trend, sampling(sizes, known, optima, trend)))
            seeds = RULES.next_seeds(replace(looks[-1][2], seeds=seeds), costs(name))
        found.append(looks)
    return found


def costs(name):
    """Of one more seed at each width."""
    sizes, grids = population(name)
    return [size**2 * len(grid.rates) for size, grid in zip(sizes, grids, strict=True)]


def decided(name, looks, true_shift):
    """The verdict of a sweep moved to a known shift, whether its last interval covers it, and the cost of its runs."""
    offset, before = true_shift - truth(name)[1], ()
    for seeds, trend, known in looks:
        interval = tuple(end + offset for end in trend.interval(RULES.look_confidence(before, seeds)))
        before = seeds
        if lies_within(interval, TOLERANCE) or lies_outside(interval, TOLERANCE):
            break
        if RULES.hopeless(known, trend.slope + offset):
            break
    verdict = "transfers" if lies_within(interval, TOLERANCE) else "shifts" * lies_outside(interval, TOLERANCE)
    return verdict, interval[0] <= true_shift <= interval[1], float(np.dot(seeds, costs(name)))


@pytest.mark.parametrize("paths", [25, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_verdicts_in_rounds_keep_their_error_and_cost_less_than_all_seeds(name, paths):
    of_all = float(np.dot(RULES.most, costs(name)))
    for true_shift in (0.0, 0.15, 0.25, 0.35, 0.5):
        verdicts, covered, spent = zip(
            *(decided(name, looks, true_shift) for looks in sequential_draws(name, paths)), strict=True
        )
        transfers, shifts = (verdicts.count(verdict) / paths for verdict in ("transfers", "shifts"))
        print(f"{name} {true_shift}: {transfers=} {shifts=} {np.mean(covered)=} {np.mean(spent) / of_all=:.2f}")
        wrong = transfers * (true_shift >= TOLERANCE) + shifts * (true_shift <= TOLERANCE)
        assert np.mean(covered) >= CONFIDENCE - 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / paths)
        assert acceptable(paths - round(wrong * paths), paths, 1 - 0.05)
        if true_shift in (0.0, 0.5):
            assert max(transfers, shifts) > 0.7
            assert np.mean(spent) < 0.75 * of_all
