"""Where the optimum is said to be, against where it was put."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_sweep import Sweep

from sharplab.analysis import shift_difference, transfer
from sharplab.records import Records

SIMULATIONS = 150


def covers(interval, truth):
    return interval[0] <= truth <= interval[1]


def acceptable(hits: int, trials: int, rate: float) -> bool:
    """Whether so few hits would be likelier than 1 in 10,000 at this rate of coverage."""
    return stats.binom.cdf(hits, trials, rate) > 1e-4


CASES = {
    "parabola, 4 seeds": Sweep(),
    "parabola, 3 seeds, shifting": Sweep(seeds=3, shift=0.8),
    "twice as steep on the right": Sweep(seeds=5, skew=1.0),
    "cliff near the optimum": Sweep(seeds=5, cliff=0.7, cliff_wander=0.05, shift=0.3),
    "noisy": Sweep(seeds=3, noise=0.04, wander=0.2),
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_cover_at_their_stated_rate(case):
    sweep, rng = CASES[case], np.random.default_rng(0)
    optima = shifts = edges = 0
    for _ in range(SIMULATIONS):
        found = transfer(sweep.records(rng))["mup"]
        optima += covers(np.log2(found.optimum_interval[0]), sweep.optimum(8))
        shifts += covers(found.shift_interval, sweep.shift)
        edges += covers(np.log2(found.edge_interval[0]), sweep.edge(8))
    print(
        f"{case}: coverage of optimum {optima / SIMULATIONS:.3f}, shift {shifts / SIMULATIONS:.3f}, "
        f"edge {edges / SIMULATIONS:.3f}"
    )
    assert acceptable(optima, SIMULATIONS, 0.95)
    assert acceptable(shifts, SIMULATIONS, 0.95)
    assert acceptable(edges, SIMULATIONS, 0.95)


def test_intervals_are_no_wider_than_they_need_be():
    sweep, rng = Sweep(), np.random.default_rng(1)
    widths, errors = [], []
    for _ in range(100):
        found = transfer(sweep.records(rng))["mup"]
        widths.append(np.diff(found.shift_interval)[0] / 2)
        errors.append(found.shift - sweep.shift)
    assert np.median(widths) < 4 * np.std(errors)


def test_verdicts_err_at_their_stated_rate():
    rng = np.random.default_rng(2)
    still = [transfer(Sweep(shift=0.0).records(rng))["mup"].verdict for _ in range(100)]
    moving = [transfer(Sweep(shift=1.0).records(rng))["mup"].verdict for _ in range(100)]
    assert still.count("shifts") <= 5 and still.count("transfers") >= 75
    assert moving.count("transfers") == 0 and moving.count("shifts") >= 75


def test_a_shift_at_the_tolerance_is_rarely_called_a_transfer():
    rng = np.random.default_rng(3)
    verdicts = [transfer(Sweep(shift=0.25).records(rng))["mup"].verdict for _ in range(100)]
    assert verdicts.count("transfers") <= 8
    assert verdicts.count("shifts") <= 8


def exact(width_optima: dict[int, float], *, rates=range(-4, 5), seeds=3, slope=0.1) -> pd.DataFrame:
    """Noise-free parabolas, the seeds an even spread apart in loss."""
    return pd.DataFrame(
        [
            {"parameterization": "mup", "width": w, "learning_rate": 2.0**x, "seed": s,
             "eval_loss": 1 + slope * (x - o) ** 2 + 0.01 * s}
            for w, o in width_optima.items() for x in rates for s in range(seeds)
        ]
    )  # fmt: skip


def test_a_parabola_is_located_exactly_and_its_regret_has_the_closed_form():
    found = transfer(Records(exact({10: 0.25, 30: 0.75})))["mup"]
    np.testing.assert_allclose(np.log2(found.optimum), [0.25, 0.75], atol=1e-9)
    assert found.shift == pytest.approx(0.5 / np.log2(3))
    # Interpolated between grid points an octave apart, so not to rounding.
    assert found.regret == pytest.approx(0.1 * 0.5**2, abs=0.01)


def test_divergence_by_nan_inf_or_flag_is_one_and_the_same():
    runs = exact({8: 0.0, 16: 0.0})
    beyond = runs["learning_rate"] > 2
    tables = [runs.assign(eval_loss=runs["eval_loss"].mask(beyond, value)) for value in (np.nan, np.inf)]
    tables.append(runs.assign(diverged=beyond))
    results = [transfer(Records(table))["mup"] for table in tables]
    for found in results:
        assert found.optimum == results[0].optimum
        assert found.edge_interval == ((2.0, 4.0), (2.0, 4.0))
        assert found.edge == pytest.approx((2.0**1.5, 2.0**1.5))


def test_an_optimum_at_the_edge_of_the_grid_has_an_open_interval_and_no_verdict():
    found = transfer(Records(exact({8: 6.0, 16: 6.0})))["mup"]
    assert found.optimum_interval[0][1] == np.inf
    assert found.verdict == "inconclusive"
    below = transfer(Records(exact({8: -6.0, 16: 0.0})))["mup"]
    assert below.optimum_interval[0][0] == 0
    assert below.verdict == "inconclusive"


def test_without_divergence_the_edge_is_open_above():
    found = transfer(Records(exact({8: 0.0, 16: 0.0})))["mup"]
    assert found.edge_interval[0] == (16.0, np.inf)


def test_one_seed_or_one_size_knows_no_noise_and_decides_nothing():
    assert transfer(Records(exact({8: 0.0, 16: 2.0}, seeds=1, rates=range(-1, 4))))["mup"].verdict == "inconclusive"
    alone = transfer(Records(exact({8: 0.0})))["mup"]
    assert alone.verdict == "inconclusive" and np.isnan(alone.shift)


def test_the_difference_of_shifts_has_an_interval():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(100):
        still, moving = (transfer(Sweep(shift=s).records(rng))["mup"] for s in (0.0, 0.8))
        _, interval = shift_difference(still, moving)
        hits += covers(interval, 0.8)
    assert acceptable(hits, 100, 0.95)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda runs: runs.assign(steps=[100] * (len(runs) - 1) + [200]), r"records.select\(steps=100\)"),
        (lambda runs: pd.concat([runs, runs.head(1)]), "two runs at width 8"),
        (lambda runs: runs.drop(columns="eval_loss"), "no column 'eval_loss'"),
        (lambda runs: runs.drop(columns="seed"), "lacks the column 'seed'"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        transfer(Records(change(exact({8: 0.0, 16: 0.0}))))
