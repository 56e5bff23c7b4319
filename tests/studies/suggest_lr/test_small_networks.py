"""One program per width trains every learning rate and seed as a plain loop would."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small_models import Convolving, Perceptron, classes, settings_of

from sharplab.data import batch_indices
from sharplab.losses import cross_entropy
from sharplab.optimizers import OPTIMIZERS
from sharplab.studies.suggest_lr.small_networks import make_examples, prepare

STEPS, BATCH = 6, 16


def small(build, seeds):
    examples = make_examples(classes(), None, BATCH)
    return prepare(build, examples, settings_of(optimizer="adamw", seeds=seeds, steps=STEPS), width=16)


@pytest.fixture(scope="module")
def network():
    return small(Perceptron, seeds=3)


@pytest.fixture(scope="module")
def convolving():
    return small(Convolving, seeds=2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_proportional_to_the_learning_rate(optimizer, network):
    scaling = replace(network.recipe.network.source.scaling, algorithm=optimizer)
    params = nnx.state(scaling.init(0), nnx.Param)
    unit, scaled = scaling.optimizer(1.0), scaling.optimizer(0.37)
    of_unit, of_scaled = unit.init(params), scaled.init(params)
    for seed in range(3):
        key = jax.random.key(seed)
        gradient = jax.tree.map(lambda w, key=key: jax.random.normal(key, w.shape), params)
        long, of_unit = unit.update(gradient, of_unit, params)
        short, of_scaled = scaled.update(gradient, of_scaled, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, 0.37 * a, rtol=1e-5, atol=1e-7), long, short)
        params = optax.apply_updates(params, short)


def test_it_trains_as_a_plain_loop_of_the_scaled_optimizer(network):
    rate = 0.02
    trained = network.advance(network.start, rate, STEPS)
    inputs, targets = (jnp.asarray(x) for x in classes())
    for seed in range(2):
        scaling = network.recipe.network.source.scaling
        model = scaling.init(jax.random.key(seed))
        training = nnx.Optimizer(model, scaling.optimizer(rate), wrt=nnx.Param)
        for chosen in batch_indices(seed, len(inputs), BATCH, 0, STEPS):
            gradient = nnx.grad(lambda m, c=chosen: cross_entropy(m(inputs[c]), targets[c]))(model)
            training.update(model, gradient)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            nnx.as_pure(network.one(trained, seed).params),
            nnx.as_pure(nnx.state(model, nnx.Param)),
        )


def test_every_learning_rate_is_trained_by_one_program(network):
    network.train(0.01, STEPS)
    Perceptron.traces = 0
    network.train(0.02, STEPS)
    network.train(0.5, STEPS - 2)
    network.advance(network.advance(network.start, 0.1, 2), 0.1, 4)
    assert Perceptron.traces == 0


def test_seeds_have_weights_and_batches_of_their_own_which_no_learning_rate_changes(network):
    at_rest = network.train(1e-30, STEPS)
    assert len(set(at_rest)) == 3
    np.testing.assert_array_equal(at_rest, network.final_loss(network.start))
    assert not np.array_equal(network.orders[0], network.orders[1])
    np.testing.assert_array_equal(network.train(0.01, STEPS), network.train(0.01, STEPS))


def test_one_that_diverges_counts_as_infinite_and_stays_as_it_was(network):
    assert (network.train(1e8, STEPS) == np.inf).all()
    stopped = network.advance(network.start, 1e8, STEPS)
    assert (stopped.diverged_step >= 0).all()
    assert all(np.isfinite(w).all() for w in jax.tree.leaves(stopped.params))


def test_a_network_that_convolves_is_dispatched_with_the_same_result(network, convolving):
    assert network.loop == "compiled" and convolving.loop == "python"
    compiled = replace(convolving, loop="compiled")
    np.testing.assert_allclose(convolving.train(0.02, STEPS), compiled.train(0.02, STEPS), rtol=1e-4)


def test_final_losses_are_those_of_the_mode_of_evaluation(convolving):
    runs = convolving.advance(convolving.start, 0.02, STEPS)
    run = convolving.one(runs, 1)
    model = convolving.recipe.network.module(run.params, run.variables)
    model.eval()
    batches = convolving.examples.evaluation
    by_hand = np.mean([float(cross_entropy(model(inputs), targets)) for inputs, targets in batches])
    assert convolving.final_loss(runs)[1] == pytest.approx(by_hand, rel=1e-5)


def test_final_losses_are_measured_on_held_out_examples_where_there_are_some():
    inputs, targets = classes(100)
    examples = make_examples((inputs[:40], targets[:40]), (inputs[40:], targets[40:]), BATCH)
    seen = np.concatenate([np.asarray(batch[0]) for batch in examples.evaluation])
    assert examples.count == 40 and len(seen) == 48  # of 60, in batches of 16
    assert {tuple(x) for x in seen.tolist()} <= {tuple(x) for x in inputs[40:].tolist()}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((4, 2)), "data .*pair"),
        ((np.zeros((40, 2)), np.zeros(39)), r"data .*\[39, 40\]"),
        ((np.zeros((4, 2)), np.zeros(4)), "batch_size .*16.* 4 .*data"),
    ],
)
def test_bad_data_are_refused(data, says):
    with pytest.raises(ValueError, match=says):
        make_examples(data, None, BATCH)
