"""Layers that Flax normalises: refused where the norm of their weights goes with width, and flat where it does not."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from flax_models import Gated

from sharplab.checks import coordinate_check
from sharplab.losses import cross_entropy
from sharplab.scaling.any_module import mup, scale_module

BASE, WIDTH = 16, 64
WRAPPERS = {
    "weight": nnx.WeightNorm,
    "of the whole": partial(nnx.WeightNorm, feature_axes=None),
    "spectral": partial(nnx.SpectralNorm, n_steps=10),
}


class Net(nnx.Module):
    """Three layers, of which one is wrapped."""

    def __init__(self, width, rngs, *, wrapped, wrapper):
        sizes = {"input": (8, width), "hidden": (width, width), "output": (width, 3)}
        layers = {role: nnx.Linear(*size, rngs=rngs) for role, size in sizes.items()}
        layers[wrapped] = WRAPPERS[wrapper](layers[wrapped], rngs=rngs)
        self.input, self.hidden, self.output = layers.values()

    def __call__(self, x):
        return self.output(nnx.relu(self.hidden(nnx.relu(self.input(x)))))


@pytest.mark.parametrize("wrapper, wrapped", [
    ("weight", "output"), ("spectral", "output"), ("spectral", "input"),
    ("of the whole", "input"), ("of the whole", "hidden"), ("of the whole", "output"),
])  # fmt: skip
def test_a_layer_whose_norm_goes_with_width_is_refused(wrapper, wrapped):
    build = partial(Net, wrapped=wrapped, wrapper=wrapper)
    message = rf"'{wrapped}/layer_instance/kernel'.*without nnx\.\w+Norm"
    with pytest.raises(ValueError, match=message):
        mup(build, base=BASE, width=WIDTH)
    standard = scale_module(build, "standard", base=BASE, width=WIDTH)
    assert standard.table()["lr_factor"].eq(1).all()  # which promises nothing that a norm could undo


@pytest.mark.parametrize("wrapper, wrapped", [("weight", "input"), ("weight", "hidden"), ("spectral", "hidden")])
def test_others_are_scaled_as_without(wrapper, wrapped):
    table = mup(partial(Net, wrapped=wrapped, wrapper=wrapper), base=BASE, width=WIDTH).table()
    row = table.loc[f"{wrapped}/layer_instance/kernel"]
    assert (row["role"], row["lr_factor"]) == (wrapped, 1 if wrapped == "input" else BASE / WIDTH)


def test_what_a_filter_leaves_out_is_not_normalised():
    def build(width, rngs):
        return nnx.WeightNorm(nnx.Linear(width, 3, rngs=rngs), variable_filter=nnx.PathContains("other"), rngs=rngs)

    assert mup(build, base=BASE, width=WIDTH).table().loc["layer_instance/kernel", "role"] == "output"


def test_rounded_sizes_are_no_other_power():
    def build(width, rngs):
        module = Gated(width, rngs, of=8)
        module.up, module.down = (nnx.SpectralNorm(layer, rngs=rngs) for layer in (module.up, module.down))
        return module

    assert "rounded" in mup(build, base=BASE, width=WIDTH).table().loc["down/layer_instance/kernel", "remark"]


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["weight", "spectral"])
def test_normalised_hidden_layers_have_flat_coordinates(wrapper):
    batch = jax.random.normal(jax.random.key(0), (32, 8)), np.arange(32) % 3
    build, widths = partial(Net, wrapped="hidden", wrapper=wrapper), (64, 128, 256)
    found = coordinate_check(
        build, base=64, widths=widths, batch=batch, loss=cross_entropy, learning_rate=2**-8, seeds=3
    ).slopes()
    hidden = found[(found["kind"] == "hidden") & found["step"].isin((0, found["step"].max()))]
    assert hidden["slope"].abs().max() < 0.1
