"""Laws of the loss and of the optimum over sizes, against those that sweeps were made by."""

import functools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sharplab.analysis.useful import usefulness
from sharplab.records import Records

DRAWS = 50


@dataclass(frozen=True)
class Family:
    """The loss `limit` + a·w^−p + kappa·(x − x*(w))² at x = log₂ of the learning rate, with x*(w) = x_limit + c·w^−q.

    Each seed moves its level by `level_sd` and its optimum by `optimum_sd`; each loss has `noise`.
    """

    widths: tuple[int, ...] = (8, 16, 32, 64, 128)
    seeds: int = 4
    limit: float = 0.5
    a: float = 1.0
    p: float = 0.7
    kappa: float = 0.08
    x_limit: float = 1.0
    c: float = -4.0
    q: float = 0.8
    level_sd: float = 0.02
    optimum_sd: float = 0.1
    noise: float = 0.004
    off: float = 0.0  # octaves by which the optimum of every other width is off

    @property
    def optima(self):
        return (
            self.x_limit + self.c * np.array(self.widths) ** -self.q + self.off * (-1.0) ** np.arange(len(self.widths))
        )

    @property
    def lowest(self):
        return self.limit + self.a * np.array(self.widths) ** -self.p + self.kappa * self.optimum_sd**2

    @property
    def misfit(self):
        z = np.vander(np.log2(self.widths), 2)
        off = self.optima - z @ np.linalg.lstsq(z, self.optima)[0]
        return np.sqrt(np.sum(off**2) / (len(self.widths) - 2))

    def records(self, rng):
        x, tables = np.arange(-3, 5, 0.5), []
        for width, optimum, lowest in zip(self.widths, self.optima, self.lowest, strict=True):
            for seed in range(self.seeds):
                missed = x - optimum - self.optimum_sd * rng.normal()
                losses = lowest - self.kappa * self.optimum_sd**2 + self.kappa * missed**2
                losses = losses + self.level_sd * rng.normal() + self.noise * rng.normal(size=len(x))
                tables.append({"width": width, "seed": seed, "learning_rate": 2.0**x, "eval_loss": losses})
        return Records(pd.concat(map(pd.DataFrame, tables), ignore_index=True))


FAMILIES = {
    "as a sweep": Family(),
    "four sizes, three seeds": Family(widths=(8, 16, 32, 64), seeds=3),
    "hardly any noise": Family(level_sd=0.002, optimum_sd=0.02, noise=0.002),
    "optima that stay": Family(c=0.0, seeds=3),
    "optima off their law": Family(off=0.3),
    "fast": Family(widths=(8, 16, 32, 64, 128, 256), seeds=5, optimum_sd=0.05, x_limit=1.2, c=-12.0, q=1.0, p=0.4),
    "slow": Family(
        widths=(8, 16, 32, 64, 128, 256), seeds=5, optimum_sd=0.02, x_limit=2.0, c=-3.0, q=0.2, p=1.0, level_sd=0.005
    ),
}


@functools.cache
def found(kind):
    rng = np.random.default_rng(0)
    return [usefulness(FAMILIES[kind].records(rng))["runs"] for _ in range(DRAWS)]


def acceptable(hits, trials=DRAWS, rate=0.95):
    """Whether so few hits would be likelier than 1 in 10,000 at this rate."""
    return stats.binom.cdf(hits, trials, rate) > 1e-4


def covers(measured, truth):
    return measured.low <= truth <= measured.high


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.long
def test_intervals_cover_what_the_sweep_was_made_by(kind):
    family = FAMILIES[kind]
    truths = {"misfit": family.misfit, "kappa": family.kappa, "loss.limit": family.limit, "loss.exponent": family.p}
    if not family.off and family.c:
        truths |= {
            "optimum.limit": family.x_limit,
            "regret_exponent": 2 * family.q,
            "advantage": 2 * family.q - family.p,
        }
    for name, truth in truths.items():
        values = [functools.reduce(getattr, name.split("."), one) for one in found(kind)]
        hits = sum(covers(value, truth) for value in values)
        assert acceptable(hits), f"{name}: {hits / DRAWS:.2f}"
    for i, lowest in enumerate(family.lowest):
        assert acceptable(sum(covers(one.losses[i], lowest) for one in found(kind)))


