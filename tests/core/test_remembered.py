"""Answers kept within a process: of one precision they do not serve the other."""

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.core.remembered import cached_by_precision
from sharplab.schedules import find_schedule, tabulated
from sharplab.training.task import Task, find_recipe


def test_each_precision_has_its_own_and_is_computed_once():
    calls = []

    @cached_by_precision(maxsize=4)
    def halved(n, by=2):
        calls.append(n)
        return jnp.arange(float(n)) / by

    for _ in range(2):
        assert halved(3).dtype == jnp.float32
        with jax.enable_x64(True):
            assert halved(3).dtype == jnp.float64
    assert len(calls) == 2 and halved.__name__ == "halved"
    np.testing.assert_allclose(halved(3, by=4), [0, 0.25, 0.5])


def test_schedules_and_recipes_made_in_one_precision_serve_the_other():
    task = Task(
        width=4,
        steps=9,
        schedule="linear",
        data="gaussian-clusters",
        model="mlp",
        depth=1,
        parameterization="mup",
        record_steps=(0, 9),
    )
    for wide in (True, False, True):
        with jax.enable_x64(wide):
            own = jnp.result_type(float)
            for schedule in (tabulated(find_schedule("linear", 9), 9), find_recipe(task).schedule):
                assert schedule(3).dtype == own
                np.testing.assert_allclose(schedule(3), 6 / 9, rtol=2 * jnp.finfo(own).eps)
