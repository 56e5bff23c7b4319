"""What to train next, and the refinement of the grid."""

import math

import numpy as np
import pandas as pd
import pytest
from fake_training import FakeTrainer, experiment
from hypothesis import given, settings
from hypothesis import strategies as st

from sharplab.analysis.seed_optima import edges_of
from sharplab.analysis.valley import Losses
from sharplab.sweep.plan import (
    Group,
    Shard,
    divide,
    make_plan,
    missing_groups,
    refined,
    serving_rows,
    tasks,
    wanted_ids,
)
from sharplab.sweep.store.directory import read_rows
from sharplab.sweep.store.identity import run_id

EMPTY = pd.DataFrame({"run_id": [], "train_loss": [], "diverged": [], "observables": [], "record_steps": []}).astype(
    {"diverged": bool}
)


def train(groups, trainer, chosen=lambda run: True):
    """The rows that a store would hold of these groups' chosen runs."""
    results = [
        (group.task, result)
        for group in groups
        for (result,) in trainer(group.task, [run for run in group.runs if chosen(run)])
    ]
    return pd.DataFrame(
        {
            "run_id": [run_id(task, result.run) for task, result in results],
            "train_loss": [result.curves["train_loss"][-1] for _, result in results],
            "diverged": [result.diverged for _, result in results],
            "observables": [task.observables for task, _ in results],
            "record_steps": [task.record_steps for task, _ in results],
        }
    )


def complete(sweep, trainer, choices=None):
    """The learning rates trained in the end, ascending."""
    known = EMPTY
    for _ in range(200):
        groups = missing_groups(sweep, known)
        if not groups:
            assert wanted_ids(sweep, known) == set(known["run_id"])
            return sorted({run.learning_rate for _, run in trainer.trained})
        chosen = (lambda run: True) if choices is None else (lambda run: choices.random() < 0.4)
        new = train(groups, trainer, chosen)
        known = pd.concat([known, new], ignore_index=True) if len(new) else known
    raise AssertionError("the sweep does not end")


def one_size(**changes):
    return experiment(widths=(4,), parameterizations=("mup",), refine=True, **changes)


def test_a_group_is_divided_evenly_and_in_order():
    (group,) = missing_groups(one_size(seeds=7), EMPTY)
    parts = group.parts(4)
    assert [len(part.runs) for part in parts] == [3, 4, 3, 4, 3, 4]
    assert sum((part.runs for part in parts), ()) == group.runs
    assert group.parts(100) == (group,)


@given(st.integers(1, 9), st.booleans())
@settings(max_examples=20)
def test_parts_of_a_sweep_are_disjoint_even_and_together_the_whole(count, refine):
    sweep = experiment(widths=(4, 8, 16), seeds=3, refine=refine)
    shards = [wanted_ids(sweep, EMPTY, Shard(i, count)) for i in range(count)]
    assert sum(map(len, shards)) == len(set().union(*shards)) == len(wanted_ids(sweep, EMPTY))
    task = 3 * 3 if refine else 1
    assert max(map(len, shards)) - min(map(len, shards)) <= task


def test_groups_share_a_shape_and_come_cheapest_first():
    groups = missing_groups(experiment(widths=(16, 4), depths=(3, 2)), EMPTY)
    assert len(groups) == 2 * 2 * 2
    assert [group.cost for group in groups] == sorted(group.cost for group in groups)
    assert all(len(group.runs) == 3 * 2 for group in groups)
    assert (groups[0].task.width, groups[0].task.depth) == (4, 2)


def test_only_missing_runs_are_planned():
    sweep = experiment()
    known = train(missing_groups(sweep, EMPTY), FakeTrainer(), lambda run: run.seed == 0)
    runs = [run for group in missing_groups(sweep, known) for run in group.runs]
    assert len(runs) == 3 * 2 * 2
    assert {run.seed for run in runs} == {1}


def test_a_run_serves_if_it_was_observed_at_least_as_much():
    rich = train(missing_groups(experiment(observables=("train_loss", "eval_loss"), records=5), EMPTY), FakeTrainer())
    half, third = experiment(records=3).record_steps(), experiment(records=4).record_steps()
    assert len(serving_rows(("eval_loss",), half, rich)) == len(rich)
    assert len(serving_rows(("sharpness",), half, rich)) == 0
    assert len(serving_rows(("eval_loss",), third, rich)) == 0
    assert len(serving_rows(("eval_loss",), half, EMPTY)) == 0


def test_a_run_that_several_experiments_want_is_planned_once(tmp_path):
    few, many = experiment(seeds=2), experiment(seeds=3)
    plan = make_plan([few, many, few], read_rows(tmp_path))
    planned = [run for group in plan.groups for run in group.run_ids]
    assert len(planned) == len(set(planned)) == 2 * 2 * 3 * 3
    assert plan.runs == 24 + 36 + 24
    assert plan.stored == 0
    assert make_plan([few, many], read_rows(tmp_path), apart_from=planned).groups == ()


def test_one_worker_takes_the_cheapest_first_and_several_the_most_expensive_divided():
    groups = missing_groups(experiment(widths=(4, 64), seeds=7), EMPTY)
    alone = divide(groups[::-1], workers=1)
    assert [group.cost for group in alone] == sorted(group.cost for group in groups)
    shared = divide(groups, workers=3)
    assert len(shared) >= 3 * 4
    assert [group.cost for group in shared] == sorted((group.cost for group in shared), reverse=True)

    def runs(groups: list[Group]):
        return sorted(run for group in groups for run in group.run_ids)

    assert runs(shared) == runs(alone)


