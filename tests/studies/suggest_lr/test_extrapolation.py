"""The optimum at a large size, and what it costs to miss it, against where it was put."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

from sharplab.analysis.simulation import SimulatedSweep
from sharplab.analysis.trend import Noise
from sharplab.analysis.valley import Losses
from sharplab.studies.suggest_lr.extrapolation import Extrapolation, extrapolate, losses_of, predicted_regret

SIMULATIONS, FURTHER = 80, 8  # how many, and at how many times the largest width


@dataclass(frozen=True)
class DyingDrift(SimulatedSweep):
    """The drift halves with each doubling: what is left of it in the limit is twice the first."""

    @property
    def optima(self):
        return self.start + 2 * self.shift * (1 - self.widths[0] / np.array(self.widths))


THREE = (3,) * 4
CASES = {
    "still": SimulatedSweep(seeds=THREE, optimum_sd=0.1),
    "as large a drift as that of the paper's ConvNet": SimulatedSweep(seeds=THREE, shift=0.17, optimum_sd=0.1),
    "fast, octaves alone": SimulatedSweep(seeds=THREE, shift=0.5, refined=False),
    "down, noisy": SimulatedSweep(seeds=THREE, shift=-0.3, noise=0.02),
    "two widths": SimulatedSweep(widths=(8, 32), seeds=(3, 3), shift=0.17, optimum_sd=0.1),
    "dying out upwards": DyingDrift(seeds=THREE, shift=0.3, optimum_sd=0.1),
    "dying out downwards": DyingDrift(seeds=THREE, shift=-0.5, optimum_sd=0.1),
}


def truth(sweep):
    return float(replace(sweep, widths=(sweep.widths[0], FURTHER * sweep.widths[-1])).optima[-1])


def drawn(sweep, rng):
    sizes, grids = losses_of(sweep.records(rng).runs, "eval_loss")
    return extrapolate(sizes, grids, FURTHER * sizes[-1])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.long
def test_the_interval_covers_the_optimum_at_its_stated_rate(case, record_property):
    sweep, rng = CASES[case], np.random.default_rng(0)
    found = [drawn(sweep, rng).interval for _ in range(SIMULATIONS)]
    hits = sum(low <= truth(sweep) <= high for low, high in found)
    record_property("coverage", hits / SIMULATIONS)
    assert stats.binom.cdf(hits, SIMULATIONS, 0.95) > 1e-4, hits / SIMULATIONS
    assert all(np.isfinite(interval).all() for interval in found)


def test_the_interval_of_a_still_optimum_is_no_wider_than_it_need_be():
    sweep, rng = CASES["still"], np.random.default_rng(1)
    found = [drawn(sweep, rng) for _ in range(SIMULATIONS)]
    half = np.median([np.diff(one.interval)[0] / 2 for one in found])
    assert half < 4 * np.std([one.trend for one in found]) and half < 0.6


def test_the_trend_is_followed_exactly_where_there_is_no_noise():
    x = np.arange(-6.0, 7.0)
    sizes, grids = (16, 32, 64), [Losses(x, np.tile((x - 0.3 * i)[:, None] ** 2, 3)) for i in range(3)]
    found = extrapolate(sizes, grids, 256)
    assert (found.trend, found.last) == pytest.approx((4 * 0.3, 2 * 0.3), abs=1e-6)
    assert found.optimum == pytest.approx(3 * 0.3, abs=1e-6)
    assert found.interval[0] <= 2 * 0.3 and found.interval[1] >= 4 * 0.3


@pytest.mark.parametrize("count", [1, 2])
def test_an_optimum_at_the_edge_and_a_lone_width_leave_it_open(count):
    x = np.arange(5.0)
    grids = [Losses(x, np.tile((x - 6.0)[:, None] ** 2, 3)), Losses(x, np.tile((x - 2.0)[:, None] ** 2, 3))]
    assert extrapolate((8, 16)[:count], grids[-count:], 64).interval == (-np.inf, np.inf)


def test_the_regret_of_a_parabola_is_its_curvature_times_the_variance():
    x = np.arange(-4.0, 5.0)
    grid = Losses(x, 1 + 0.2 * np.tile((x - 1)[:, None] ** 2, 3))
    found = Extrapolation(1.5, Noise(0.3**2, np.inf), 1.9, Noise(0.1**2, np.inf), (1.0, 2.4))
    regret = predicted_regret(1.7, found, grid, 1.0)
    central = stats.truncnorm(-1.96, 1.96).var()  # the middle 95 % of a normal distribution
    assert regret.expected == pytest.approx(0.2 * (0.2**2 + (0.3**2 + 0.1**2) / 2 * central), rel=0.02)
    assert regret.interval == pytest.approx((0.0, 0.2 * 0.7**2), rel=1e-6)


def test_the_worst_case_has_the_noise_of_the_seeds():
    x, rng = np.arange(-4.0, 5.0), np.random.default_rng(0)
    grid = Losses(x, 0.2 * x[:, None] ** 2 + 0.05 * rng.standard_normal((9, 4)))
    found = Extrapolation(0.0, Noise(0.01, np.inf), 0.0, Noise(0.01, np.inf), (-1.0, 1.0))
    rises = grid.values[[3, 5]] - grid.values[4]  # at −1 and 1, above 0
    worst = [rise.mean() + stats.t.ppf(0.975, 3) * rise.std(ddof=1) / 2 for rise in rises]
    assert predicted_regret(0.0, found, grid, 0.0).interval[1] == pytest.approx(max(worst))


def test_beyond_the_edge_of_stability_the_regret_is_infinite_and_below_the_grid_unknown():
    x = np.arange(-2.0, 5.0)
    values = np.where(x > 2, np.inf, x**2)[:, None].repeat(3, axis=1)
    for centre, expected in ((0.0, np.inf), (2.0, np.nan)):
        # The suggestion lies 3 octaves above where the optimum may be, or 3 below.
        place, sure = 3 * (centre - 1), Noise(1e-6, np.inf)
        found = Extrapolation(place, sure, place, sure, (place - 0.1, place + 0.1))
        regret = predicted_regret(0.0, found, Losses(x, values), 0.0)
        np.testing.assert_equal(regret.expected, expected)
        assert regret.interval == (0.0, np.inf)


def test_the_losses_of_a_table_are_sorted_by_width_and_learning_rate():
    runs = SimulatedSweep().records(np.random.default_rng(0)).runs
    sizes, grids = losses_of(runs.sample(frac=1, random_state=0), "eval_loss")
    assert sizes == (8, 16, 32, 64)
    row = runs[(runs["width"] == 16) & (runs["seed"] == 2)].sort_values("learning_rate")
    np.testing.assert_array_equal(grids[1].rates, np.log2(row["learning_rate"]))
    np.testing.assert_array_equal(grids[1].values[:, 2], row["eval_loss"])
