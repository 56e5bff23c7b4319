"""Final losses told from first parts: curves whose answer is known, coverage, and public runs."""

import numpy as np
import pytest
from test_annealing import public_runs

from sharplab.studies.annealing import AnnealingLaw
from sharplab.studies.early_stop import METHODS, final_loss, left_out

STEPS = np.arange(0, 201)
CONSTANT, LINEAR = np.full(200, 0.1), 0.1 * (1 - np.arange(200) / 200)
RNG = np.random.default_rng(0)


def falling(share, end=0.3):
    """A curve that is `end` when it is over."""
    return end + (1 - share) ** 2


def runs_of(curves, rates=CONSTANT):
    return [(rates, STEPS, np.exp(curve)) for curve in np.atleast_2d(curves)]


def stopped(run, at):
    return run[0], run[1][: at + 1], run[2][: at + 1]


def test_curves_that_are_multiples_of_one_collapse_exactly():
    sizes = np.array([0.0, 0.3, -0.4, 1.0])[:, None]
    runs = runs_of(np.log(falling(STEPS / 200)) + sizes)
    found = left_out(runs, stops=(0.3, 0.6), methods=("collapse", "mean", "proximity")).set_index("method")
    assert np.allclose(found.loc["collapse", "error"], 0, atol=1e-9)
    assert found.loc["collapse", "covered"].all() and (found.loc["collapse", "near"] == 3).all()
    off = (sizes.sum() - sizes[:, 0]) / 3 - sizes[:, 0]
    assert np.allclose(found.loc["mean", "error"].to_numpy().reshape(2, 4), off)
    assert found.loc["proximity", "error"].isna().all() and not found.loc["proximity", "near"].any()


def test_the_final_loss_is_the_mean_of_the_last_fiftieth():
    (run,) = runs_of(-2 * STEPS / 200)
    found = left_out([run, run], stops=(0.5,), methods=("mean",))
    assert np.allclose(np.log(found["final"]), -2 * 0.99)


def test_near_runs_of_the_same_schedule_are_asked_and_no_others():
    share = STEPS / 200
    curves = [np.log(falling(share, end)) for end in (0.3, 0.301, 0.299, 0.6)]
    runs = [*runs_of(curves), *runs_of(curves[:1], LINEAR)]
    one = final_loss(stopped(runs[0], 80), runs[1:])
    assert one.near == (0, 1) and one.loss.low < 0.3 < one.loss.high < 0.32
    assert one.loss.value == pytest.approx(0.3 + 0.02**2 / 3, rel=1e-4)
    assert final_loss(stopped(runs[4], 80), runs[:4]).near == ()
    wide = final_loss(stopped(runs[0], 80), runs[1:], tolerance=2.0)
    assert wide.near == (0, 1, 2) and wide.loss.high > 0.4


def test_what_comes_after_the_stop_is_not_known():
    curves = np.log(falling(STEPS / 200)) + 0.01 * np.cumsum(RNG.normal(size=(3, 201)), axis=1) / 4
    runs, later = runs_of(curves), runs_of(curves)
    later[2] = (CONSTANT, STEPS, np.where(STEPS > 100, 9.0, runs[2][2]))
    for method in METHODS:
        before, after = (
            left_out(each, stops=(0.5,), methods=(method,)).query("run == 2")["predicted"].item()
            for each in (runs, later)
        )
        alone = final_loss(stopped(runs[2], 100), runs[:2] + runs[3:], method=method).loss.value
        assert np.isnan(before) == np.isnan(after) == np.isnan(alone)
        assert np.isnan(before) or before == pytest.approx(after) == pytest.approx(alone)


def test_a_curve_of_the_law_is_told_by_the_law():
    law = AnnealingLaw("momentum", {"L0": 1.0, "A": 0.5, "alpha": 0.5, "C": 2.0, "lambda": 0.9})
    steps = np.arange(4, 401, 4)
    rates = 0.05 * (1 + np.cos(np.pi * np.arange(400) / 400))
    runs = [(rates * peak, steps, law.predict(rates * peak, steps)) for peak in (1.0, 2.0)]
    found = left_out(runs, stops=(0.6,), methods=("law",))
    assert (found["error"].abs() < 1e-3).all() and (found["near"] == 0).all()
    assert np.isinf(found["predicted_high"]).all()  # one other run has one error, which tells no interval


