"""Spectra of checkpoints: what of a checkpoint is taken for the model and its optimizer, and what is refused."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx
from jax.flatten_util import ravel_pytree

import sharplab as sl
from sharplab.core import foreign_arrays
from sharplab.core.tree import named_leaves
from sharplab.losses import cross_entropy
from sharplab.optimizers import make_optimizer

RNG = np.random.default_rng(0)
BATCH = (RNG.standard_normal((12, 3)).astype(np.float32), RNG.integers(0, 2, 12))


def network(seed=0):
    rngs = nnx.Rngs(seed)
    return nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.tanh, nnx.Linear(3, 2, rngs=rngs))


class Normalised(nnx.Module):
    """With batch statistics, dropout and a constant."""

    def __init__(self, running):
        self.stem = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(3, use_running_average=running, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.dropout(self.norm(self.stem(x)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(linen.BatchNorm(use_running_average=True)(linen.Dense(3)(x)))


def losses(paths, model, **settings):
    found = sl.checkpoint_spectra(paths, model, BATCH, ["train_loss"], **settings)
    return [each.row["train_loss"] for each in found]


def trained_by_adam(transformation, steps):
    graphdef, params = nnx.split(network(), nnx.Param)

    def loss(params):
        return cross_entropy(nnx.merge(graphdef, params)(BATCH[0]), jnp.asarray(BATCH[1]))

    @jax.jit
    def step(params, state):
        updates, state = transformation.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state, loss


@pytest.mark.long
def test_the_metric_of_adam_is_made_of_the_state_in_the_checkpoint(tmp_path):
    transformation = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.02, b2=0.9))
    params, state, loss = trained_by_adam(transformation, 5)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "5", {"model": params, "opt_state": state})
    adam = state[1][0]
    arrays = {f"w/{name}": leaf for name, leaf in named_leaves(params).items()}
    arrays |= {f"state/nu/{name}": leaf for name, leaf in named_leaves(adam.nu).items()}
    np.savez(tmp_path / "6.npz", count=adam.count, **arrays)
    np.savez(tmp_path / "7.npz", **arrays, **{"state/count": adam.count})

    optimizer = make_optimizer("adamw", b2=0.9)
    flat, unravel = ravel_pytree(params)
    dense = np.asarray(jax.jit(jax.hessian(lambda w: loss(unravel(w))))(flat), np.float64)
    nu, t = np.asarray(ravel_pytree(adam.nu)[0], np.float64), int(adam.count)
    root = 1 / np.sqrt((1 - 0.9**t) * (np.sqrt(nu / (1 - 0.9**t)) + 1e-8))
    exact = np.linalg.eigvalsh(root[:, None] * dense * root[None, :])

    def measure(name):
        return sl.checkpoint_spectra(
            [tmp_path / name], network(1), BATCH, ["sharpness", "density"], optimizer=optimizer, keep=tmp_path / "kept"
        )

    (found,) = measure("5")
    assert abs(found.row["sharpness"] - exact[-1]) <= found.row["sharpness_error"] + 1e-4 * exact[-1]
    error = abs(float(found.density.moment(1)) - exact.mean())
    assert error <= 4 * float(found.density.moment_stderr(1)) + 1e-4 * exact[-1]
    (same,) = measure("7.npz")
    assert same.kept and same.row == found.row
    assert float(same.density.moment_stderr(2)) == float(found.density.moment_stderr(2))
    with pytest.raises(ValueError, match="optimizer's state the checkpoint lacks count"):  # that lies elsewhere
        next(measure("6.npz"))


def test_state_that_outputs_depend_on_must_be_in_the_checkpoint(tmp_path):
    model = Normalised(running=True)
    model.norm.mean[...] = jnp.array([0.1, -0.2, 0.3])
    whole = nnx.state(model)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "1", whole)
        checkpointer.save(tmp_path / "2", nnx.state(model, nnx.Param))
    model.set_attributes(deterministic=True, raise_if_not_found=False)
    exact = float(cross_entropy(model(BATCH[0])[:, :2], jnp.asarray(BATCH[1])))

    def loss(outputs, targets):
        return cross_entropy(outputs[:, :2], targets)

    assert losses([tmp_path / "1"], Normalised(running=True), loss=loss) == pytest.approx([exact])
    with pytest.raises(ValueError, match="model's state the checkpoint lacks norm/mean, norm/var"):
        losses([tmp_path / "2"], Normalised(running=True), loss=loss)
    # Of a batch's own statistics, outputs do not depend on the running ones.
    assert len(losses([tmp_path / "1", tmp_path / "2"], Normalised(running=False), loss=loss)) == 2


def test_linen_variables_or_params_alone(tmp_path):
    variables = Linen().init(jax.random.key(1), BATCH[0])
    variables["batch_stats"]["BatchNorm_0"]["mean"] = jnp.array([0.1, -0.2, 0.3])
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "1", variables)
        checkpointer.save(tmp_path / "2", {"step": 3, "state": variables, "ema": variables["params"]})
    np.savez(tmp_path / "3.npz", **named_leaves(variables["params"]))
    exact = float(cross_entropy(Linen().apply(variables, BATCH[0]), jnp.asarray(BATCH[1])))
    assert losses([tmp_path / "1"], Linen()) == pytest.approx([exact])
    assert losses([tmp_path / "2"], Linen(), params="state/params") == pytest.approx([exact])
    with pytest.raises(ValueError, match="lie in ema, state/params"):
        losses([tmp_path / "2"], Linen())
    with pytest.raises(ValueError, match="lacks batch_stats/BatchNorm_0/mean"):
        losses([tmp_path / "3.npz"], Linen())


@pytest.mark.long
def test_one_checkpoint_is_in_memory_at_a_time(tmp_path, monkeypatch):
    for step in range(3):
        np.savez(tmp_path / f"{step}.npz", **named_leaves(nnx.state(network(step))), unused=np.zeros(100))
    alive = []
    read = foreign_arrays.read_named_arrays

    def watched(path):
        gc.collect()
        assert not [array for array in alive if array() is not None]
        arrays = read(path)
        alive.extend(weakref.ref(array) for array in arrays.values())
        return arrays

    monkeypatch.setattr("sharplab.tracking.checkpoints.read_named_arrays", watched)
    with pytest.raises(ValueError, match="unused"):
        losses([tmp_path], network())
    alive.clear()
    for step in range(3):
        np.savez(tmp_path / f"{step}.npz", **named_leaves(nnx.state(network(step))))
    assert len(losses([tmp_path], network())) == 3
    assert len(alive) == 12


def test_what_is_kept_of_another_program_is_not_taken(tmp_path):
    np.savez(tmp_path / "1.npz", **named_leaves(nnx.state(network())))

    def kept(model, **settings):
        spectra = sl.checkpoint_spectra(
            [tmp_path / "1.npz"], model, BATCH, ["train_loss"], keep=tmp_path / "k", **settings
        )
        return [each.kept for each in spectra]

    edited = network()
    edited.layers[1] = nnx.relu
    assert [kept(network()), kept(network(1))] == [[False], [True]]
    assert kept(edited) == [False]
    assert kept(network(), loss=sl.losses.squared_error) == [False]
    for file in (tmp_path / "k").rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:-1])  # what was cut is measured again
    assert [kept(network()), kept(network())] == [[False], [True]]


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"optimizer": "muon"}, "optimizer has no metric"), ({"batch": BATCH[0]}, "batch"), ({"model": len}, "model")],
    ids=["optimizer", "batch", "model"],
)
def test_wrong_arguments_are_named(tmp_path, settings, says):
    np.savez(tmp_path / "1.npz", w=np.ones(2))
    with pytest.raises(ValueError, match=says):
        sl.checkpoint_spectra(**{"checkpoints": [tmp_path], "model": network(), "batch": BATCH} | settings)
