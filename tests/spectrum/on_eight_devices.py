"""Run by test_sharding in a process of its own: spectra with the batch, the parameters, or both over 8 devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sharplab.curvature import critical_sharpness, gauss_newton, hessian
from sharplab.losses import cross_entropy
from sharplab.spectrum import eigsh, extremal, spectral_density, trace
from sharplab.spectrum.target import Target
from sharplab.spectrum.thick_restart import ThickRestart

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)  # what takes time here is compiling
MESH = Mesh(np.array(jax.devices()), ("devices",))


def model(params, inputs):
    return jnp.tanh(inputs @ params["hidden"]) @ params["readout"]


def placed(tree, **axes):
    """Each leaf split along one axis, by name; whole on every device where none is named."""
    return {
        name: jax.device_put(leaf, NamedSharding(MESH, PartitionSpec(*[None] * axes.get(name, 0), "devices")))
        if name in axes
        else jax.device_put(leaf, NamedSharding(MESH, PartitionSpec()))
        for name, leaf in tree.items()
    }


rng = np.random.default_rng(0)
params = {
    "hidden": jnp.asarray(rng.standard_normal((64, 512)), jnp.float32) / 8,
    "readout": jnp.asarray(rng.standard_normal((512, 8)), jnp.float32) / 16,
}
batch = {"inputs": jnp.asarray(rng.standard_normal((64, 64)), jnp.float32), "targets": jnp.arange(64) % 8}

whole_params, split_params = placed(params), placed(params, hidden=1, readout=0)
whole_batch, split_batch = placed(batch), placed(batch, inputs=0, targets=0)
layouts = {
    "batch": (whole_params, split_batch),
    "params": (split_params, whole_batch),
    "both": (split_params, split_batch),
}


def operators(params, batch):
    examples = (batch["inputs"], batch["targets"])
    return (
        hessian(cross_entropy, params, examples, model=model),
        gauss_newton(model, cross_entropy, params, examples),
    )


alone = [eigsh(op, 3, tol=1e-5).values for op in operators(params, batch)]
traced = trace(operators(params, batch)[0], matvecs=8, method="hutchinson").value
bulk = spectral_density(operators(params, batch)[0], steps=8, probes=2).moment(2)
for name, layout in layouts.items():
    H = operators(*layout)[0]
    found = eigsh(H, 3, tol=1e-5)
    assert found.converged.all(), name
    assert np.allclose(found.values, alone[0], rtol=1e-4), (name, found.values, alone[0])
    for vector in jax.tree.leaves(found.vectors):
        share = vector.addressable_shards[0].data.size / vector.size
        assert share == (1 if name == "batch" else 1 / 8), (name, share)
H, G = operators(*layouts["both"])
assert np.allclose(eigsh(G, 3, tol=1e-5).values, alone[1], rtol=1e-4)
assert np.isclose(trace(H, matvecs=8, method="hutchinson").value, traced, rtol=1e-4)
assert np.isclose(spectral_density(H, steps=8, probes=2).moment(2), bulk, rtol=1e-3)


# In four vectors, and with parameters kept in 16 bits, of which vectors are of 32.
few = eigsh(H, tol=1e-5, basis=4)
assert np.allclose(few.values, alone[0][:1], rtol=1e-4)
halves = eigsh(operators(*(jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), batch))[0], tol=1e-2)
split_halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), split_params)
found = eigsh(operators(split_halves, split_batch)[0], tol=1e-2, basis=4)
assert np.allclose(found.values, halves.values, rtol=2e-2) and np.allclose(found.values, alone[0][:1], rtol=3e-2)
for vector in jax.tree.leaves((few.vectors, found.vectors)):
    assert vector.dtype == jnp.float32
    assert vector.addressable_shards[0].data.nbytes == vector.nbytes / 8


def sharpness(params, batch):
    examples = (batch["inputs"], batch["targets"])
    step = jax.tree.map(jnp.negative, jax.grad(loss)(params, examples))
    return critical_sharpness(loss, params, step, examples).value


def loss(params, examples):
    return cross_entropy(model(params, examples[0]), examples[1])


assert np.isclose(sharpness(split_params, split_batch), sharpness(params, batch), rtol=1e-3)


def temporary(params, batch):
    """Bytes that one device needs beside arguments and results."""
    op = operators(params, batch)[0]
    solver = ThickRestart(Target("LA", 3), jnp.asarray(0.0), jnp.asarray(0), jax.random.key(0))
    program = extremal._run_compiled.lower(solver, op, op.domain, spare=0, flat=False, loop="compiled")
    return program.compile().memory_analysis().temp_size_in_bytes


split, whole = temporary(split_params, split_batch), temporary(whole_params, split_batch)
assert split < whole / 4, (split, whole)
print("as alone")