def test_runs_are_compared_where_all_have_records():
    curve = np.log(falling(STEPS / 200))
    early, late = (
        (CONSTANT, STEPS[50:], np.exp(curve[50:])),
        (CONSTANT, STEPS, np.exp(np.where(STEPS < 45, 5.0, curve))),
    )
    assert final_loss(stopped(late, 120), [early, early], tolerance=5e-3).near == (0, 1)
    with pytest.raises(ValueError, match="common"):
        final_loss(stopped(late, 40), [early])


def test_seeds_of_a_setting_do_not_tell_each_other():
    curves = np.log(falling(STEPS / 200)) + np.repeat([0.0, 0.02, 0.04], 2)[:, None]
    runs, groups = runs_of(curves), ["a", "a", "b", "b", "c", "c"]
    near = left_out(runs, stops=(0.5,), methods=("proximity",), groups=groups, tolerance=0.03)["near"]
    assert near.tolist() == [2, 2, 4, 4, 2, 2]
    assert left_out(runs, stops=(0.5,), methods=("proximity",), tolerance=0.03)["near"].tolist() == [3, 3, 5, 5, 3, 3]


@pytest.mark.parametrize("settings", [2, 4])
def test_seeds_of_a_setting_err_alike_and_count_as_one(settings):
    random, hits, repeats = np.random.default_rng(0), 0, 80
    groups = np.repeat(np.arange(settings), 5)
    for _ in range(repeats):
        ends = np.append((0.3 * random.standard_normal(settings))[groups], 0.3 * random.standard_normal())
        losses = np.exp(ends + 0.01 * random.standard_normal(len(ends)))
        runs = [(CONSTANT, STEPS, np.full(len(STEPS), loss)) for loss in losses]
        found = final_loss(stopped(runs[-1], 80), runs[:-1], method="mean", groups=groups.tolist()).loss
        hits += found.low <= losses[-1] <= found.high
    assert hits >= 0.82 * repeats  # of 90 %; counted as runs, they are covered in 75 to 82 %


def test_intervals_cover_at_about_their_rate():
    covered = []
    for _ in range(6):
        start, end = RNG.normal(size=(2, 30, 1)) * [[[0.02]], [[0.03]]]
        curves = np.log(falling(STEPS / 200)) + start + end * (STEPS / 200) ** 4
        found = left_out(runs_of(curves), stops=(0.4,), methods=("proximity", "collapse"), confidence=0.9)
        covered.append(found.groupby("method")["covered"].apply(lambda each: each.dropna().mean()))
    assert np.allclose(np.mean(covered, axis=0), 0.9, atol=0.06)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("method", lambda runs: final_loss(stopped(runs[0], 80), runs, method="guess")),
        ("complete", lambda runs: final_loss(stopped(runs[0], 80), [stopped(runs[1], 150)])),
        ("part", lambda runs: final_loss(runs[0], runs)),
        ("part", lambda runs: final_loss((CONSTANT, STEPS[:80], -np.ones(80)), runs)),
        ("groups", lambda runs: left_out(runs, groups=["a"])),
        ("stops", lambda runs: left_out(runs, stops=(1.0,))),
        ("steps", lambda runs: left_out([(CONSTANT[:100], *runs[0][1:]), *runs])),
        ("learning rates", lambda runs: left_out([(0 * CONSTANT, *runs[0][1:]), *runs])),
    ],
    ids=["method", "not complete", "not stopped", "losses", "groups", "stops", "steps", "rates"],
)
def test_what_tells_nothing_is_refused(name, call):
    with pytest.raises(ValueError, match=name):
        call(runs_of(np.zeros((2, 201))))


def test_public_runs_are_told_by_near_ones_and_by_collapse():
    names = ["constant_24000", "cosine_24000", "cosine_72000", "wsd_20000_24000", "wsdld_20000_24000"]
    runs = [run for size in ("25M", "100M", "400M") for run in public_runs(size, names)]
    found = left_out(runs, stops=(0.5,), methods=("proximity", "collapse", "mean"), tolerance=0.02)
    worst = found.assign(error=found["error"].abs()).groupby("method")["error"]
    assert worst.count()["proximity"] == 6 and worst.max()["proximity"] < 0.003  # the two kinds of decay
    assert worst.max()["collapse"] < 0.06 and worst.median()["collapse"] < 0.5 * worst.median()["mean"]
