"""Drivers repeat steps alike; formations give each lane its own result whatever the company."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharplab.core.loops import choose_driver, dispatch, repeat_while
from sharplab.training.layout import Formation

KERNEL, IMAGE = jnp.ones((3, 3, 1, 1)), jnp.ones((1, 4, 4, 1))


def convolve(x):
    return jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("driver", ["loop", "dispatch"])
def test_repeat_while_stops_when_finished(driver):
    state = repeat_while(
        lambda s: s[0] < 5, jax.jit(lambda s: (s[0] + 1, s[1] * 2)), (jnp.array(0), jnp.array(1.0)), driver
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
    assert choose_driver(function, IMAGE) == "dispatch"
    assert choose_driver(function, jax.ShapeDtypeStruct(IMAGE.shape, IMAGE.dtype)) == "dispatch"


def test_matrix_products_are_looped():
    assert choose_driver(jax.grad(lambda x: (x @ x.T).sum()), jnp.ones((3, 3))) == "loop"


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("per_device", [1, 3])
def test_each_lane_gets_its_own_result(per_device, one_by_one):
    formation = Formation(tuple(jax.local_devices()), per_device)
    assert formation.size == per_device * len(jax.local_devices())
    assert formation.mode == ("sequential" if per_device == 1 else "vectorised")
    lanes = jnp.arange(float(formation.size * 2)).reshape(formation.size, 2)
    shared = formation.place(jnp.array([10.0, 1.0]))
    found = formation.each(lambda x, y, s: {"out": x @ s + y}, (lanes, lanes[:, 0]), (shared,), one_by_one=one_by_one)
    assert np.allclose(found["out"], lanes @ np.array([10.0, 1.0]) + lanes[:, 0])
