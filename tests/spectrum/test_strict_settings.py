"""All of the lab under JAX's strictest settings: no implicit promotion of types or ranks, and no NaN on the way.

Rank promotion is refused in every test. Here every public operator, estimator and observable, and a training of every
optimizer, also run where types must agree and a NaN within a program is an error; losses are the same bit for bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sharplab as sl
from sharplab.curvature import directional
from sharplab.tracking.observables import OBSERVABLES, SPECTRA

RNG = np.random.default_rng(0)
PARAMS = {
    "hidden": jnp.asarray(RNG.standard_normal((4, 5)) / 2, jnp.float32),
    "readout": [jnp.asarray(RNG.standard_normal((5, 3)) / 2, jnp.float32), jnp.asarray(0.1)],
}
INPUTS = jnp.asarray(RNG.standard_normal((9, 4)), jnp.float32)
TARGETS = {
    sl.losses.cross_entropy: jnp.asarray(RNG.integers(0, 3, 9), jnp.int32),
    sl.losses.squared_error: jnp.asarray(RNG.standard_normal((9, 3)), jnp.float32),
}
LOSSES = list(TARGETS)


def model(params, inputs):
    weights, bias = params["readout"]
    return jnp.tanh(inputs @ params["hidden"]) @ weights + bias


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.debug_nans(True):
        yield


def operators(loss, chunk=None, params=PARAMS):
    """Every kind of operator, by name."""
    batch = (INPUTS, TARGETS[loss])
    H = sl.hessian(loss, params, batch, model=model, chunk=chunk)
    G = sl.gauss_newton(model, loss, params, batch, chunk=chunk)
    fishers = {
        kind: sl.fisher(model, loss, params, batch, kind=kind, chunk=chunk) for kind in ("exact", "mc", "empirical")
    }
    scale = jax.tree.map(lambda w: jnp.abs(w) + 0.5, params)
    return fishers | {
        "hessian": H,
        "Gauss-Newton": G,
        "kernel": sl.ntk(model, params, INPUTS, scale=scale, chunk=chunk),
        "sum": 0.5 * H - G / 3,
        "in a metric": sl.precondition(G, scale),
        "block": sl.block(G, lambda path: path.startswith("readout")),
        "host": sl.hessian(loss, params, [jax.tree.map(np.asarray, batch)], model=model),
        "dual": G.dual(),
    }


ESTIMATORS = {
    "eigsh": lambda op: sl.eigsh(op).values,
    "eigsh of both ends": lambda op: sl.eigsh(op, 3, which="BE").values,
    "eigsh from a start": lambda op: sl.eigsh(op, 2, start=sl.eigsh(op).vectors, which="LM").values,
    "density": lambda op: sl.spectral_density(op, steps=6, probes=2).density(jnp.linspace(0.0, 1.0, 5)),
    "logdet": lambda op: sl.logdet(op, 50).value,
    "effective dimension": lambda op: sl.effective_dimension(op, 50.0).value,
    "diagonal": lambda op: sl.diagonal(op, matvecs=6).value,
    "exact trace": lambda op: sl.trace(op, matvecs=100).value,
    "xtrace": lambda op: sl.trace(op, matvecs=8).value,
    "hutch++": lambda op: sl.trace(op, method="hutch++", matvecs=8).value,
    "hutchinson": lambda op: sl.trace(op, method="hutchinson", matvecs=8).value,
}


def all_finite(found):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(("loss", "chunk"), [(LOSSES[0], None), (LOSSES[1], 4)])
@pytest.mark.long
def test_every_operator_multiplies(loss, chunk):
    for name, op in operators(loss, chunk).items():
        A = op.dense()
        assert np.isfinite(A).all(), name
        assert np.allclose(op @ np.ones(len(A), np.float32), A.sum(1), atol=1e-4), name


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.long
def test_every_estimator_estimates(estimator):
    made = operators(sl.losses.cross_entropy)
    assert all_finite(jax.jit(estimator)(made["Gauss-Newton"]))
    assert all_finite(estimator(made["host"]))


def test_the_gradient_of_an_eigenvalue():
    def sharpness(w):
        return sl.eigsh(operators(sl.losses.cross_entropy, params=w)["hessian"]).values[0]

    assert all_finite(jax.jit(jax.grad(sharpness))(PARAMS))


def test_directions():
    batch = (INPUTS, TARGETS[sl.losses.cross_entropy])
    op, loss = operators(sl.losses.cross_entropy)["hessian"], sl.losses.cross_entropy
    assert np.isfinite(directional.directional_sharpness(op, PARAMS))
    assert np.isfinite(directional.batch_sharpness(loss, PARAMS, [batch, batch], model=model).value)
    assert all_finite(directional.leaf_shares(PARAMS))
    assert all_finite(sl.critical_sharpness(loss, PARAMS, op(jax.tree.map(jnp.negative, PARAMS)), batch, model=model))
    assert np.isfinite(directional.subspace_overlap(PARAMS, sl.eigsh(op, 2).vectors))


@pytest.mark.long
def test_products_by_differences_and_of_ones_own():
    batch = (INPUTS, TARGETS[sl.losses.cross_entropy])
    for chunk in (None, 4):
        op = sl.hessian(sl.losses.cross_entropy, PARAMS, batch, model=model, chunk=chunk, method="difference")
        assert all_finite(sl.eigsh(op))
        assert all_finite(sl.eigsh(sl.precondition(op, jax.tree.map(lambda w: 0.5, PARAMS)) - 2 * op))
    for jittable in (True, False):
        own = sl.operator(lambda v: jax.tree.map(lambda x: 2 * x, v), PARAMS, jittable=jittable)
        assert np.isclose(sl.eigsh(own).values[0], 2)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.long
def test_a_tracker_of_all_observables(loss):
    batch, optimizer = (INPUTS, TARGETS[loss]), optax.adam(0.1)
    tracker = sl.Tracker(
        loss,
        batch,
        [*OBSERVABLES, *(f"{name}_top2" for name in SPECTRA)],
        model=model,
        metric=lambda params, opt_state: jax.tree.map(lambda nu: 1 / (jnp.sqrt(nu) + 1), opt_state[0].nu),
        eval_batch=batch,
        chunk=3,
        learning_rate=optax.cosine_decay_schedule(10.0, 20),  # such that eigenvalues lie above 1.5/η
    )
    opt_state = optimizer.init(PARAMS)
    for step in range(9):
        row = tracker.record(step, PARAMS, opt_state)
    assert all(np.isfinite(value) for value in row.values())
    assert bool("eval_accuracy" in row) == (loss is sl.losses.cross_entropy)


SWEEP = {
    "widths": (4,),
    "seeds": 1,
    "base_width": 4,
    "learning_rates": (0.01,),
    "data": "gaussian-clusters",
    "steps": 4,
    "batch_size": 16,
    "probe_size": 16,
    "records": 2,
    "observables": ("train_loss", "eval_loss", "sharpness"),
}


@pytest.mark.parametrize("optimizer", ["momentum", "lion"])  # optax's Adam is not strict itself
@pytest.mark.long
def test_sweeps_train_to_the_same_losses_bit_for_bit(optimizer, tmp_path):
    sweep = sl.Experiment(**SWEEP, parameterizations=("mup", "ntk"), optimizer=optimizer)
    found = sl.run(sweep, tmp_path / "strict").curves
    with jax.numpy_dtype_promotion("standard"), jax.debug_nans(False), jax.numpy_rank_promotion("allow"):
        usual = sl.run(sweep, tmp_path / "usual").curves
    columns = ["parameterization", "width", "step"]
    assert (found["sharpness"] > 0).all() and (found["sharpness_error"] < found["sharpness"]).all()
    assert np.array_equal(*(table.sort_values(columns)["train_loss"] for table in (found, usual)))


@pytest.mark.parametrize("name", ["standard", "ntk", "mup", "mean_field"])
def test_parameterizations_and_scaled_modules_begin(name):
    from flax import nnx

    def build(width, rngs):
        layers = nnx.Linear(4, width, rngs=rngs), jax.nn.relu, nnx.Linear(width, 3, rngs=rngs)
        return nnx.Sequential(*layers)

    assert name in str(sl.parameterization(name))
    assert all_finite(nnx.state(sl.mup(build, base=8, width=16).init(jax.random.key(0))))
