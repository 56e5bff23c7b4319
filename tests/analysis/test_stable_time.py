"""Trajectories that reach the edge of stability where and as fast as they are made to."""

import numpy as np
import pandas as pd
import pytest

from sharplab.analysis.stable_time import stability
from sharplab.optimizers import OPTIMIZERS
from sharplab.records import Records

RATE = 0.25  # of learning; the threshold of SGD is 8


def records(*trajectories, steps=None, error=0.0, optimizer="sgd", widths=None, **settings) -> Records:
    """A run per trajectory of sharpness; all of width 8 unless given."""
    tables = []
    for seed, trajectory in enumerate(trajectories):
        sharpness = np.asarray(trajectory, float)
        at = np.arange(len(sharpness)) * 10 if steps is None else steps
        table = {"step": at, "sharpness": sharpness, "sharpness_error": error}
        width = 8 if widths is None else widths[seed]
        tables.append(pd.DataFrame(table | {"width": width, "learning_rate": RATE, "seed": seed}))
    curves = pd.concat(tables, ignore_index=True)
    runs = curves[["width", "learning_rate", "seed"]].drop_duplicates().assign(optimizer=optimizer, **settings)
    return Records(runs, curves)


def one(*arguments, **settings):
    (found,) = stability(records(*arguments, **settings)).values()
    return found.runs.iloc[0]


def test_exponential_sharpening_has_its_rate_crossing_and_share():
    run = one(2.0 ** (np.arange(11) / 2))  # half an octave per record of 10 steps: 8 is reached at record 6
    assert run["threshold"] == 8
    assert run["rate"] == pytest.approx(0.05)
    assert run["rate_per_time"] == pytest.approx(0.2)
    assert run["crossing"] == pytest.approx(60)
    assert (run["above"], run["below"]) == (pytest.approx(0.4), pytest.approx(0.6))


def test_the_crossing_lies_between_the_last_record_below_and_the_first_above():
    run = one([4, 6, 10, 12])
    assert run["crossing"] == pytest.approx(15)
    assert (run["crossing_low"], run["crossing_high"]) == (10, 20)
    assert run["above"] == pytest.approx(0.5)


def test_an_eigenvalue_within_its_error_of_the_threshold_settles_nothing():
    run = one([4, 7.9, 8.1, 12, 12], error=0.2)
    assert (run["crossing_low"], run["crossing_high"]) == (0, 30)
    assert run["above_low"] < run["above"] < run["above_high"]
    assert run["rate_low"] < run["rate"] < run["rate_high"]


def test_a_plateau_below_the_threshold_is_never_crossed_and_rises_at_its_rate():
    run = one([1, 2, 4, 6, 6, 6, 6])
    assert (run["crossing"], run["above"]) == (np.inf, 0)
    assert (run["crossing_low"], run["crossing_high"]) == (np.inf, np.inf)
    assert run["plateau"] == pytest.approx(0.75)
    assert run["rate"] == pytest.approx(np.log2(5.4) / 27)  # nine tenths of 6, between records 2 and 3


def test_falling_curves_do_not_sharpen_and_those_above_from_the_start_have_no_rate():
    assert one([4, 3, 2])["rate"] == 0
    above = one([9, 10, 11])
    assert np.isnan(above["rate"])
    assert (above["crossing"], above["above"]) == (0, 1)


def test_finer_records_narrow_the_crossing_and_leave_the_numbers():
    def curve(steps):
        return 2 * np.exp(steps / 40)

    coarse, fine = (one(curve(steps), steps=steps) for steps in (np.linspace(0, 100, n) for n in (6, 101)))
    assert fine["crossing"] == pytest.approx(40 * np.log(4), abs=0.1)
    assert coarse["crossing"] == pytest.approx(fine["crossing"], abs=1)
    assert fine["crossing_high"] - fine["crossing_low"] == 1
    assert coarse["rate"] == pytest.approx(fine["rate"], rel=0.02)


def test_the_threshold_is_the_optimizers_own_or_the_given_one():
    trajectory = [1.0, 2.0, 3.0]
    assert stability(records(trajectory, optimizer="adam"))["runs"].runs["threshold"][0] == pytest.approx(38 / RATE)
    assert stability(records(trajectory, optimizer="lion"), threshold=2.5)["runs"].runs["threshold"][0] == 2.5
    given = stability(records(trajectory), threshold=lambda rate: 1 / rate)["runs"].runs
    assert given["threshold"][0] == pytest.approx(4)
    with pytest.raises(ValueError, match=r"own_objects:make_signs .*threshold"):
        stability(records(trajectory, optimizer="own_objects:make_signs"))
    with pytest.raises(ValueError, match="schedule 'cosine'"):
        stability(records(trajectory, schedule="cosine"))
    with pytest.raises(ValueError, match=r"threshold .*-1.0"):
        stability(records(trajectory), threshold=-1.0)


RISING = np.array([1.0, 2.0, 3.0])


def of_quantity(quantity, optimizer, **settings):
    """The threshold that records of another quantity, and of the sharpness beside it, are compared with."""
    made = records(RISING, optimizer=optimizer, **settings)
    (found,) = stability(Records(made.runs, made.curves.assign(**{quantity: 2.0 * RISING})), quantity=quantity).values()
    return found.runs["threshold"][0]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "lion", "muon"])