@settings(max_examples=40)
@given(place=st.floats(-6.4, 6.4))
def test_refinement_brackets_the_optimum_within_root_2_wherever_it_is(place):
    trainer = FakeTrainer(optimum=lambda task: 2.0**place)
    rates = complete(one_size(learning_rates=(0.5, 1.0, 2.0)), trainer)
    best = min(range(len(rates)), key=lambda i: abs(math.log2(rates[i]) - place))
    assert 0 < best < len(rates) - 1
    assert rates[best + 1] / rates[best] <= math.sqrt(2) * 1.000001
    assert rates[best] / rates[best - 1] <= math.sqrt(2) * 1.000001
    assert abs(math.log2(rates[best]) - place) <= 0.2501  # half a step of √2
    assert len(rates) <= 3 + 6 + 4


def test_extension_ends_after_six_steps():
    rates = complete(one_size(learning_rates=(1.0, 3.0)), FakeTrainer(optimum=lambda task: 1e9))
    assert rates == pytest.approx([3.0**k for k in range(8)])
    rates = complete(one_size(learning_rates=(1.0, 2.0, 6.0)), FakeTrainer(optimum=lambda task: 1e-9, edge=1e99))
    assert rates[0] == pytest.approx(2.0**-6)
    assert rates[-1] == 6.0


def test_each_side_is_extended_by_its_own_ratio():
    rates = complete(one_size(learning_rates=(1.0, 2.0, 10.0)), FakeTrainer(optimum=lambda task: 60.0))
    assert 50.0 in rates
    assert 250.0 in rates
    assert rates[0] == 1.0


def test_divergence_counts_as_the_worst_loss():
    # Beyond 1.2 times the optimum all diverge: the best rate then has a diverged neighbour above it.
    rates = complete(one_size(learning_rates=(0.5, 1.0, 2.0)), FakeTrainer(edge=1.2))
    assert rates == pytest.approx([0.5, 2**-0.5, 1.0, 2**0.5, 2.0])


@pytest.mark.parametrize("diverging", [1, 2])
def test_the_grid_reaches_beyond_the_optimum_of_most_seeds(diverging):
    """Some seeds diverge from learning rate 4 on; the valleys of the others are lowest at 8."""

    def losses(rate):
        return [
            math.inf if seed < diverging and rate >= 4 else (math.log2(rate) - 3) ** 2 + 0.1 * seed for seed in range(5)
        ]

    rates = [0.5, 1.0, 2.0]
    while added := refined(rates, [losses(rate) for rate in rates], (0.5, 1.0, 2.0)):
        rates = sorted({*rates, *added})
    assert rates == pytest.approx([0.5, 1.0, 2**0.5, 2.0, 8**0.5, 4.0, 8.0, 16.0])
    assert edges_of(Losses(np.log2(rates), np.array([losses(rate) for rate in rates]))) == (False, False)


def test_the_grid_grows_on_both_sides_where_mean_and_median_say_so():
    most = [[1.0, 1.0, 1.0], [0.8, 0.8, math.inf], [0.6, 0.6, math.inf]]
    assert refined([1.0, 2.0, 4.0], most, (1.0, 2.0, 4.0)) == [0.5, 8.0]
    rates = [2.0**i for i in range(-6, 9)]
    spent = [[1.0 - 0.01 * i, 1.0 - 0.01 * i, 1.0 if not i else math.inf] for i in range(len(rates))]
    assert refined(rates, spent, (1.0, 2.0, 4.0)) == []


def test_a_grid_that_diverges_everywhere_is_extended_downwards_and_no_further_than_six_steps():
    rates = complete(one_size(learning_rates=(0.5, 1.0)), FakeTrainer(edge=1e-9))
    assert rates == [2.0**k for k in range(-7, 1)]


def test_each_group_is_refined_around_its_own_optimum():
    trainer = FakeTrainer(optimum=lambda task: 1.0 if task.parameterization == "mup" else float(task.width))
    complete(experiment(learning_rates=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0), refine=True), trainer)
    finest = {
        (task.parameterization, task.width): sorted(
            run.learning_rate for other, run in trainer.trained if other == task and run.seed == 0
        )
        for task in tasks(experiment())
    }
    for (parameterization, width), rates in finest.items():
        optimum = 1.0 if parameterization == "mup" else float(width)
        added = [rate for rate in rates if math.log2(rate) % 1 != 0]
        assert added == pytest.approx([optimum / math.sqrt(2), optimum * math.sqrt(2)])


@settings(max_examples=15)
@given(place=st.floats(-3, 3), choices=st.randoms(use_true_random=False))
def test_a_sweep_cut_anywhere_ends_with_the_same_runs(place, choices):
    sweep = one_size(learning_rates=(0.5, 1.0, 2.0))
    whole, cut = (FakeTrainer(optimum=lambda task: 2.0**place) for _ in range(2))
    assert complete(sweep, whole) == complete(sweep, cut, choices)
    assert set(whole.trained) == set(cut.trained)
    assert len(cut.trained) == len(set(cut.trained))


def test_a_rate_is_the_same_number_on_every_way_to_it():
    def around(*rates):
        return set(complete(one_size(learning_rates=rates), FakeTrainer(optimum=lambda task: 2.0**0.5)))

    coarse, fine, shifted = around(0.25, 4.0), around(0.5, 1.0, 2.0), around(2.0**-0.5, 2.0**0.5, 2.0**1.5)
    near = {rate for rate in fine if 0.9 < rate < 2.1}
    assert len(near) == 3
    assert near <= coarse
    assert near <= shifted