@pytest.mark.long
@pytest.mark.parametrize("kind", FAMILIES)
def test_verdicts_are_seldom_wrong_and_reached_where_the_exponents_differ_plainly(kind):
    verdicts = [one.verdict for one in found(kind)]
    family = FAMILIES[kind]
    wrong = "slow" if 2 * family.q > family.p else "fast"
    assert acceptable(DRAWS - verdicts.count(wrong))
    if kind in ("fast", "slow"):
        assert verdicts.count(kind) > 0.8 * DRAWS


@pytest.mark.long
def test_a_misfit_is_told_from_noise():
    assert np.mean([one.misfit.low > 0 for one in found("optima off their law")]) > 0.8
    assert acceptable(sum(one.misfit.low == 0 for one in found("optima that stay")))


@pytest.mark.long
def test_the_gap_between_limits_is_covered_and_told_where_it_is_plain():
    rng, family = np.random.default_rng(1), Family(p=1.0, level_sd=0.01)
    other = replace(family, limit=0.6, p=0.8)
    hits = told = 0
    for _ in range(DRAWS):
        one, two = (usefulness(each.records(rng))["runs"] for each in (family, other))
        gap = two.limit_above(one)
        hits, told = hits + covers(gap, 0.1), told + (gap.low > 0)
    assert acceptable(hits) and told > 0.5 * DRAWS


def test_three_sizes_tell_no_limit_and_no_verdict():
    few = usefulness(Family(widths=(8, 16, 32)).records(np.random.default_rng(0)))["runs"]
    assert np.isnan([few.loss.limit.value, few.loss.exponent.value, few.advantage.value]).all()
    assert few.verdict == "inconclusive" and np.isfinite(few.lowest).all()
    assert "4 sizes" in str(few)


def test_a_sweep_without_noise_or_of_one_seed_has_its_laws():
    exact = Family(level_sd=0.0, optimum_sd=0.0, noise=0.0)
    one, three = (usefulness(replace(exact, seeds=n).records(np.random.default_rng(0)))["runs"] for n in (1, 3))
    for found in (one, three):
        assert found.loss.limit.value == pytest.approx(exact.limit, abs=5e-3)
        assert found.loss.exponent.value == pytest.approx(exact.p, rel=0.05)
        assert found.kappa.value == pytest.approx(exact.kappa, rel=0.02)
    assert three.misfit.value == pytest.approx(exact.misfit, rel=0.05)


def test_a_size_at_which_all_diverged_tells_no_law():
    runs = Family().records(np.random.default_rng(0)).runs
    found = usefulness(Records(runs.assign(diverged=runs["width"] == 128)))["runs"]
    assert np.isnan(found.losses[-1].value) and found.verdict == "inconclusive" and "not known" in str(found)


def test_an_optimum_at_the_edge_of_its_grid_tells_no_law():
    runs = Family(x_limit=6.0).records(np.random.default_rng(0))
    edge = usefulness(runs)["runs"]
    assert edge.verdict == "inconclusive" and np.isnan(edge.loss.limit.value) and edge.misfit.high == np.inf


def test_the_text_is_short_and_the_table_has_a_row_per_size():
    one = found("fast")[0]
    assert (
        "fast" in str(one)
        and "eval_loss" in str(one)
        and str(one).count("\n") == 3
        and max(map(len, str(one).splitlines())) <= 112
    )
    assert one.table()["width"].tolist() == list(one.sizes)
    assert one.table()["lowest"].tolist() == list(one.lowest)
