"""Tournaments of schedules whose losses are a formula."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import sharplab as sl
from sharplab.studies.tournament import chosen_losses, rank_schedules

RATES = (0.5, 1.0, 2.0)
WORSE = {"good": 0.0, "middling": 0.1, "bad": 0.3}  # logarithms of the loss at the best rate over that of the best


def runs_of(worse=WORSE, seeds=5, noise=0.01, rng=0, steps=(50, 100)):
    """Runs whose best rate is the schedule's own, with a part of the loss that all runs of a seed share."""
    rng = np.random.default_rng(rng)
    rows = []
    for n in steps:
        shared = 0.3 * rng.standard_normal(seeds)
        for i, (name, above) in enumerate(worse.items()):
            for rate in RATES:
                off = 0.5 * abs(np.log2(rate) - (i % 3 - 1))
                logs = np.log(100 / n) + above + off + shared + noise * rng.standard_normal(seeds)
                keys = {"model": "mlp", "steps": n, "schedule": name, "learning_rate": rate}
                rows += [keys | {"seed": seed, "train_loss": loss} for seed, loss in enumerate(np.exp(logs))]
    return pd.DataFrame(rows)


def test_schedules_are_ranked_each_at_its_own_rate_and_differences_have_their_intervals():
    found = rank_schedules(sl.Records(runs_of()))
    assert found.ranks["rank"].to_dict() == {"good": 1.0, "middling": 2.0, "bad": 3.0}
    assert found.cells.groupby("schedule")["learning_rate"].unique().map(list).to_dict() == {
        "good": [0.5],
        "middling": [1.0],
        "bad": [2.0],
    }
    for first, second in (("bad", "good"), ("middling", "good"), ("good", "bad")):
        row = found.losses.loc[(first, second)]
        assert row["low"] < WORSE[first] - WORSE[second] < row["high"]
        assert row["high"] - row["low"] < 0.06  # what a seed's runs share has gone
        assert found.differences.loc[(first, second), "difference"] == list(WORSE).index(first) - list(WORSE).index(
            second
        )
    for steps in (50, 100):
        assert found.regrets.loc[("good", "mlp", steps), "regret"] == 0
        row = found.regrets.loc[("middling", "mlp", steps)]
        assert row["low"] < 0.1 < row["high"]


def test_a_seed_has_no_say_in_the_rate_of_its_own_run():
    runs = runs_of(noise=0.0, seeds=4, steps=(100,))
    mine = (runs["schedule"] == "good") & (runs["seed"] == 2)
    runs.loc[mine & (runs["learning_rate"] == 2.0), "train_loss"] = 1e-6  # luck, at a rate that the others do badly at
    chosen = chosen_losses(sl.Records(runs), cells=["model", "steps"])
    one = chosen[(chosen["schedule"] == "good") & (chosen["seed"] == 2)]
    assert one["learning_rate"].item() == 0.5


def test_intervals_hold_together_where_all_schedules_are_alike():
    """Ranks are differences of 0, and regrets are 0, whatever the choice of rates and of the best on few seeds."""
    alike = dict.fromkeys(WORSE, 0.0)
    draws, ranks, regrets = 25, 0, 0
    for draw in range(draws):
        found = rank_schedules(sl.Records(runs_of(alike, seeds=4, noise=0.4, rng=draw, steps=(50,))))
        one, regret = found.differences.loc["good"], found.regrets.loc["good"]
        ranks += bool(((one["low"] <= 0) & (one["high"] >= 0)).all())
        regrets += bool(((regret["low"] <= 0) & (regret["high"] >= 0)).all())
    # Where 95 % are covered, fewer than 21 of 25 are so once in 140 times.
    assert ranks >= 21
    assert regrets >= 21


@pytest.mark.parametrize(("cells", "seeds", "gap"), [(1, 3, 0.0), (1, 4, 1.2), (2, 3, 1.2)])
def test_ranks_of_few_seeds_are_covered_where_schedules_differ_by_their_noise(cells, seeds, gap):
    """Seeds often rank alike by chance: intervals of their scatter alone cover 56 to 87 %."""
    random, hits, repeats = np.random.default_rng(0), 0, 60
    keys = list(product(range(cells), "ab", (1, 2, 3), range(seeds)))
    table = pd.DataFrame(keys, columns=["steps", "schedule", "learning_rate", "seed"]).assign(model="mlp")
    plain = 1 + (table["learning_rate"] - 2).abs() + 0.1 * gap * (table["schedule"] == "b")
    for _ in range(repeats):
        found = rank_schedules(sl.Records(table.assign(train_loss=plain + 0.1 * random.standard_normal(len(table)))))
        low, high = found.ranks.loc["a", ["low", "high"]]
        hits += low <= 2 - norm.cdf(gap / np.sqrt(2)) <= high
    assert hits >= 0.9 * repeats


def test_a_run_that_diverged_is_last_and_counts_as_the_worst_of_its_cell():
    runs = runs_of()
    # Of one seed: the others choose the rate for it, and it chooses none for them.
    runs["diverged"] = (runs["schedule"] == "good") & (runs["seed"] == 1) & (runs["learning_rate"] == 0.5)
    found = rank_schedules(sl.Records(runs))
    cells = found.cells[found.cells["schedule"] == "good"].set_index(["seed", "steps"])
    assert (cells.loc[1, "rank"] == 3).all()
    assert cells.loc[1, "loss"].to_dict() == runs[~runs["diverged"]].groupby("steps")["train_loss"].max().to_dict()
    assert cells["diverged"].sum() == 2
    assert (cells.drop(index=1, level="seed")["learning_rate"] != 0.5).all()
    assert np.isfinite(found.losses.to_numpy()).all()


def every_rate_diverges_somewhere(runs):
    """Of one schedule, each rate with another seed."""
    at = runs["learning_rate"].map({rate: seed for seed, rate in enumerate(RATES)})
    return runs.assign(diverged=(runs["schedule"] == "good") & (runs["seed"] == at))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda runs: runs.drop(columns="schedule"), "schedule"),
        (lambda runs: runs[runs["seed"] < 2], "seeds"),
        (lambda runs: runs[(runs["schedule"] != "bad") | (runs["steps"] == 50)], "same two schedules"),
        (lambda runs: runs[runs["schedule"] == "bad"], "same two schedules"),
        (lambda runs: runs.assign(train_loss=-1.0), "train_loss"),
        (lambda runs: pd.concat([runs, runs]), "cells"),
        (every_rate_diverges_somewhere, "no seed diverged: of mlp, 50, good none can be chosen for seed 3"),
    ],
    ids=["column", "seeds", "cell", "alone", "negative", "twice", "diverged"],
)
def test_what_cannot_be_ranked_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        rank_schedules(sl.Records(change(runs_of())))
