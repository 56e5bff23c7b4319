"""AutoLRS on quadratics, whose best learning rates are known, and its search on losses that are a formula."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.tree_util import Partial

from sharplab.studies.autolrs import autolrs, best_row, next_rates, search, train_lanes

CURVATURE = jnp.array([1.0, 0.8])
DATA = jnp.asarray(0.1 * np.random.default_rng(0).standard_normal((64, 2)), jnp.float32)
ORDER = np.random.default_rng(1).integers(64, size=(180, 8))
TRACES = []


def step(curvature, state, learning_rate, batch):
    """Descent of ½ Σ c (w − x)², x noise."""
    TRACES.append(1)
    off = state["w"] - batch.mean(0)
    loss = 0.5 * jnp.sum(curvature * off**2)
    return {"w": state["w"] - learning_rate * curvature * off, "steps": state["steps"] + 1}, loss


STATE = {"w": jnp.array([1.0, 3.0]), "steps": jnp.int32(0)}


@pytest.fixture(scope="module")
def found():
    TRACES.clear()
    seen = {}
    run = autolrs(
        Partial(step, CURVATURE), STATE, DATA, ORDER, low=2.0**-6, high=2.0**4, trial_steps=6, observe=seen.__setitem__
    )
    return run, seen, len(TRACES)


def test_the_run_is_that_of_the_learning_rates_it_states(found):
    run, seen, _ = found
    state, losses = STATE, []
    for rate, rows in zip(run.learning_rates, ORDER, strict=True):
        state, loss = step(CURVATURE, state, jnp.float32(rate), DATA[rows])
        losses.append(float(loss))
    assert np.allclose(run.losses, losses, rtol=1e-4, atol=1e-7)
    assert np.allclose(run.state["w"], state["w"], rtol=1e-4, atol=1e-6)
    assert run.state["steps"] == 180  # the trials are undone
    assert sorted(seen) == list(range(0, 181, 6))
    assert all(at == state["steps"] for at, state in seen.items())


def test_stages_double_and_their_search_takes_as_many_steps(found):
    run, _, traces = found
    assert run.stages["first"].tolist() == [0, 60]
    assert run.stages["steps"].tolist() == run.stages["search_steps"].tolist() == [60, 120]
    assert run.trials.groupby("stage").size().tolist() == [10, 10]
    assert traces <= 2  # programs of five lanes and of one, however long the trials


def test_it_chooses_what_ends_near_the_best_of_whole_stages(found):
    run, _, _ = found
    first = run.stages.iloc[0]
    assert first["learning_rate"] < 2  # above which it diverges
    whole = train_lanes(Partial(step, CURVATURE), STATE, np.geomspace(2.0**-6, 2.0**4, 21), DATA, ORDER[:60], 6)
    late = whole[-6:].mean(axis=0)
    assert first["loss"] <= 1.5 * np.nanmin(late) < late[0] / 100


def test_lanes_are_lone_runs(found):
    rates = np.array([0.1, 1.0])
    together = train_lanes(Partial(step, CURVATURE), STATE, rates, DATA, ORDER[:12], 6)
    for rate, lane in zip(rates, together.T, strict=True):
        alone = train_lanes(Partial(step, CURVATURE), STATE, np.array([rate]), DATA, ORDER[:12], 6)[:, 0]
        assert np.allclose(lane, alone, rtol=1e-6)


def rows(rates, best, noise=0.02):
    """Forecasts of a valley in log₂ of the learning rate, with a cliff two octaves above its bottom."""
    x = np.log2(rates / best)
    values = np.where(x > 2, np.inf, 1 + 0.05 * x**2)
    half = np.full(len(rates), noise)
    return pd.DataFrame(
        {"learning_rate": rates, "forecast": values, "forecast_low": values - half, "forecast_high": values + half}
    )


@pytest.mark.parametrize("best", [2.0**-7.3, 2.0**-3, 2.0**-0.6])
def test_the_search_finds_the_bottom_of_a_valley(best):
    tried = search(lambda rates: rows(rates, best), 2.0**-10, 1.0)
    assert len(tried) == 10
    assert abs(np.log2(tried["learning_rate"][best_row(tried)] / best)) < 0.6


def test_learning_rates_to_be_tried_next_lie_apart_and_near_the_best_or_the_unknown():
    more = next_rates(rows(np.geomspace(2.0**-10, 1.0, 5), 2.0**-5), 2.0**-10, 1.0)
    assert ((more >= 2.0**-10) & (more <= 1)).all()
    assert len(np.unique(more)) >= 3
    assert np.abs(np.log2(more) + 5).min() < 2


def test_a_forecast_without_certainty_is_not_believed():
    tried = rows(np.geomspace(2.0**-10, 1.0, 10), 2.0**-5)
    tried.loc[7, ["forecast", "forecast_low", "forecast_high"]] = -46.0, -1000.0, 250.0
    assert abs(np.log2(tried["learning_rate"][best_row(tried)]) + 5) < 1


def test_what_grows_is_bad_though_it_may_be_forecast_to_end_anywhere():
    rates = [0.001, 0.008, 0.063, 0.3, 0.503, 0.845, 1.25, 1.84, 3.51, 4.0]  # of a quadratic, stable below 2
    middle = [51.4, 45.0, 11.1, 2.4, -0.8, -3.6, -2.3, -18.8, 4.8e7, 5.1e8]
    low = [-7.0, -45.0, -188.0, 0.3, -9.6, -208.0, -89.0, -30.0, -6.0e6, -1.1e8]
    high = [55.0, 51.0, 23.0, 4.2, 4.1, 7.9, 5.9, -11.5, 2.2e8, 2.6e9]
    columns = {"learning_rate": rates, "forecast": middle, "forecast_low": low, "forecast_high": high}
    tried = pd.DataFrame(columns)
    assert tried["learning_rate"][best_row(tried)] < 2
    assert (next_rates(tried, 0.001, 4.0) < 3.4).all()


def test_where_all_trials_diverge_it_says_so():
    with pytest.raises(ValueError, match="low and high"):
        next_rates(rows(np.geomspace(1.0, 4.0, 5), 2.0**-5), 1.0, 4.0)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"low": 4.0}, "low"),
        ({"trial_steps": 5}, "trial_steps"),
        ({"trial_steps": 7}, "order"),
        ({"order": ORDER + len(DATA)}, "order"),  # examples that there are not
        ({"high": -1.0}, "high"),
    ],
)
def test_wrong_arguments_are_refused(wrong, name):
    arguments = {"order": ORDER, "low": 0.1, "high": 1.0, "trial_steps": 6} | wrong
    with pytest.raises(ValueError, match=name):
        autolrs(Partial(step, CURVATURE), STATE, DATA, **arguments)
