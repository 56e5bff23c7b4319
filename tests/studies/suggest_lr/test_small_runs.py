"""The runs of a study are those of a plain loop, trained by the engine's programs and kept in a store."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_models
from flax import nnx
from small_models import Convolving, Perceptron, classes, settings_of

from sharplab.core.imports import find
from sharplab.data import batch_indices
from sharplab.losses import cross_entropy
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling.any_module import mup
from sharplab.studies.suggest_lr.small_runs import Place, make_dataset, small_runs
from sharplab.sweep.executors.processes import Processes
from sharplab.training import programs
from sharplab.training.layout import DeviceLayout

STEPS, BATCH, WIDTH = 6, 16, 16


def small(build, seeds, store, **changed):
    settings = settings_of(optimizer="adamw", seeds=seeds, **{"batch_size": BATCH} | changed)
    made = small_runs(build, classes(), None, cross_entropy, settings, Place())
    return replace(made, place=Place(store))


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory):
    return small(Perceptron, 3, tmp_path_factory.mktemp("perceptron"))


@pytest.fixture(scope="module")
def convolving(tmp_path_factory):
    return small(Convolving, 2, tmp_path_factory.mktemp("convolving"))


@cache
def scaling_of(build):
    return mup(build, base=8, width=WIDTH, optimizer="adamw")


@nnx.jit
def gradient_at(model, inputs, targets):
    return nnx.grad(lambda model: cross_entropy(model(inputs), targets))(model)


def by_hand(build, rate, seed, data):
    """The network that a plain loop of the scaled optimizer trains."""
    scaling = scaling_of(build)
    inputs, targets = data
    model = scaling.init(jax.random.key(seed))
    training = nnx.Optimizer(model, scaling.optimizer(rate), wrt=nnx.Param)
    for chosen in batch_indices(seed, len(inputs), BATCH, 0, STEPS):
        training.update(model, gradient_at(model, inputs[chosen], targets[chosen]))
    return model


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_proportional_to_the_learning_rate(optimizer):
    scaling = replace(scaling_of(Perceptron), algorithm=optimizer)
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


def test_final_losses_are_those_of_a_plain_loop_of_the_scaled_optimizer(perceptron):
    found = perceptron.final_losses(WIDTH, (0.02,), STEPS)[0.02]
    for seed in range(3):
        model = by_hand(Perceptron, 0.02, seed, classes())
        expected = cross_entropy(model(jnp.asarray(classes()[0])), jnp.asarray(classes()[1]))
        assert found[seed] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.long
def test_final_losses_are_those_of_the_mode_of_evaluation(tmp_path):
    def without_dropout(width, rngs):
        model = Convolving(width, rngs)
        model.dropout.rate = 0.0
        return model

    found = small(without_dropout, 2, tmp_path).final_losses(WIDTH, (0.02,), STEPS)[0.02]
    model = by_hand(without_dropout, 0.02, 1, classes())
    in_training = float(cross_entropy(model(jnp.asarray(classes()[0])), jnp.asarray(classes()[1])))
    model.eval()
    expected = float(cross_entropy(model(jnp.asarray(classes()[0])), jnp.asarray(classes()[1])))
    assert found[1] == pytest.approx(expected, rel=1e-3) and abs(found[1] - in_training) > 1e-2


def test_every_learning_rate_and_number_of_steps_is_trained_by_one_program(perceptron, tmp_path):
    perceptron.final_losses(WIDTH, (0.01,), STEPS)
    perceptron.final_losses(WIDTH, (0.01,), STEPS - 1)
    Perceptron.traces = 0
    perceptron.final_losses(WIDTH, (0.011, 0.5), STEPS)
    assert Perceptron.traces == 0
    perceptron.final_losses(WIDTH, (0.011, 0.5), STEPS - 1)
    perceptron.seconds(WIDTH, 0.01, STEPS, lambda: 0.0)
    assert Perceptron.traces == 0


def test_where_runs_are_vectorised_every_number_of_learning_rates_has_one_program_too(monkeypatch, tmp_path):
    first = (jax.local_devices()[0],)
    monkeypatch.setattr(programs, "choose_layout", lambda recipe, runs: DeviceLayout(first, runs))
    monkeypatch.setattr("sharplab.studies.suggest_lr.small_runs._vectorised", lambda: True)
    runs = small(Perceptron, 2, tmp_path)
    found = runs.final_losses(WIDTH, (0.01, 0.02, 0.5), STEPS)
    Perceptron.traces = 0
    assert runs.final_losses(WIDTH, (0.04, 0.5), STEPS)[0.5].tolist() == found[0.5].tolist()
    assert Perceptron.traces == 0 and list(found) == [0.01, 0.02, 0.5]


def test_seeds_have_weights_and_batches_of_their_own_which_no_learning_rate_changes(perceptron):
    at_rest = perceptron.final_losses(WIDTH, (1e-30,), STEPS)[1e-30]
    assert len(set(at_rest)) == 3
    curves = perceptron.record(WIDTH, (1e-30, 0.1), STEPS, ("eval_loss",), records=2).curves
    for _, first in curves[curves["step"] == 0].groupby("learning_rate"):
        np.testing.assert_array_equal(first["eval_loss"], at_rest)


def test_one_that_diverges_counts_as_infinite_even_by_its_last_step(perceptron):
    found = perceptron.final_losses(WIDTH, (1e8, 0.1), STEPS)
    assert (found[1e8] == np.inf).all() and np.isfinite(found[0.1]).all()
    assert (perceptron.final_losses(WIDTH, (1e8,), 1)[1e8] == np.inf).all()


@pytest.mark.long
def test_a_network_that_convolves_is_dispatched_with_the_same_result(convolving, monkeypatch, tmp_path):
    found = convolving.record(WIDTH, (0.02,), STEPS, ("eval_loss",), records=2).runs
    assert set(found["loop"]) == {"python"}
    monkeypatch.setattr("sharplab.training.programs.choose_loop", lambda *args: "compiled")
    compiled = replace(convolving, place=Place(tmp_path)).record(WIDTH, (0.02,), STEPS, ("eval_loss",), records=2).runs
    assert set(compiled["loop"]) == {"compiled"}
    np.testing.assert_allclose(found["eval_loss"], compiled["eval_loss"], rtol=1e-4)


def test_inputs_and_outputs_may_be_trees_and_targets_numbers(tmp_path):
    def build(width, rngs):
        return Halves(width, rngs)

    class Halves(nnx.Module):
        def __init__(self, width, rngs):
            self.stem, self.readout = nnx.Linear(2, width, rngs=rngs), nnx.Linear(width, 1, rngs=rngs)

        def __call__(self, x):
            outputs = self.readout(jnp.tanh(self.stem(jnp.concatenate([x["left"], x["right"]], axis=1))))
            return {"mean": outputs[:, 0]}

    rng = np.random.default_rng(0)
    inputs = {side: rng.standard_normal((40, 1)) for side in ("left", "right")}
    data = inputs, {"y": inputs["left"][:, 0] * inputs["right"][:, 0]}
    place, settings = Place(), settings_of(seeds=2, batch_size=BATCH, optimizer="sgd")
    made = small_runs(build, data, None, lambda o, t: ((o["mean"] - t["y"]) ** 2).mean(), settings, place)
    found = replace(made, place=Place(tmp_path)).final_losses(WIDTH, (1e-30, 0.05), 30)
    assert (found[0.05] < found[1e-30]).all()


def test_what_a_build_takes_beside_width_and_rngs_keeps_its_default(tmp_path):
    def build(width, rngs, depth=3, classes=2):
        assert (depth, classes) == (3, 2)
        return Perceptron(width, rngs)

    found = small(build, 2, tmp_path).final_losses(WIDTH, (0.02,), STEPS)[0.02]
    assert np.isfinite(found).all()


def test_final_losses_are_measured_on_held_out_examples_where_there_are_some():
    inputs, targets = classes(100)
    dataset = make_dataset((inputs[:40], targets[:40]), (inputs[40:], targets[40:]), BATCH)
    assert dataset.examples == 40 and len(dataset.eval_inputs) == 48  # of 60, in batches of 16
    assert {tuple(x) for x in dataset.eval_inputs.tolist()} <= {tuple(x) for x in inputs[40:].tolist()}
    assert inputs.flags.writeable


def test_the_probe_is_drawn_from_all_training_examples(tmp_path):
    inputs, targets = classes(600)
    order = np.argsort(targets)
    data = inputs[order], targets[order]  # the first 512 of which are hardly of both classes
    made = small_runs(Perceptron, data, None, cross_entropy, settings_of(seeds=2), Place())
    runs = replace(made, place=Place(tmp_path))
    found = runs.record(WIDTH, (0.1,), 1, ("train_loss",), records=2).curves.query("seed == 1 and step == 0")
    chosen = np.random.default_rng(1).permutation(600)[:512]
    model = scaling_of(Perceptron).init(jax.random.key(1))
    expected = float(cross_entropy(model(data[0][chosen]), jnp.asarray(data[1][chosen])))
    assert found["train_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_data_are_the_same_exactly_if_their_bytes_and_shapes_are():
    inputs, targets = classes()
    names = [
        small_runs(Perceptron, data, None, "cross_entropy", settings_of(), Place()).shared["data"]
        for data in ((inputs, targets), (inputs.copy(), targets.copy()), (inputs + 1e-6, targets))
    ]
    assert names[0] == names[1] != names[2]


def test_data_are_held_for_as_long_as_the_runs_are():
    made = small_runs(Perceptron, classes(50), None, "cross_entropy", settings_of(), Place())
    name = made.shared["data"]
    assert find("data set", name, {})() is made.dataset.dataset
    another = small_runs(Perceptron, classes(50), None, "cross_entropy", settings_of(), Place())
    assert another.shared["data"] == name
    del another
    assert find("data set", name, {})() is made.dataset.dataset
    del made
    with pytest.raises(ValueError, match="held"):
        find("data set", name, {})


def test_a_store_is_given_names_that_are_found_again(tmp_path):
    place = Place(tmp_path)
    shared = small_runs(Perceptron, classes(), None, cross_entropy, settings_of(), place).shared
    assert shared["model"] == f"{small_models.__name__}:Perceptron"
    assert shared["loss"] == "sharplab.losses:cross_entropy"
    assert small_runs("small_models:Perceptron@2", classes(), None, "cross_entropy", settings_of(), place)


@pytest.mark.parametrize("argument", ["build", "loss", "optimizer"])
def test_what_a_later_process_would_not_find_is_refused(argument, tmp_path):
    given = {"build": Perceptron, "loss": cross_entropy}
    own = {"build": lambda width, rngs: None, "loss": lambda outputs, targets: 0.0, "optimizer": OPTIMIZERS["sgd"]}
    settings = settings_of(optimizer=own["optimizer"] if argument == "optimizer" else "sgd")
    given |= {argument: own[argument]} if argument != "optimizer" else {}
    with pytest.raises(ValueError, match=f"^{argument} .*'module:name'"):
        small_runs(given["build"], classes(), None, given["loss"], settings, Place(tmp_path))


def test_arrays_are_refused_where_workers_would_not_find_them():
    with Processes(1) as executor, pytest.raises(ValueError, match=r"^data .*'module:name'"):
        small_runs(Perceptron, classes(), None, "cross_entropy", settings_of(), Place(executor=executor))


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
        make_dataset(data, None, BATCH)