def test_a_quantity_has_its_own_threshold_or_is_refused(optimizer):
    own = OPTIMIZERS[optimizer].threshold(RATE)
    assert of_quantity("sharpness", optimizer) == own
    assert of_quantity("critical_sharpness", optimizer) == of_quantity("midpoint_sharpness", optimizer) == 2 / RATE
    for quantity in ("hessian_1", "gauss_newton_2", "directional_sharpness", "batch_sharpness"):
        if OPTIMIZERS[optimizer].preconditioner is None:  # what is recorded then is of H itself
            with pytest.raises(ValueError, match=f"quantity '{quantity}' .*{optimizer}.*threshold"):
                of_quantity(quantity, optimizer)
        else:
            assert of_quantity(quantity, optimizer) == own
    refused = ["ntk_1", "gradient_norm", "hessian_trace", "sharpness_error", "lambda_max"]
    if optimizer in ("sgd", "momentum"):
        assert of_quantity("sharpness_raw", optimizer) == own
    else:
        refused.append("sharpness_raw")
    for quantity in refused:
        with pytest.raises(ValueError, match=f"quantity '{quantity}' .*threshold"):
            of_quantity(quantity, optimizer)
    with pytest.raises(ValueError, match=r"quantity 'sharpness_raw' .*threshold"):
        of_quantity("sharpness_raw", optimizer, parameterization="mup")
    given = stability(records(RISING, optimizer=optimizer), quantity="sharpness_error", threshold=2.5)
    assert given["runs"].runs["threshold"][0] == 2.5


def test_the_table_has_a_row_per_size_with_intervals_from_seeds():
    rng = np.random.default_rng(0)
    trajectories = [np.array([2, 4, 8, 8, 8]) * np.exp(0.1 * rng.normal()) for _ in range(6)]
    (found,) = stability(records(*trajectories, widths=[8, 8, 8, 16, 16, 16])).values()
    table = found.table().set_index("width")
    assert list(table.index) == [8, 16]
    plateaus = found.runs.groupby("width")["plateau"].mean()
    np.testing.assert_allclose(table["plateau"], plateaus)
    half = (table["plateau_high"] - table["plateau_low"]) / 2
    own = np.sqrt(found.runs.groupby("width")["plateau"].var() / 3)
    np.testing.assert_allclose(half, 4.303 * own, rtol=1e-3)  # Student's t of 2 degrees of freedom
    assert "runs: sharpness" in str(found) and len(str(found).splitlines()) == 1 + len(table)


def test_intervals_over_seeds_cover_at_their_rate():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        trajectories = np.array([2, 4, 6, 7, 7]) * np.exp(0.05 * rng.normal(size=(6, 1)))
        table = stability(records(*trajectories, widths=[8, 8, 8, 16, 16, 16]))["runs"].table()
        truth = np.mean([6, 7, 7]) * np.exp(0.05**2 / 2) / 8
        hits += int(np.sum((table["plateau_low"] <= truth) & (truth <= table["plateau_high"])))
    assert 180 <= hits <= 199  # of 200


def test_sizes_that_never_cross_say_nothing_of_the_noise_of_one_that_does():
    rng, hits, steps = np.random.default_rng(2), 0, np.arange(0, 101, 4)
    for _ in range(60):
        crossing = 60 + 8 * rng.normal(size=3)
        trajectories = [8 * (1 + (steps - at) / 100) for at in crossing] + [2 + steps / 50] * 9
        widths = np.repeat([8, 16, 32, 64], 3)
        table = stability(records(*trajectories, widths=widths, steps=steps))["runs"].table().set_index("width")
        hits += table.loc[8, "above_low"] <= 0.4 <= table.loc[8, "above_high"]
        assert table.loc[64, ["above_low", "above_high"]].tolist() == [0, 0]
    assert hits >= 52


def test_a_size_of_one_seed_has_the_noise_of_the_others():
    alike = np.array([2, 4, 8, 8, 8])
    (found,) = stability(records(alike, 1.1 * alike, alike, widths=[8, 8, 16])).values()
    table = found.table().set_index("width")
    half = (table["plateau_high"] - table["plateau_low"]) / 2
    assert half[16] == pytest.approx(np.sqrt(2) * half[8])


def test_records_without_a_value_are_left_out_and_counted():
    run = one([2, np.nan, 4, np.inf, 8])
    assert run["left_out"] == 2
    assert run["crossing"] == 40


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match=r"'sharpness' .*width 8, learning_rate 0.25, seed 0"):
        one([1, np.nan, np.nan])
    sound = records([1, 2, 3])
    with pytest.raises(ValueError, match="'ntk_1'"):
        stability(sound, quantity="ntk_1")
    with pytest.raises(ValueError, match="column 'size'"):
        stability(sound, over="size")
    with pytest.raises(ValueError, match=r"width 8, learning_rate 0.25, seed 0"):
        stability(Records(sound.runs, pd.concat([sound.curves, sound.curves])))
    with pytest.raises(ValueError, match="column 'optimizer'"):
        stability(Records(sound.runs.drop(columns="optimizer"), sound.curves))


def test_a_learning_rate_that_was_rounded_for_some_seeds_is_one_row():
    drawn = records(*[2.0 ** (np.arange(11) / 2)] * 3)
    rounded = drawn.curves.assign(learning_rate=RATE * (1 + 1e-6 * (drawn.curves["seed"] == 0)))
    with pytest.warns(UserWarning, match="learning_rate"):
        (found,) = stability(Records(drawn.runs, rounded)).values()
    assert found.table()["seeds"].tolist() == [3]
