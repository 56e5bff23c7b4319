"""The benchmark of sweeps compares the same runs, counts arithmetic as it is, and judges its targets by its numbers."""

import json

import jax
import numpy as np
import pytest
import sweep_speed
from flax import nnx
from harness import main
from sweep_speed import require_agreement, speed_row
from sweeps.arithmetic import matrix_sizes, step_flops
from sweeps.contestants import CONTESTANTS, lab, plain_loop
from sweeps.immediate import Immediate, find_all, load_all, many_runs
from sweeps.report import picture, tables, targets
from sweeps.runs import Runs

import sharplab as sl
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import run_with
from sharplab.training.task import find_recipe

RUNS = Runs(width=4, seeds=2, learning_rates=(0.0625, 0.25), steps=6)


@pytest.mark.long
def test_plain_loop_trains_the_runs_that_the_lab_trains():
    with lab(RUNS) as by_lab, plain_loop(RUNS) as by_hand:
        expected, found = by_lab(RUNS.seeds_of(1)), by_hand(RUNS.seeds_of(1))
    assert sorted(found) == sorted(expected) == [(0.0625, 2), (0.0625, 3), (0.25, 2), (0.25, 3)]
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-4)
    assert len({round(loss, 4) for loss in found.values()}) == 4


def test_halves_share_no_run():
    assert RUNS.seeds_of(0) == (0, 1)
    assert RUNS.seeds_of(1) == (2, 3)
    assert RUNS.count == 4


def test_matrices_are_all_of_the_parameters():
    parameters = nnx.eval_shape(find_recipe(RUNS.task).init_params, 0)
    assert sum(matrix_sizes(RUNS.task).values()) == sum(leaf.size for leaf in jax.tree.leaves(parameters))


def test_arithmetic_by_hand_is_what_xla_counts():
    task = Runs(width=64, seeds=1).task
    recipe = find_recipe(task)
    params = nnx.eval_shape(recipe.init_params, 0)
    inputs, targets = np.prod(recipe.network.source.input_shape), jax.ShapeDtypeStruct((128,), np.int32)
    batch = (jax.ShapeDtypeStruct((128, inputs), np.float32), targets)
    counted = jax.jit(jax.grad(recipe.objective)).lower(params, batch).cost_analysis()["flops"]
    assert step_flops(task) == pytest.approx(counted, rel=0.05)


def test_immediate_training_fills_a_store_and_is_not_asked_again(tmp_path):
    experiment, trainer = many_runs(4, 10), Immediate()
    run_with(trainer, experiment, tmp_path)
    assert len(trainer.begun) == 4
    assert len(sl.load(tmp_path).runs) == 40
    assert find_all(groups=4, runs=10, store=str(tmp_path))["again_seconds"] > 0
    found = load_all(groups=4, runs=10, store=str(tmp_path))
    assert found["curve_rows"] == 40 * 12
    assert found["load_peak_bytes"] >= found["before_load_bytes"] > 0


@pytest.mark.parametrize("groups", [2, 4, 40, 400])
def test_sweeps_of_many_runs_have_the_groups_that_they_say(groups):
    experiment = many_runs(groups, 25)
    assert len(list(tasks(experiment))) == groups
    assert len(experiment.rates_of("mup")) * len(experiment.seeds_of(8)) == 25
    assert len(experiment.record_steps()) == 12


def test_runs_that_differ_are_not_compared():
    same = {name: [1.0, 2.0] for name in CONTESTANTS}
    require_agreement(same)
    for losses in ([1.0, 2.1], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="pool"):
            require_agreement(same | {"pool": losses})


def answers(cold, warm):
    return [{"cold_seconds": cold, "warm_seconds": warm, "import_seconds": 1.0}] * 3


def found(width=64, share=0.5):
    seconds = {"here": answers(8.0, 2.0), "processes": answers(9.0, 4.0)}
    seconds |= {"plain": answers(12.0, 8.0), "pool": answers(16.0, 4.0)}
    spread = {"median": share, "min": share, "max": share}
    growth = {f"{name}_seconds": spread for name in ("start_up", "planning", "run", "again", "load", "transfer")}
    growth |= {
        f"{name}_bytes": spread for name in ("run_peak", "again_peak", "load_peak", "transfer_peak", "before_load")
    }
    rates = ("steps_per_second", "matmul_flops_per_second", "share_made", "plain_share_made")
    both = {"here": spread, "processes": spread}
    return {
        "training": [speed_row(Runs(width, seeds=1), name, seconds) for name in CONTESTANTS],
        "arithmetic": [{"width": 512, "matrix_entries": 9} | dict.fromkeys(rates, spread)],
        "overhead": {"groups": 2, "runs": 5, "start_of_workers_seconds": 1.0, "seconds_per_group": both},
        "growth": [{"runs": 10_000, "groups": 400} | growth],
    }


def test_speed_is_of_the_same_repetition():
    row = found()["training"][0]
    assert row["warm_over_plain"]["median"] == 4.0
    assert row["cold_over_pool"]["median"] == 2.0
    assert row["warm_runs_per_hour"]["median"] == 4 * 3600 / 2.0


def test_targets_are_judged_where_their_sizes_were_measured():
    assert {name: target["met"] for name, target in targets(found()).items()} == {
        "matmul share, width 512": False,
        "times the plain loop, width 64, here, cold": False,
        "times the plain loop, width 64, here, warm": True,
        "times the plain loop, width 64, processes, cold": False,
        "times the plain loop, width 64, processes, warm": False,
        "seconds to load 10,000 runs": True,
    }
    assert len(targets(found(width=16))) == 2


def test_every_part_has_its_table_and_is_drawn():
    assert len(list(tables(found()))) == 6
    assert [bool(ax.lines) for ax in picture(found()).axes] == [True] * 3
    assert not list(tables({}))


@pytest.mark.slow
def test_smoke_preset_measures_every_part(tmp_path):
    output = tmp_path / "bench" / "sweep_speed.json"
    main(sweep_speed.BENCHMARK, ["--preset", "smoke", "--output", str(output)])
    report = json.loads(output.read_text())
    assert set(report["parts"]) == {"training", "arithmetic", "overhead", "growth"}
    assert [row["contestant"] for row in report["parts"]["training"]["found"]] == list(CONTESTANTS)
    assert [row["runs"] for row in report["parts"]["growth"]["found"]] == [50, 100]
    assert report["targets"] == {}
    assert output.with_suffix(".png").stat().st_size > 10_000
