"""Decisions from sweeps whose losses are a formula, with optima that scatter from seed to seed."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from fake_training import FakeTrainer, experiment

import sharplab as sl
from sharplab.core.evidence import Evidence, gathering
from sharplab.studies import decision
from sharplab.studies.decision import decide, design_of
from sharplab.studies.rounds import follow
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import run_with
from sharplab.sweep.store.directory import read_rows
from sharplab.training.flops import training_flops


@dataclass
class Scattered(FakeTrainer):
    """The optimum moves by so many octaves per doubling of the size, and from seed to seed by normal draws."""

    moves: float = 0.0
    scatter: float = 0.2
    over: str = "width"

    def result(self, task, run):
        size = getattr(task, self.over)
        drawn = np.random.default_rng([run.seed, size, len(task.parameterization)]).standard_normal()
        best = 2.0 ** (self.moves * np.log2(size / 8) + self.scatter * drawn)
        return FakeTrainer(lambda _: best).result(task, run)


GRID = {"widths": (4, 8, 16), "learning_rates": "2^-4:2^4:log17", "parameterizations": ("mup",), "seeds": 2}


@pytest.fixture
def trained(monkeypatch):
    """A function that puts a trainer in the place of training, and gives it back."""

    def train(trainer):
        monkeypatch.setattr(decision, "run", partial(run_with, trainer))
        return trainer

    return train


def counts(found, name="mup"):
    """The seeds of each size, look after look."""
    rows = found.looks[found.looks["parameterization"] == name]
    return rows[[column for column in rows if column.startswith("seeds_")]].to_numpy()


def same(a, b):
    """Whether two decisions are one, to the bit."""
    pd.testing.assert_frame_equal(a.looks, b.looks, check_exact=True)
    pd.testing.assert_frame_equal(
        a.records.runs.drop(columns="written"), b.records.runs.drop(columns="written"), check_exact=True
    )
    pd.testing.assert_frame_equal(a.records.curves, b.records.curves, check_exact=True)
    assert (a.transfers, a.flops, a.wanted, a.ended) == (b.transfers, b.flops, b.wanted, b.ended)


@pytest.mark.parametrize(("moves", "verdict"), [(0.0, "transfers"), (1.0, "shifts"), (-1.0, "shifts")])
def test_it_ends_as_soon_as_the_verdict_is_sure(moves, verdict, trained, tmp_path):
    trained(Scattered(moves=moves, scatter=0.1))
    found = decide(experiment(**GRID), tmp_path / "store")
    assert found.transfers["mup"].verdict == verdict
    assert found.ended == {"mup": "decided"} and not found.wanted
    assert set(found.looks["verdict"][:-1]) <= {"inconclusive"} and found.looks["verdict"].iloc[-1] == verdict
    assert str(found).splitlines()[-2].strip() == f"it {verdict}"


def test_looks_have_their_share_of_the_error_and_the_transfer_says_so(trained, tmp_path):
    trained(Scattered(scatter=0.6))
    found = decide(experiment(**GRID), tmp_path / "store", seeds=6, confidence=0.9)
    totals = counts(found).sum(axis=1)
    assert len(totals) > 1 and totals[0] == 6
    most = 6 + 2 + 6  # the middle one has no weight in the slope
    np.testing.assert_allclose(1 - found.looks["confidence"], 0.1 * np.diff(totals, prepend=0) / most)
    assert found.transfers["mup"].confidence == found.looks["confidence"].iloc[-1]


def test_seeds_go_where_they_lessen_the_variance_most_per_cost(trained, tmp_path):
    trained(Scattered(scatter=0.6))
    found = decide(experiment(**GRID), tmp_path / "store", seeds=12)
    first, second = counts(found)[:2]
    assert first.tolist() == [2, 2, 2]
    assert second[1] == 2  # the middle one has no weight in the slope
    assert second[0] > second[2]  # the smallest is cheap


def test_only_the_runs_of_the_looks_are_used_and_counted(trained, tmp_path):
    trained(Scattered(scatter=0.6))
    found = decide(experiment(**GRID), tmp_path / "store", seeds=6)
    costs = {task.width: training_flops(task) for task in tasks(experiment(**GRID))}
    assert found.flops == sum(costs[width] for width in found.records.runs["width"])
    seeds = found.records.runs.groupby("width")["seed"].nunique()
    assert seeds.tolist() == counts(found)[-1].tolist()


@pytest.mark.long
def test_a_decision_follows_from_the_store_however_it_came_there(trained, tmp_path):
    settings = experiment(**GRID | {"parameterizations": ("mup", "ntk"), "refine": True, "learning_rates": "2^-2:2^2"})
    options = {"metric": "late_train_loss", "seeds": 8}
    trained(Scattered(scatter=0.5))
    whole = decide(settings, tmp_path / "whole", **options)
    assert len(whole.looks) > 3

    killed = 0
    for most in range(20, 1000, 90):  # a call that is killed, made again, and killed again
        trained(Scattered(scatter=0.5, stop_after=most, stop_with=KeyboardInterrupt))
        try:
            pieced = decide(settings, tmp_path / "pieces", **options)
            break
        except KeyboardInterrupt:
            killed += 1
    assert killed > 1
    same(pieced, whole)

    trainer = trained(Scattered(scatter=0.5))
    run_with(trainer, replace(settings, seeds=9), tmp_path / "more")
    before = len(trainer.trained)
    same(decide(settings, tmp_path / "more", **options), whole)
    assert len(trainer.trained) - before < len(whole.records.runs) / 4  # refined by other seeds at most
    same(decide(settings, tmp_path / "whole", **options), whole)


def test_what_the_next_round_would_train_is_known_before(trained, tmp_path):
    trainer = trained(Scattered(scatter=0.6))
    settings, options = experiment(**GRID), {"seeds": 8, "flops": 1.0}
    found = decide(settings, tmp_path / "store", **options)
    assert found.ended == {"mup": "flops"} and len(found.looks) == 1
    design = design_of(settings, "width", "train_loss", 0.25, 8, np.inf, 0.95)
    missing = follow(design, read_rows(tmp_path / "store")).missing
    seeds = [len(each.seeds_of(each.widths[0])) for each in missing]
    before = len(trainer.trained)
    again = decide(settings, tmp_path / "store", seeds=8)
    assert counts(again)[1].tolist() == seeds
    assert len(trainer.trained) > before


def test_no_round_is_begun_that_costs_more_than_is_left(trained, tmp_path):
    trained(Scattered(scatter=0.6))
    free = decide(experiment(**GRID), tmp_path / "store", seeds=12)
    spent = free.looks["flops"].tolist()
    assert len(spent) > 3
    for i in (1, len(spent) - 1):
        bounded = decide(experiment(**GRID), tmp_path / "store", seeds=12, flops=spent[i])
        assert bounded.looks["flops"].tolist() == spent[: i + 1]
        assert decide(experiment(**GRID), tmp_path / "store", seeds=12, flops=spent[i] - 1).flops == spent[i - 1]


def test_at_the_tolerance_it_gives_up_early_and_says_so(trained, tmp_path):
    trained(Scattered(moves=0.4, scatter=0.3))  # by chance the seeds of these have theirs at 0.26
    found = decide(experiment(**GRID), tmp_path / "store")
    assert found.ended == {"mup": "hopeless"}
    assert counts(found)[-1].sum() < 16 + 2 + 16
    assert "at the tolerance" in str(found)


def test_a_grid_that_ends_at_the_best_rate_is_to_be_extended(trained, tmp_path):
    trained(Scattered(moves=3.0, scatter=0.1))
    found = decide(experiment(**GRID | {"learning_rates": "2^-1:2^1"}), tmp_path / "store")
    assert found.ended == {"mup": "grid"} and len(found.looks) == 1
    assert found.wanted["mup"].seeds is None and "extend" in str(found)


def test_what_would_decide_is_said_with_the_time_it_takes(trained, tmp_path):
    trained(Scattered(scatter=0.2))
    found = decide(experiment(**GRID), tmp_path / "store", seeds=3)
    assert found.ended == {"mup": "seeds"}
    assert counts(found)[-1].tolist() == [3, 2, 3]
    assert found.wanted["mup"].seeds[0] > 3 and found.wanted["mup"].seeds[1] == 2
    assert found.seconds["mup"] > 0
    assert "seeds at width 4, 8, 16 would decide" in str(found) and " here" in str(found)


def test_depths_are_decided_alike(trained, tmp_path):
    trained(Scattered(moves=1.0, over="depth"))
    settings = experiment(**GRID | {"widths": 4, "depths": (2, 4, 8), "model": "residual_mlp"})
    found = decide(settings, tmp_path / "store", over="depth")
    assert found.transfers["mup"].verdict == "shifts"
    assert found.transfers["mup"].sizes == (2, 4, 8)


def test_own_seeds_may_be_any_and_the_next_are_the_lowest_others():
    seeds = {4: (1, 7), 8: (0, 1, 2), 16: (5, 6)}
    design = design_of(experiment(**GRID | {"seeds": seeds}), "width", "train_loss", 0.25, 4, np.inf, 0.95)
    assert design.first == (2, 3, 2) and design.rules.most == (4, 3, 4)
    added = [each.seeds_of(each.widths[0]) for each in design.experiments("mup", (4, 3, 3))]
    assert added == [(1, 7, 0, 2), (0, 1, 2), (5, 6, 0)]


@pytest.mark.parametrize(
    ("changes", "options", "match"),
    [
        ({}, {"over": "gamma"}, "over"),
        ({}, {"over": "depth"}, "over"),
        ({"widths": (8,)}, {}, "over"),
        ({"depths": (2, 4), "model": "residual_mlp"}, {}, "over"),
        ({}, {"metric": "eval_loss"}, "metric"),
        ({}, {"metric": "late_eval_loss"}, "metric"),
        ({}, {"flops": 0}, "flops"),
        ({}, {"seeds": 0}, "seeds"),
    ],
)
def test_wrong_arguments_are_named(changes, options, match, tmp_path):
    settings = experiment(**GRID | {"observables": ("train_loss",)} | changes)
    with pytest.raises(ValueError, match=match):
        decide(settings, tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("widths", [(8, 16)])
def test_networks_are_trained_and_decided(widths, tmp_path):
    settings = sl.Experiment(
        model="mlp",
        widths=widths,
        parameterizations="mup",
        learning_rates="2^-2:2^3",
        data="gaussian-clusters",
        steps=16,
        batch_size=32,
        probe_size=128,
        records=2,
        seeds=2,
        observables=("train_loss",),
    )
    found = sl.decide(settings, tmp_path / "store", seeds=4)
    assert isinstance(found, sl.Decision) and set(found.transfers) == {"mup"}
    same(sl.decide(settings, tmp_path / "store", seeds=4), found)


def test_the_runs_of_a_decision_are_its_evidence_where_none_was_trained_too(tmp_path, trained):
    trained(Scattered())
    decide(experiment(**GRID), tmp_path, seeds=4)
    with gathering(Evidence()) as evidence:
        again = decide(experiment(**GRID), tmp_path, seeds=4)
    assert evidence.run_ids == set(again.records.runs["run_id"])
