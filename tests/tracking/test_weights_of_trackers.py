"""Trackers of losses that weigh examples: records against the dense Hessian, and what the first record refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sharplab.losses import cross_entropy
from sharplab.tracking.tracker import Tracker

RNG = np.random.default_rng(0)
LENGTHS = np.array([6, 6, 1, 1, 1, 1, 5, 2])
TOKENS, LABELS = RNG.integers(0, 5, (2, 8, 6)).astype(np.int32)
MASK = (np.arange(6) < LENGTHS[:, None]).astype(np.float32)
PARAMS = {
    name: RNG.standard_normal(shape).astype(np.float32) for name, shape in (("table", (5, 3)), ("readout", (3, 5)))
}
OBSERVABLES = ["train_loss", "sharpness_raw", "gauss_newton_top1"]


def model(params, tokens):
    return jnp.tanh(params["table"][tokens]) @ params["readout"]


def masked_loss(outputs, targets):
    labels, mask = targets
    nll = -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[..., None], -1)[..., 0]
    return jnp.sum(mask * nll) / jnp.sum(mask)


LOSSES = {
    "mask": (masked_loss, (TOKENS, (LABELS, MASK)), LENGTHS),
    "ignore": (partial(cross_entropy, ignore=-100), (TOKENS, np.where(MASK > 0, LABELS, -100)), None),
}


@pytest.mark.parametrize("name", LOSSES)
def test_records_in_chunks_are_of_the_whole_loss(name):
    loss, batch, weight = LOSSES[name]
    tracker = Tracker(loss, batch, OBSERVABLES, model=model, chunk=2, weight=weight)
    row = tracker.record(0, PARAMS)
    flat, unravel = ravel_pytree(PARAMS)
    H = jax.jit(jax.hessian(lambda w: masked_loss(model(unravel(w), TOKENS), (LABELS, MASK))))(flat)
    assert np.isclose(row["train_loss"], masked_loss(model(PARAMS, TOKENS), (LABELS, MASK)), rtol=1e-5)
    assert np.isclose(row["sharpness_raw"], np.linalg.eigvalsh(H)[-1], rtol=1e-2)
    assert row["gauss_newton_1"] > 0
    assert tracker.record(1, PARAMS)["sharpness_raw_identity"] == row["sharpness_raw_identity"]


def test_batches_of_which_curvature_cannot_be_taken_are_refused_at_the_first_record():
    with pytest.raises(ValueError, match="weight"):
        Tracker(masked_loss, LOSSES["mask"][1], OBSERVABLES, model=model, chunk=2).record(0, PARAMS)
    with pytest.raises(ValueError, match="weight"):
        Tracker(masked_loss, LOSSES["mask"][1], OBSERVABLES, model=model, weight=np.ones(8)).record(0, PARAMS)
    with pytest.raises(ValueError, match=r"targets .*ignore="):
        Tracker(cross_entropy, LOSSES["ignore"][1], OBSERVABLES, model=model).record(0, PARAMS)
