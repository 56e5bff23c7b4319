"""Gradient norms of every step, and the schedules that they suggest."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sharplab as sl
from sharplab.data import load_dataset
from sharplab.schedules import find_schedule
from sharplab.studies import refining
from sharplab.studies.refining import gradient_norms, mean_norms, norm_of, refine_schedule, refined_name
from sharplab.sweep.plan import tasks
from sharplab.training.task import find_recipe

ALL = load_dataset("gaussian-clusters").examples
EXPERIMENT = sl.Experiment(
    model="mlp",
    widths=8,
    base_width=2,
    depths=1,
    parameterizations=("mup",),
    learning_rates=0.5,
    seeds=2,
    data="gaussian-clusters",
    steps=6,
    batch_size=ALL,  # the probe, in another order
    probe_size=ALL,
    observables=("train_loss", "gradient_norm"),
    records=7,
    schedule="cosine",
)


@pytest.mark.long
def test_norms_are_those_of_the_steps_of_training_and_one_program_serves_all_schedules(tmp_path):
    found = gradient_norms(EXPERIMENT)
    curves = sl.run(EXPERIMENT, tmp_path).curves.query("step < 6")
    both = found.merge(curves, on=["seed", "step"], validate="one_to_one")
    assert len(both) == len(found) == 12
    np.testing.assert_allclose(both["loss"], both["train_loss"], rtol=2e-5)
    np.testing.assert_allclose(both["l2"], both["gradient_norm"], rtol=2e-4)

    programs = refining._step._cache_size()
    other = gradient_norms(replace(EXPERIMENT, schedule="rex", steps=5, records=6, seeds=1))
    assert refining._step._cache_size() == programs
    first = found.query("seed == 0 and step == 0")
    assert other.query("step == 0")["l2"].item() == first["l2"].item()

    # By hand at the start, where both factors and entries of gradients differ.
    recipe = find_recipe(next(tasks(EXPERIMENT)))
    dataset = load_dataset("gaussian-clusters")
    inputs, targets = recipe.prepare(dataset.train_inputs), dataset.train_targets
    gradient = refining.jax.grad(recipe.objective)(recipe.init_params(0), (inputs, targets))
    pairs = zip(refining.jax.tree.leaves(gradient), refining.jax.tree.leaves(recipe.factors()), strict=True)
    assert first["l1"].item() == pytest.approx(sum(float(f * np.abs(g).sum()) for g, f in pairs), rel=1e-4)


def norms(series, **columns):
    """Norms of one seed."""
    return pd.DataFrame({"seed": 0, "step": np.arange(len(series)), "l2": series, "l1": series, "loss": 1.0, **columns})


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_constant_norms_are_refined_to_linear_decay(norm):
    found, linear = (find_schedule(name, 200) for name in (refined_name(norms(np.full(200, 3.0)), norm=norm), "linear"))
    assert max(abs(float(found(step)) - float(linear(step))) for step in range(200)) < 1e-4


def test_seeds_are_averaged_in_the_logarithm_without_those_that_diverged():
    table = pd.concat([norms([1.0, 2.0, 4.0]), norms([4.0, 2.0, 1.0], seed=1), norms([1.0, np.inf, np.nan], seed=2)])
    np.testing.assert_allclose(mean_norms(table), 2.0)
    with pytest.raises(ValueError, match="norms: every run"):
        refined_name(norms([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="norms must be of one"):
        refined_name(pd.concat([norms([1.0, 2.0], learning_rate=0.1), norms([1.0, 2.0], learning_rate=0.2)]))


def test_a_round_refines_what_runs_under_the_last_ones_schedule_show(monkeypatch):
    trained = []

    def falling(experiment):
        trained.append(experiment.schedule)
        return norms(np.linspace(3, 1, 16) ** len(trained))

    monkeypatch.setattr(refining, "gradient_norms", falling)
    names = refine_schedule(EXPERIMENT, rounds=3)
    assert trained == ["cosine", *names[:2]]
    assert len(set(names)) == 3
    assert [norm_of(name) for name in ("sgd", "momentum", "adam", "muon")] == ["l2", "l2", "l1", "l1"]
    with pytest.raises(ValueError, match="optimizer 'lamb'"):
        norm_of("lamb")
