"""Counts of arithmetic against those of formulas."""

import jax
import jax.numpy as jnp
import pytest

from sharplab.core.jaxprs import product_flops
from sharplab.sweep import Experiment
from sharplab.sweep.plan import tasks
from sharplab.training.flops import training_flops
from sharplab.training.task import find_recipe


def flops(function, *shapes):
    return product_flops(jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)))


def test_products_in_loops_branches_and_functions_count():
    def times(x, W):
        return jnp.sin(x @ W)

    once = 2 * 4 * 3 * 3
    assert flops(times, (4, 3), (3, 3)) == once
    assert flops(jax.jit(times), (4, 3), (3, 3)) == once
    assert (
        flops(lambda x, W: jax.lax.scan(lambda c, _: (times(c, W), None), x, length=7)[0], (4, 3), (3, 3)) == 7 * once
    )
    assert flops(lambda x, W: jax.lax.map(lambda row: row @ W, x), (4, 3), (3, 3)) == once
    assert flops(lambda x, W: jax.lax.cond(x[0, 0] > 0, times, lambda x, W: x, x, W), (4, 3), (3, 3)) == once
    assert flops(lambda x, W: jax.lax.while_loop(lambda c: c[0, 0] > 0, lambda c: c @ W, x), (4, 3), (3, 3)) == once
    assert flops(jnp.add, (4, 3), (4, 3)) == 0


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_count_their_kernel_per_output(groups):
    def convolve(x, kernel):
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=axes, feature_group_count=groups
        )

    assert flops(convolve, (5, 8, 8, 4), (3, 3, 4 // groups, 6)) == 2 * 5 * 4 * 4 * 6 * 3 * 3 * 4 // groups


@pytest.mark.parametrize("width", [8, 32])
def test_a_step_is_three_forward_passes(width):
    experiment = Experiment(
        model="mlp", widths=width, learning_rates=1.0, data="gaussian-clusters", batch_size=32, steps=10, records=2
    )
    (task, other) = tasks(experiment)  # muP and NTK
    matrices = [w.size for w in jax.tree.leaves(find_recipe(task).network.abstract.params) if w.ndim == 2]
    assert training_flops(task) == training_flops(other) == 10 * 3 * 2 * 32 * sum(matrices)
