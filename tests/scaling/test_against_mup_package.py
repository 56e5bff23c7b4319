"""The table for an MLP, parameter by parameter, beside the PyPI package `mup` (torch; arXiv 2203.03466)."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sharplab.losses import cross_entropy
from sharplab.scaling.any_module import mup
from sharplab.scaling.scaled import Scaling

torch = pytest.importorskip("torch")
peer = pytest.importorskip("mup")

FEATURES, CLASSES, BASE, WIDTH = 5, 3, 16, 64
RATE, DECAY = 0.1, 0.2
NAMES = {
    f"layers/{2 * i}/{ours}": f"{2 * i}.{theirs}"
    for i in range(3)
    for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
}


def uniform(key, shape, dtype):
    """Torch's: of weights within ±1/√fan-in."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def build(width, rngs):
    layers = [nnx.Linear(a, b, kernel_init=uniform, rngs=rngs) for a, b in sizes(width)]
    for layer in layers:  # and of biases
        bound = layer.in_features**-0.5
        layer.bias[...] = jax.random.uniform(rngs.params(), layer.bias.shape, minval=-bound, maxval=bound)
    return nnx.Sequential(layers[0], nnx.relu, layers[1], nnx.relu, layers[2])


def sizes(width):
    return (FEATURES, width), (width, 2 * width), (2 * width, CLASSES)


def build_peer(width, seed=0):
    torch.manual_seed(seed)
    first, second, last = sizes(width)
    return torch.nn.Sequential(
        torch.nn.Linear(*first), torch.nn.ReLU(), torch.nn.Linear(*second), torch.nn.ReLU(), peer.MuReadout(*last)
    )


@cache
def scaled_peer(width, seed=0):
    model = build_peer(width, seed)
    peer.set_base_shapes(model, build_peer(BASE), delta=build_peer(2 * BASE))
    return model


def multipliers():
    """In front of each of the package's parameters: its readout's weight has 1/width in units of the base."""
    readout = scaled_peer(WIDTH)[4]
    return {name: 1 / readout.width_mult() if name == "4.weight" else 1.0 for name in NAMES.values()}


@cache
def inferred() -> Scaling:
    with jax.enable_x64(False):  # whatever the test that comes first
        return mup(build, base=BASE, width=WIDTH)


def scaling(optimizer) -> Scaling:
    return replace(inferred(), algorithm=optimizer)


@pytest.mark.parametrize("ours", NAMES)
@pytest.mark.parametrize("optimizer, make, power", [
    ("sgd", "MuSGD", 2), ("momentum", "MuSGD", 2), ("adam", "MuAdam", 1), ("adamw", "MuAdamW", 1),
])  # fmt: skip
def test_learning_rates_and_decays_agree_up_to_the_readouts_multiplier(optimizer, make, power, ours):
    """A multiplier θ is moved into the weight by the abc symmetry: LR × θ² for SGD, × θ for Adam."""
    model = scaled_peer(WIDTH)
    groups = getattr(peer, make)(model.parameters(), lr=RATE, weight_decay=DECAY).param_groups
    found = {id(p): group for group in groups for p in group["params"]}[id(dict(model.named_parameters())[NAMES[ours]])]
    theta = multipliers()[NAMES[ours]]
    row = scaling(optimizer).table().loc[ours]
    assert np.isclose(row["lr_factor"], found["lr"] / RATE * theta**power)
    # LR × decay is what acts on a weight, whatever multiplier stands in front of it.
    assert np.isclose(row["lr_factor"] * row["decay_factor"], found["lr"] / RATE * found["weight_decay"] / DECAY)
    assert row["multiplier"] == 1


@pytest.mark.parametrize("ours", NAMES)
def test_initial_sizes_agree_up_to_the_readouts_multiplier(ours):
    draws = [dict(scaled_peer(WIDTH, seed).named_parameters())[NAMES[ours]].detach().numpy() for seed in range(150)]
    theirs = np.sqrt(np.mean(np.square(draws)))
    assert np.isclose(scaling("adam").table().loc[ours, "init_std"], multipliers()[NAMES[ours]] * theirs, rtol=0.08)


@pytest.mark.parametrize("optimizer, make, options", [
    ("sgd", "MuSGD", {}), ("adam", "MuAdam", {"eps": 1e-30}),
    ("adamw", "MuAdamW", {"eps": 1e-30, "weight_decay": DECAY}),
])  # fmt: skip
def test_both_train_alike(float64, optimizer, make, options):
    """The same weights up to the multiplier, the same batches: the same losses, here by torch and there by optax."""
    model = build_peer(WIDTH).double()
    peer.set_base_shapes(model, build_peer(BASE), delta=build_peer(2 * BASE))
    x, y = np.random.default_rng(0).standard_normal((8, FEATURES)), np.arange(8) % CLASSES
    theta, theirs = multipliers(), dict(model.named_parameters())
    params = {path: jnp.asarray(theta[name] * theirs[name].detach().numpy().T) for path, name in NAMES.items()}
    rate = 0.02 if optimizer == "sgd" else 0.003
    training = getattr(peer, make)(model.parameters(), lr=rate, **options)
    ours = scaling(optimizer).optimizer(rate, **options)
    state = ours.init(params)

    @jax.jit
    def step(params, state):
        def loss(w):
            h = x
            for i in (0, 2, 4):
                h = (h if i == 0 else jax.nn.relu(h)) @ w[f"layers/{i}/kernel"] + w[f"layers/{i}/bias"]
            return cross_entropy(h, y)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = ours.update(gradient, state, params)
        return value, optax.apply_updates(params, updates), state

    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
        training.zero_grad()
        loss.backward()
        training.step()
        value, params, state = step(params, state)
        losses.append((loss.item(), value.item()))
    there, here = np.transpose(losses)
    assert there[-1] < there[0] - 0.02
    assert np.allclose(here, there, rtol=0, atol=1e-10)
