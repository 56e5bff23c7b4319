"""Loops repeat steps alike; layouts give each run its own result whatever the run batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.core.loops import choose_loop, dispatch, repeat_while
from sharplab.training.layout import DeviceLayout

KERNEL, IMAGE = jnp.ones((3, 3, 1, 1)), jnp.ones((1, 4, 4, 1))


def convolve(x):
    return jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("loop", ["compiled", "python"])
def test_repeat_while_stops_when_finished(loop):
    state = repeat_while(
        lambda s: s[0] < 5, jax.jit(lambda s: (s[0] + 1, s[1] * 2)), (jnp.array(0), jnp.array(1.0)), loop
    )
    assert state[0] == 5
    assert state[1] == 32


def test_dispatch_hands_each_step_its_number():
    assert dispatch(lambda s, i: s * 10 + i, 0, 4) == 123


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other backends convolve as fast in loops")
@pytest.mark.parametrize(
    "function",
    [
        convolve,
        jax.jit(convolve),
        jax.grad(lambda x: jax.jit(convolve)(x).sum()),
        lambda x: jax.lax.scan(lambda c, _: (convolve(c), None), x, length=2)[0],
        lambda x: jax.lax.cond(x.sum() > 0, convolve, lambda y: y, x),
        jax.checkpoint(convolve),
    ],
    ids=["plain", "jit", "grad of jit", "scan", "cond", "checkpoint"],
)
def test_convolutions_are_found_wherever_they_hide(function):
    assert choose_loop(function, IMAGE) == "python"
    assert choose_loop(function, jax.ShapeDtypeStruct(IMAGE.shape, IMAGE.dtype)) == "python"


def test_matrix_products_are_looped():
    assert choose_loop(jax.grad(lambda x: (x @ x.T).sum()), jnp.ones((3, 3))) == "compiled"


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("per_device", [1, 3])
def test_each_run_gets_its_own_result(per_device, one_by_one):
    layout = DeviceLayout(tuple(jax.local_devices()), per_device)
    assert layout.size == per_device * len(jax.local_devices())
    assert layout.mode == ("sequential" if per_device == 1 else "vectorised")
    runs = jnp.arange(float(layout.size * 2)).reshape(layout.size, 2)
    shared = layout.replicate(jnp.array([10.0, 1.0]))
    found = layout.map(lambda x, y, s: {"out": x @ s + y}, (runs, runs[:, 0]), (shared,), one_by_one=one_by_one)
    assert np.allclose(found["out"], runs @ np.array([10.0, 1.0]) + runs[:, 0])
