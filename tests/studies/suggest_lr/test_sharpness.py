"""The sharpness along training, against the largest eigenvalue of a Hessian made whole."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from small_models import Convolving, Perceptron, classes, settings_of

from sharplab.core.tree import named_leaves
from sharplab.data import batch_indices
from sharplab.losses import cross_entropy
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling.any_module import mup
from sharplab.studies.suggest_lr.sharpness import sharpness_along, threshold_of
from sharplab.studies.suggest_lr.small_runs import Place, small_runs
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import by_roles

BATCH, STEPS, RATE = 16, 2, 0.02


@pytest.fixture(scope="module", params=[Perceptron, pytest.param(Convolving, marks=pytest.mark.long)])
def trained(request, tmp_path_factory):
    settings = settings_of(seeds=2, batch_size=BATCH)
    made = small_runs(request.param, classes(), None, cross_entropy, settings, Place())
    return request.param, replace(made, place=Place(tmp_path_factory.mktemp("store")))


@pytest.mark.long
def test_it_is_the_largest_eigenvalue_of_the_preconditioned_hessian(trained):
    build, runs = trained
    curves = sharpness_along(runs, 8, RATE, STEPS, threshold=2.0)
    assert curves[["seed", "step"]].to_numpy().tolist() == [[0, 1], [1, 1], [0, 2], [1, 2]]
    np.testing.assert_allclose(curves["share"], curves["sharpness"] / 2)
    scaling = mup(build, base=8, width=8)
    recipe = Recipe(Network(by_roles(scaling, OPTIMIZERS["adam"])), cross_entropy, OPTIMIZERS["adam"], ())
    inputs, targets = classes()
    run, step = jax.jit(recipe.begin)(1), jax.jit(recipe.step)
    for rows in batch_indices(1, len(inputs), BATCH, 0, STEPS):
        run = step(run, RATE, (inputs[rows], targets[rows]))
    flat, unflatten = jax.flatten_util.ravel_pytree(run.params)

    def loss(w):
        model = recipe.network.module(unflatten(w), run.variables)
        for _, module in nnx.iter_modules(model):
            if isinstance(module, nnx.Dropout):
                module.deterministic = True
        return cross_entropy(model(inputs), targets)

    D = named_leaves(scaling.metric(run.params, run.opt_state))
    root = np.sqrt(np.concatenate([np.ravel(D[path]) for path in named_leaves(run.params)]))
    exact = np.linalg.eigvalsh(root[:, None] * np.asarray(jax.jit(jax.hessian(loss))(flat)) * root).max()
    last = curves.iloc[-1]
    assert abs(last["sharpness"] - exact) <= 0.01 * exact
    assert 0 < last["sharpness_error"] <= 0.01 * exact


def test_a_run_that_diverges_has_none(trained):
    curves = sharpness_along(trained[1], 8, 1e30, STEPS, threshold=2.0)
    assert np.isnan(curves["share"].to_numpy()[-1])


def test_thresholds_are_those_of_the_optimizers():
    assert threshold_of("sgd", 0.5) == 4 and threshold_of("adam", 0.1) == pytest.approx(380)
    assert threshold_of("lion", 0.1) is None and threshold_of(OPTIMIZERS["sgd"], 1.0) == 2
