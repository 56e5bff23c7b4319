"""The table of observables, and one's own beside it."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import own_objects
import pytest
from test_tracker import BATCH, EVAL_BATCH, PARAMS, metric, model, whole_loss

from sharplab.losses import cross_entropy
from sharplab.sweep import Experiment, run
from sharplab.sweep.store.columns import describe
from sharplab.tracking import Observable, Tracker
from sharplab.tracking.observables import OBSERVABLES, SPECTRA, find_observable, find_observables

TRACED = []


def weight_norm(params, batch):
    TRACED.append(1)
    return optax.tree.norm(params)


def of_context(context):
    share = optax.tree.norm(context.gradient) / context.evaluation["eval_loss"]
    return {"share": share, "share_error": context.objective(context.params, context.probe)}


SHARE = Observable("share", "1", "gradient norm over held-out loss", ("model", "eval_batch"), of_context)


@pytest.mark.parametrize("entry", [*OBSERVABLES.values(), *SPECTRA.values()], ids=[*OBSERVABLES, *SPECTRA])
def test_every_observable_has_a_unit_a_meaning_and_the_description_of_its_columns(entry):
    assert entry.unit and entry.meaning
    columns = [f"{entry.name}_1"] if entry.name in SPECTRA else [entry.name, f"{entry.name}_error"]
    for column in columns:
        assert describe(column).unit == entry.unit
    assert entry.meaning in describe(columns[0]).meaning
    assert find_observable(f"{entry.name}_top2" if entry.name in SPECTRA else entry.name).needs == entry.needs


def test_own_observables_are_recorded_beside_the_labs():
    given = ["train_loss", weight_norm, SHARE, "own_objects:weight_norm"]
    with pytest.raises(ValueError, match=r"weight_norm .*once"):
        find_observables(given)
    tracker = Tracker(cross_entropy, BATCH, given[:3], model=model, metric=metric, eval_batch=EVAL_BATCH)
    row = tracker.record(0, PARAMS)
    assert set(row) == {"step", "train_loss", "weight_norm", "share", "share_error"}
    assert np.isclose(row["weight_norm"], optax.tree.norm(PARAMS), rtol=1e-6)
    gradient = optax.tree.norm(jax.grad(whole_loss)(PARAMS, BATCH))
    assert np.isclose(row["share"], gradient / whole_loss(PARAMS, EVAL_BATCH), rtol=1e-5)
    assert row["share_error"] == row["train_loss"]
    traced = len(TRACED)
    for step in (1, 2):
        tracker.record(step, jax.tree.map(lambda w: 0.9 * w, PARAMS))
    other = Tracker(cross_entropy, BATCH, given[:3], model=model, metric=metric, eval_batch=EVAL_BATCH)
    other.record(0, PARAMS)
    assert len(TRACED) == traced


def test_an_observable_of_ones_own_takes_part_in_the_identity_of_programs_by_its_function():
    assert find_observable(weight_norm) == find_observable(weight_norm)
    assert find_observable("own_objects:weight_norm@2") == find_observable(own_objects.weight_norm)
    assert hash(find_observable("hessian_top3")) == hash(find_observable("hessian_top3"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda params, batch: 0.0, "lambda.*Observable"),
        (partial(weight_norm, batch=None), "partial.*Observable"),
        (3, "observable 3 .*Observable"),
        ("own_objects:number", "own_objects:number.*Observable"),
        ("own_objects:nothing", "own_objects:nothing"),
        ("hessian_top0", "hessian_top0.*hessian_top10"),
        (replace(SHARE, name="sharpness"), "'sharpness' .*name"),
        (replace(SHARE, name="step"), "'step' .*name"),
        (replace(OBSERVABLES["sharpness_raw"], name="sharpness"), "'sharpness' .*name"),
    ],
)
def test_what_is_no_observable_is_named_with_the_remedy(given, said):
    with pytest.raises(ValueError, match=said):
        Tracker(whole_loss, BATCH, [given], metric=metric)


def test_needs_are_out_of_three_and_are_asked_for():
    with pytest.raises(ValueError, match=r"'share': needs .*opt_state"):
        replace(SHARE, needs=("opt_state",))
    assert hash(replace(SHARE, needs=list(SHARE.needs))) == hash(SHARE)
    with pytest.raises(ValueError, match=r"'share' needs eval_batch="):
        Tracker(cross_entropy, BATCH, [SHARE], model=model)


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (lambda context: {"shares": jnp.zeros(())}, "'share' has no column shares"),
        (lambda context: {"share": jnp.zeros(2)}, r"'share' must be a scalar, not of shape \(2,\)"),
    ],
)
def test_columns_are_scalars_under_the_observables_name(compute, said):
    tracker = Tracker(whole_loss, BATCH, [replace(SHARE, needs=(), compute=compute)])
    with pytest.raises(ValueError, match=said):
        tracker.record(0, PARAMS)


def sweep(*observables, optimizer="sgd"):
    return Experiment(
        widths=(4,), learning_rates=(1.0,), observables=observables, optimizer=optimizer, data="gaussian-clusters"
    )


def test_experiments_take_own_observables_by_name_and_refuse_what_their_optimizer_lacks():
    assert sweep("train_loss", "own_objects:weight_norm@2").observables == ("train_loss", "own_objects:weight_norm@2")
    with pytest.raises(ValueError, match=r"observables .*module:attribute"):
        sweep(weight_norm)
    with pytest.raises(ValueError, match=r"observables: 'width' .*name"):
        run(sweep("own_objects:width"), "not made")
    with pytest.raises(ValueError, match=r"'sharpness' .*own_objects:make_signs"):
        sweep("sharpness", optimizer="own_objects:make_signs")
