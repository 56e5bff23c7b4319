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
    "as the lab's sweeps": Sweep(),
    "parabola, 3 seeds": Sweep(seeds=(3,) * 4, skew=0.0, wander=0.1),
    "shifting across the grid": Sweep(shift=0.3, wander=0.1),
    "lopsided": Sweep(skew=1.5),
    "lopsided, octaves alone": Sweep(skew=1.0, refined=False),
    "hardly any noise": Sweep(noise=0.0005, seed_effect=0.0),
    "cliff at the optimum": Sweep(cliff=0.3, shift=0.3, start=0.1),
    "cliff that wanders": Sweep(cliff=1.0, cliff_wander=0.4),
    "noisy": Sweep(noise=0.02),
    "optima that wander, 3 seeds": Sweep(wander=0.3, seeds=(3,) * 4),
    "two sizes": Sweep(widths=(8, 64), seeds=(5, 3)),
    "sizes apart by 3": Sweep(widths=(10, 30, 90), seeds=(4, 4, 3), shift=0.5),
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_cover_at_their_stated_rate(case, record_property):
    sweep, rng = CASES[case], np.random.default_rng(0)
    hits = np.zeros(4)
    for _ in range(SIMULATIONS):
        found = transfer(sweep.records(rng))["mup"]
        optima = zip(np.log2(found.optimum_interval), sweep.optima, strict=True)
        edges = zip(np.log2(found.edge_interval), sweep.edges, strict=True)
        # Of the sizes one each time, lest one draw count several times.
        pick = int(rng.integers(len(found.sizes)))
        hits += [
            covers(*list(optima)[pick]),
            covers(found.shift_interval, sweep.shift),
            covers(*list(edges)[pick]),
            covers(found.edge_shift_interval, sweep.shift),
        ]
    names = ("optimum", "shift", "edge", "edge_shift")
    record_property("coverage", str(dict(zip(names, (hits / SIMULATIONS).tolist(), strict=True))))
    for name, count in zip(names, hits, strict=True):
        assert acceptable(int(count), SIMULATIONS, 0.95), f"{name}: {count / SIMULATIONS:.2f}"


def test_intervals_are_no_wider_than_they_need_be():
    sweep, rng = Sweep(wander=0.1), np.random.default_rng(1)
    widths, errors = [], []
    for _ in range(100):
        found = transfer(sweep.records(rng))["mup"]
        widths.append(np.diff(found.shift_interval)[0] / 2)
        errors.append(found.shift - sweep.shift)
    assert np.median(widths) < 4 * np.std(errors)


def test_verdicts_err_at_their_stated_rate():
    rng = np.random.default_rng(2)
    still = [transfer(Sweep(shift=0.0, wander=0.1).records(rng))["mup"].verdict for _ in range(100)]
    moving = [transfer(Sweep(shift=1.0, wander=0.1).records(rng))["mup"].verdict for _ in range(100)]
    assert still.count("shifts") <= 5 and still.count("transfers") >= 75
    assert moving.count("transfers") == 0 and moving.count("shifts") >= 75


def test_a_shift_at_the_tolerance_is_rarely_called_a_transfer():
    rng = np.random.default_rng(3)
    verdicts = [transfer(Sweep(shift=0.25, wander=0.1).records(rng))["mup"].verdict for _ in range(100)]
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
    np.testing.assert_allclose(np.log2(found.optimum), [0.25, 0.75], atol=1e-6)
    assert found.shift == pytest.approx(0.5 / np.log2(3), abs=1e-6)
    # The lowest loss is sought on a fine grid, so not to rounding.
    assert found.regret == pytest.approx(0.1 * 0.5**2, rel=1e-2)


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


def test_one_seed_at_the_largest_size_borrows_the_others_noise():
    runs = Sweep(widths=(8, 16, 32), seeds=(4, 4, 1)).records(np.random.default_rng(5))
    low, high = transfer(runs)["mup"].optimum_interval[-1]
    assert 0 < low < 2**0.3 < high < np.inf


def test_where_all_diverge_there_is_no_optimum_and_the_edge_lies_below():
    runs = exact({8: 0.0, 16: 0.0})
    found = transfer(Records(runs.assign(diverged=runs["width"] == 16)))["mup"]
    assert np.isnan(found.optimum[1]) and np.isnan(found.shift)
    assert found.edge_interval[1] == (0.0, 2.0**-4)
    assert found.verdict == "inconclusive"


def test_carrying_a_learning_rate_past_the_cliff_costs_everything():
    runs = exact({8: 2.0, 16: 0.0})
    beyond = (runs["width"] == 16) & (runs["learning_rate"] > 2)
    assert transfer(Records(runs.assign(diverged=beyond)))["mup"].regret == np.inf


def test_an_optimum_beside_the_cliff_may_lie_anywhere_up_to_it():
    runs = exact({8: 1.0, 16: 1.0}, slope=0.01)
    beyond = runs["learning_rate"] > 2
    found = transfer(Records(runs.assign(diverged=beyond)))["mup"]
    assert all(low <= 2 and high == pytest.approx(4.0) for low, high in found.optimum_interval)


def test_several_optimizers_are_answered_apart():
    runs = exact({8: 0.0, 16: 0.0})
    both = pd.concat([runs.assign(optimizer="sgd"), runs.assign(optimizer="adam")])
    assert set(transfer(Records(both))) == {"mup/sgd", "mup/adam"}


def test_depths_compare_at_one_width_only():
    runs = exact({3: 0.0, 6: 0.5}).rename(columns={"width": "depth"})
    assert transfer(Records(runs.assign(width=8)), over="depth")["mup"].shift == pytest.approx(0.5, abs=1e-4)
    mixed = pd.concat([runs.assign(width=8), runs.assign(width=16)])
    with pytest.raises(ValueError, match=r"mix width = 8, 16: choose one, as in records.select\(width=8\)"):
        transfer(Records(mixed), over="depth")


def test_seeds_missing_at_some_rates_do_not_move_the_optimum():
    runs = exact({8: 0.25, 16: 0.25}, seeds=5)  # the seeds' levels differ
    some = runs[(runs["seed"] < 3) | np.isclose(np.log2(runs["learning_rate"]) % 2, 0)]
    np.testing.assert_allclose(np.log2(transfer(Records(some))["mup"].optimum), 0.25, atol=1e-6)


def test_the_text_names_sizes_interval_and_what_to_mend():
    text = str(transfer(Records(exact({8: 0.0, 16: 6.0})))["mup"])
    assert "mup: the optimal learning rate inconclusive" not in text
    assert "width     8: best 1 [" in text
    assert "last of the grid at width 16: extend the grid there" in text


def test_the_difference_of_shifts_has_an_interval():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(100):
        still, moving = (transfer(Sweep(shift=s, wander=0.1).records(rng))["mup"] for s in (0.0, 0.8))
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
        (lambda runs: runs.assign(learning_rate=0.0), "learning_rate must be positive and finite in every run"),
        (lambda runs: runs.assign(width=np.nan), "width must be positive and finite in every run"),
        (lambda runs: runs.assign(eval_loss="low"), "'eval_loss' is no column of numbers"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        transfer(Records(change(exact({8: 0.0, 16: 0.0}))))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"over": "size"}, "over must be 'width' or 'depth'"),
        ({"tolerance": 0.0}, "tolerance must be a positive number"),
        ({"confidence": 95}, "confidence must lie between 0 and 1"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        transfer(Records(exact({8: 0.0, 16: 0.0})), **arguments)
