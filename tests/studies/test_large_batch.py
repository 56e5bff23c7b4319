"""Optimizers over batch sizes: laws recovered from made-up sweeps, and trust ratios beside dense curvature."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import sharplab as sl
from sharplab.core import tree
from sharplab.data import batch_indices, load_dataset
from sharplab.optimizers import find_optimizer, make_optimizer
from sharplab.scaling import Rule, parameterization
from sharplab.studies.large_batch import ahead, at_batch_size, batch_scaling, trust_by_layer
from sharplab.sweep.plan import tasks
from sharplab.training.task import find_recipe

OUT_OF_THE_BOX = "sharplab.studies.large_batch:lamb_out_of_the_box@1"
EXPERIMENT = sl.Experiment(
    model="mlp", widths=4, depths=1, parameterizations="mup", learning_rates=2**-6, optimizer="lamb",
    data="gaussian-clusters", seeds=1, batch_size=32, steps=2, records=3, probe_size=64,
)  # fmt: skip


def made_up(exponents, gaps, noise=0.002):
    """Runs whose best learning rate goes as B^exponent, and whose loss there rises by gap · log₂(B/32)."""
    rng, rows = np.random.default_rng(0), []
    for name, exponent in exponents.items():
        for size in (32, 128, 512, 2048):
            octaves = np.log2(size / 32)
            for rate in 2.0 ** np.arange(-10, 0):
                for seed in range(4):
                    off = np.log2(rate) + 7 - exponent * octaves
                    loss = 1 + gaps[name] * octaves + 0.05 * off**2 + noise * rng.normal()
                    row = {"optimizer": name, "batch_size": size, "learning_rate": rate, "seed": seed, "steps": 9}
                    rows.append(row | {"train_loss": loss if off < 5 else np.inf})
    return sl.Records(pd.DataFrame(rows))


def test_exponents_and_losses_of_each_optimizer_are_recovered():
    found = batch_scaling(made_up({"lamb": 0.5, "adamw": -0.25}, {"lamb": 0.01, "adamw": 0.03}))
    for name, exponent, gap in (("lamb", 0.5, 0.01), ("adamw", -0.25, 0.03)):
        b = found[name].exponent
        assert b.low < exponent < b.high and b.high - b.low < 0.1
        table = found[name].table().set_index("batch_size")
        assert table.index.tolist() == [32, 128, 512, 2048]
        assert np.allclose(table["loss"], 1 + gap * np.array([0, 2, 4, 6]), atol=0.02)
        assert (table["loss_low"] < table["loss"]).all()
    less = ahead(found["lamb"], [found["adamw"]])
    assert less[2048].value == pytest.approx(-0.12, abs=0.02) and less[2048].high < 0
    assert less[32].low < 0.01 and less[32].high > -0.01


def test_runs_of_several_parameterizations_or_of_unknown_optimizers_are_refused():
    runs = made_up({"lamb": 0.5}, {"lamb": 0.0}).runs
    with pytest.raises(ValueError, match="parameterization"):
        batch_scaling(sl.Records(runs.assign(parameterization=np.where(runs["seed"] > 1, "mup", "ntk"))))
    with pytest.raises(ValueError, match="optimizer"):
        batch_scaling(sl.Records(runs.drop(columns="optimizer")))
    with pytest.raises(ValueError, match="batch_size"):
        at_batch_size(EXPERIMENT, 0)


def test_out_of_the_box_every_weight_has_one_learning_rate():
    plain, mended = find_optimizer(OUT_OF_THE_BOX), make_optimizer("lamb")
    rule = Rule(parameterization("mup"), 64, 4)
    for role, factor in (("input", 1.0), ("hidden", 0.25), ("output", 1.0)):
        assert rule.lr_factor(role, plain.kind(role)) == 1.0
        assert rule.lr_factor(role, mended.kind(role), unit=0.1) == pytest.approx(factor)
    direction, like = plain.direction(None), {"w": jnp.ones(3)}
    assert jax.tree.structure(direction.init(like)) == jax.tree.structure(mended.direction(None).init(like))


@pytest.mark.long
def test_trust_ratios_stand_beside_the_curvature_that_they_multiply():
    """After one step Adam's direction is g/(|g| + ε), and its preconditioner that over (1 − β₁) g."""
    table = trust_by_layer(EXPERIMENT)
    assert list(table["step"]) == [1, 1, 2, 2] and (table["sharpness_error"] < 0.02 * table["sharpness"]).all()
    (task,) = tasks(EXPERIMENT)
    recipe = find_recipe(task)
    data, w = load_dataset(task.data), recipe.init_params(jnp.int32(0))
    inputs, targets = recipe.prepare(data.train_inputs), jnp.asarray(data.train_targets)
    (rows,) = batch_indices(0, len(inputs), task.batch_size, 0, 1)
    gradient = tree.named_leaves(jax.grad(recipe.objective)(w, (inputs[rows], targets[rows])))
    after = recipe.step(recipe.begin(0), 2.0**-6, (inputs[rows], targets[rows])).params

    def loss(leaf, path):
        leaves = [leaf if name == path else other for name, other in tree.named_leaves(after).items()]
        return recipe.objective(jax.tree.unflatten(jax.tree.structure(after), leaves), (inputs[:64], targets[:64]))

    for path, row in table[table["step"] == 1].set_index("parameter").iterrows():
        g, before = (np.asarray(leaves[path]) for leaves in (gradient, tree.named_leaves(w)))
        ratio = np.linalg.norm(before) / np.sqrt(np.count_nonzero(g))
        D = ratio / (0.1 * (np.abs(g.ravel()) + 1e-6))
        H = np.asarray(jax.hessian(loss)(tree.named_leaves(after)[path], path)).reshape(D.size, -1)
        top = np.linalg.eigvalsh(np.sqrt(D)[:, None] * H * np.sqrt(D))[-1]
        assert row["trust_ratio"] == pytest.approx(ratio, rel=1e-3)
        assert row["sharpness"] == pytest.approx(top, rel=0.02)
    with pytest.raises(ValueError, match="trust ratios"):
        trust_by_layer(replace(EXPERIMENT, optimizer="adam"))
