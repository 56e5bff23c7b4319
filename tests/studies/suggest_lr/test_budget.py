"""What is planned within so many minutes, and that the plan is kept, by a clock that only training moves."""

import numpy as np
import pytest
from small_models import settings_of

from sharplab.studies.suggest_lr.budget import Cost, Deadline, plan_within
from sharplab.studies.suggest_lr.budgeted_sweep import TIMED_STEPS, sweep_widths

SEEDS, STEPS = 3, 100


class FakeRuns:
    """A loss least at `optimum`; a step takes width/10,000 seconds, `slowness` times that after the first 17."""

    def __init__(self, clock, optimum=-8.0):
        self.clock, self.optimum, self.ready = clock, optimum, set()

    def final_losses(self, width, learning_rates, steps):
        if width not in self.ready:
            self.ready.add(width)
            self.clock.seconds += 2.0
        slowness = self.clock.slowness if steps > TIMED_STEPS + 1 else 1.0
        self.clock.seconds += len(learning_rates) * (slowness * steps * width / 1e4 + 0.01)
        away = {rate: np.log2(rate) - self.optimum for rate in learning_rates}
        return {
            rate: 1 + (x**2 + 0.01 * np.arange(SEEDS) if x < 3 else np.full(SEEDS, np.inf)) for rate, x in away.items()
        }

    def seconds(self, width, learning_rate, steps, clock):
        began = clock()
        self.final_losses(width, (learning_rate,), steps)
        return clock() - began


class Clock:
    """Seconds that training alone moves on; `slowness` is how much longer it takes than was measured."""

    def __init__(self, slowness=1.0):
        self.seconds, self.slowness = 0.0, slowness

    def __call__(self):
        return self.seconds


def sweep(clock, minutes=None, learning_rates=(), optimum=-8.0):
    settings = settings_of(learning_rates=learning_rates, steps=STEPS)
    return sweep_widths(FakeRuns(clock, optimum), settings, Deadline.after(minutes, clock))


def test_what_fits_is_left_whole():
    costs = {16: Cost(1.0, 0.001, 0.1), 64: Cost(1.0, 0.004, 0.1)}
    plan = plan_within(1e3, costs, 100)
    assert (plan.widths, plan.steps, plan.left_out) == ((16, 64), 100, ())


def test_the_widest_go_first_then_steps_and_what_went_is_said():
    costs = {width: Cost(0.0, width / 1000, 0.0) for width in (16, 32, 64, 128)}
    whole = sum(cost.remaining(100) for cost in costs.values())
    plan = plan_within(0.5 * whole, costs, 100)
    assert (plan.widths, plan.steps) == ((16, 32, 64), 100)
    (left_out,) = plan.left_out
    assert "width 128" in left_out
    shorter = plan_within(0.25 * whole, costs, 100)
    assert shorter.widths == (16, 32, 64) and 50 <= shorter.steps < 60
    assert sum(costs[width].remaining(shorter.steps) for width in shorter.widths) <= 0.25 * whole
    assert f"from 100 to {shorter.steps}" in shorter.left_out[1]


def test_too_few_minutes_are_refused_with_how_many_it_would_take():
    with pytest.raises(ValueError, match=r"minutes.* 25 steps.* 8\.6 minutes"):
        plan_within(60.0, dict.fromkeys((1, 2, 3), Cost(0.0, 0.48, 0.0)), 100)


@pytest.mark.parametrize("minutes", [0.5, 0.7, 1.0, 2.0, 10.0])
def test_no_more_time_is_taken_than_was_given(minutes):
    clock = Clock()
    swept = sweep(clock, minutes)
    assert clock() <= 60 * minutes
    assert swept.runs["width"].nunique() >= 3 and bool(swept.left_out) == (minutes < 1.5)


def test_where_training_turns_out_slower_than_it_was_measured_what_is_not_begun_stays_undone():
    clock = Clock(slowness=8.0)
    swept = sweep(clock, 1.2)
    assert swept.runs["width"].nunique() < 4 and any("width 128" in words for words in swept.left_out)
    assert clock() < 1.5 * 60 * 1.2


def test_without_minutes_nothing_is_timed_and_nothing_left_out():
    swept = sweep(Clock())
    assert not swept.costs and not swept.left_out and swept.steps == STEPS


def test_the_grid_is_refined_about_the_best_and_pairs_all_seeds():
    runs = sweep(Clock()).runs
    for _, part in runs.groupby("width"):
        rates = np.log2(part["learning_rate"].unique())
        assert {-8.5, -8.0, -7.5} <= set(rates.round(9))
        assert len(part) == SEEDS * len(rates)
    first, second = (set(runs[runs["width"] == width]["learning_rate"]) for width in (16, 32))
    assert second < first  # the wider width begins nearer


@pytest.mark.parametrize("optimum", [-12.0, -4.0])
def test_the_grid_follows_an_optimum_outside_of_it(optimum):
    runs = sweep(Clock(), optimum=optimum).runs
    for _, part in runs.groupby("width"):
        means = part.groupby("learning_rate")["train_loss"].mean()
        assert np.log2(means.idxmin()) == optimum and means.index[0] < 2**optimum < means.index[-1]


def test_a_grid_of_ones_own_is_used_at_every_width():
    runs = sweep(Clock(), learning_rates=(2**-9.3, 2**-8.3, 2**-7.3)).runs
    for _, part in runs.groupby("width"):
        assert {-9.3, -8.3, -7.3} <= set(np.log2(part["learning_rate"]).round(9))


def test_a_diverged_run_is_marked():
    runs = sweep(Clock(), learning_rates=(2.0**-9, 2.0**-8, 2.0**-5)).runs
    assert (runs["diverged"] == (runs["train_loss"] == np.inf)).all() and runs["diverged"].any()
