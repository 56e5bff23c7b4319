"""The learning rate that small networks suggest for a large one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.optimize import minimize_scalar
from small_models import BASE, SPECTRUM, Averaged, Perceptron, averaged_data, averaged_loss, classes, settings_of

from sharplab.analysis.simulation import SimulatedSweep
from sharplab.losses import cross_entropy
from sharplab.optimizers import lion
from sharplab.studies import suggest_learning_rate
from sharplab.studies.suggest_lr.budget import Deadline
from sharplab.studies.suggest_lr.budgeted_sweep import SweptWidths
from sharplab.studies.suggest_lr.suggestion import conclude
from sharplab.sweep.dispatch import SweepError
from sharplab.sweep.executors.processes import Processes
from sharplab.sweep.live import LiveTracker
from sharplab.sweep.runner import run

STEPS = 2
BEST = minimize_scalar(lambda x: averaged_loss(2.0**x, STEPS), bounds=(0, 4), method="bounded").x


@pytest.fixture(scope="module")
def known():
    """A suggestion whose every number is known in closed form."""
    data = averaged_data()
    return suggest_learning_rate(
        Averaged,
        data,
        base=BASE,
        width=512,
        widths=(4, 8, 16),
        loss="squared_error",
        optimizer="sgd",
        batch_size=len(data[0]),
        steps=STEPS,
        seeds=2,
    )


@pytest.mark.long
def test_an_optimum_known_in_closed_form_is_found_within_its_interval(known):
    low, high = known.interval
    assert low <= 2**BEST <= high < 2 * low
    assert known.learning_rate == pytest.approx(2**BEST, rel=0.1)
    assert known.conclusive and not known.capped and not known.left_out


def test_the_runs_are_those_of_the_closed_form(known):
    runs = known.records.runs[~known.records.runs["diverged"]]
    expected = averaged_loss(runs["learning_rate"].to_numpy(), STEPS)
    np.testing.assert_allclose(runs["train_loss"], expected, rtol=1e-3, atol=1e-5)
    assert set(runs["width"]) == {4, 8, 16} and set(runs["seed"]) == {0, 1}


def test_what_the_suggestion_loses_is_within_the_predicted_regret(known):
    lost = averaged_loss(known.learning_rate, STEPS) - averaged_loss(2**BEST, STEPS)
    assert 0 <= lost <= known.regret_interval[1] < 0.02
    assert 0 <= known.regret < known.regret_interval[1]


def test_the_sharpness_is_that_of_the_closed_form_at_every_width(known):
    curves = known.records.curves
    share = SPECTRUM.max() / BASE * known.learning_rate / 2  # λmax / (2/η)
    assert np.abs(curves["share"] - share).max() <= 0.01 * share
    assert (curves["sharpness_error"] <= 0.01 * curves["sharpness"]).all()
    assert known.sharpness.slope == pytest.approx(0.0, abs=0.01)
    assert known.table()["sharpness"].tolist() == pytest.approx([share] * 3, rel=0.01)
    assert known.table()["sharpness_error"].max() <= 0.01 * share


def test_it_says_what_was_done_and_draws_it(known):
    said = str(known)
    for words in (
        f"{known.learning_rate:.3g} [",
        "width 512, sgd",
        "base 8",
        "widths 4, 8, 16, 2 seeds",
        "2 steps of batch 8",
        "00 octaves per doubling",
        "regret in train loss",
        "sharpness",
    ):
        assert words in said
    figure = known.draw()
    assert [ax.get_xlabel() for ax in figure.axes] == ["base learning rate", "width", "step"]
    plt.close(figure)


def test_an_optimizer_without_a_metric_has_no_sharpness_and_the_reason():
    settings = {"base": 8, "width": 64, "widths": (8, 16), "seeds": 2, "batch_size": 16, "steps": 8}
    own = replace(lion(), usual_learning_rate=None)
    with pytest.raises(ValueError, match=r"learning_rates .*usual_learning_rate"):
        suggest_learning_rate(Perceptron, classes(), optimizer=own, **settings)
    rates = ("2^-11:2^-5",)
    found = suggest_learning_rate(Perceptron, classes(), optimizer=own, learning_rates=rates, **settings)
    assert found.sharpness is None and found.records.curves is None
    assert "metric" in found.sharpness_missing and found.sharpness_missing in str(found)
    assert found.table()["sharpness"].isna().all()
    plt.close(found.draw())


def steady(width, rate, steps, threshold):
    """Curves of a sharpness that rises to half the threshold, alike at every width."""
    keys = {"parameterization": "mup", "width": width, "learning_rate": rate, "seed": [0, 0, 1, 1]}
    share = np.array([0.4, 0.5, 0.41, 0.5])
    curves = {"step": [50, 100, 50, 100], "sharpness": threshold * share, "sharpness_error": 0.0, "share": share}
    return pd.DataFrame(keys | curves)


def concluded(runs, curves_of=steady, width=512):
    runs = runs.assign(diverged=~np.isfinite(runs["eval_loss"]))
    settings = settings_of(width=width, optimizer="sgd", metric="eval_loss")
    return conclude(SweptWidths(runs, 100, (), {}), settings, Deadline(), curves_of)


def drawn(**truth):
    return SimulatedSweep(seeds=(3,) * 4, edge_sd=0.0, **truth).records(np.random.default_rng(0)).runs


def test_nothing_is_suggested_beyond_the_end_of_stability_at_the_largest_width():
    # Optima that rise by half an octave per doubling towards an end of stability that stays where it is.
    found = concluded(drawn(shift=0.5, edge=1.0), width=2**12)
    largest = found.records.runs[found.records.runs["width"] == 64]
    stable = largest[~largest["diverged"]]["learning_rate"].max()
    assert found.capped and found.extrapolated > stable
    assert found.learning_rate <= stable and found.edge_distance >= 0
    assert str(found) != str(replace(found, capped=False))


def test_the_distance_to_the_end_of_stability_is_in_octaves():
    found = concluded(drawn(edge=2.3))
    assert not found.capped and 1.5 < found.edge_distance <= 2.4
    assert np.log2(found.learning_rate) == pytest.approx(0.3, abs=0.4)


def test_a_best_at_the_edge_of_the_grid_is_inconclusive_and_says_what_to_do():
    runs = drawn()
    found = concluded(runs[(runs["width"] != 16) | (runs["learning_rate"] < 1)])
    assert not found.conclusive and found.interval == (0.0, np.inf) and np.isnan(found.extrapolated)
    (reason,) = found.reasons
    assert "width 16:" in reason and "learning_rates" in reason
    assert str(found).startswith("inconclusive") and reason in str(found)
    plt.close(found.draw())


def test_where_every_run_diverges_lower_learning_rates_are_asked_for():
    runs = drawn()
    found = concluded(runs.assign(eval_loss=runs["eval_loss"].where(runs["width"] < 64, np.inf)))
    assert np.isnan(found.learning_rate) and not found.conclusive
    (reason,) = found.reasons
    assert "diverged at width 64:" in reason and "learning_rates" in reason
    assert found.sharpness is None and found.sharpness_missing in str(found)
    plt.close(found.draw())


def test_a_width_at_which_the_suggestion_diverges_is_left_out_of_the_sharpness():
    def along(width, rate, steps, threshold):
        curves = steady(width, rate, steps, threshold)
        return curves.assign(sharpness=np.nan, share=np.nan) if width == 8 else curves

    found = concluded(drawn(), along)
    assert found.sharpness.sizes == (16, 32, 64) and found.sharpness.slope == pytest.approx(0.0)
    assert found.table()["sharpness"].tolist() == pytest.approx([np.nan, 0.4525, 0.4525, 0.4525], nan_ok=True)


def test_one_width_shows_no_trend():
    runs = drawn()
    found = concluded(runs[runs["width"] == 64])
    (reason,) = found.reasons
    assert "widths" in reason and "minutes" in reason
    assert found.learning_rate == found.transfer.optimum[0] and found.regret_interval == (0.0, np.inf)
    plt.close(found.draw())


QUICK = {"base": 8, "width": 64, "widths": (8, 16), "seeds": 2, "batch_size": 16, "steps": 8}


def told(found):
    return found.learning_rate, found.interval, found.records.runs.to_csv(), found.records.curves.to_csv()


@pytest.mark.long
def test_with_a_store_a_second_call_trains_nothing_and_says_the_same(tmp_path, monkeypatch):
    settings = QUICK | {"optimizer": "sgd", "loss": cross_entropy, "store": tmp_path / "store"}
    first = suggest_learning_rate(Perceptron, classes(), **settings)
    monkeypatch.setattr("sharplab.training.train.train_batch", None)
    assert told(suggest_learning_rate(Perceptron, classes(), **settings)) == told(first)


@pytest.mark.long
def test_an_interrupted_call_goes_on_from_the_runs_that_are_stored(tmp_path, monkeypatch):
    class Counting(LiveTracker):
        def __init__(self):
            self.trained = []

        def finish(self, run_id, summary):
            self.trained.append(run_id)

    calls = []

    def interrupted(*args, **kwargs):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        return run(*args, **kwargs)

    settings = QUICK | {"optimizer": "sgd", "loss": cross_entropy}
    kept, before, after = tmp_path / "kept", Counting(), Counting()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sharplab.studies.suggest_lr.small_runs.run", interrupted)
        suggest_learning_rate(Perceptron, classes(), store=kept, trackers=[before], **settings)
    resumed = suggest_learning_rate(Perceptron, classes(), store=kept, trackers=[after], **settings)
    whole, anew = Counting(), tmp_path / "anew"
    assert told(resumed) == told(suggest_learning_rate(Perceptron, classes(), store=anew, trackers=[whole], **settings))
    assert before.trained and after.trained and set(before.trained).isdisjoint(after.trained)
    assert {*before.trained, *after.trained} == set(whole.trained)


def test_what_a_function_of_ones_own_raises_is_the_cause_of_the_failure():
    def broken(outputs, targets):
        raise RuntimeError("no such loss")

    with pytest.raises(SweepError) as failed:
        suggest_learning_rate(Perceptron, classes(), loss=broken, **QUICK)
    assert isinstance(failed.value.__cause__, RuntimeError) and "no such loss" in str(failed.value.__cause__)


@pytest.mark.long
def test_workers_train_what_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    settings = QUICK | {"optimizer": "sgd", "learning_rates": ("2^-2:2^0",), "steps": 2, "store": tmp_path / "store"}
    with Processes(1) as executor:
        found = suggest_learning_rate("mlp_of_vectors:build", "gaussian-clusters", executor=executor, **settings)
    assert found.metric == "eval_loss" and set(found.records.runs["width"]) == {8, 16}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"optimizer": "adm"}, "optimizer 'adm'"),
        ({"loss": "hinge"}, "loss 'hinge'"),
        ({"widths": (8,)}, r"^widths .*\[8\]"),
        ({"widths": (8, 64)}, "^widths .*64, not 64"),
        ({"width": 4}, r"^widths .*width 4, not \[\]"),
        ({"learning_rates": (0.1, 0.2)}, r"learning_rates .*\[0.1, 0.2\]"),
        ({"seeds": 1}, "seeds .*2, not 1"),
        ({"minutes": 0}, "minutes .*0"),
        ({"batch_size": 1000}, "batch_size .*1000.* 64 "),
    ],
)
def test_bad_arguments_are_named(changed, says):
    with pytest.raises(ValueError, match=says):
        suggest_learning_rate(Perceptron, classes(), **{"base": 8, "width": 64, **changed})
