"""The share of the machine's rate of matrix products that training reaches."""

from typing import Any

import jax
import numpy as np
from harness import in_turn, seconds_of, spread
from plain_loop import lab_seconds, train_by_hand

from sharplab.data import load_dataset
from sharplab.training.layout import use_all_cores
from sharplab.training.task import Run, Task
from sweeps.runs import Runs


def matrix_sizes(task: Task) -> dict[str, int]:
    """Entries of the residual MLP's weight matrices, by layer."""
    dataset = load_dataset(task.data)
    inputs = int(np.prod(dataset.train_inputs.shape[1:]))
    return {"stem": inputs * task.width, "blocks": task.depth * task.width**2, "readout": task.width * dataset.classes}


def step_flops(task: Task) -> float:
    """Floating-point operations of one training step, counted by hand.

    Per example and entry of a matrix 2 forward and 4 backward, but for the stem, whose inputs need no gradient.
    """
    sizes = matrix_sizes(task)
    return (6 * sum(sizes.values()) - 2 * sizes["stem"]) * task.batch_size


def matmul_share(runs: dict[str, Any], rows: int, repetitions: int) -> dict[str, Any]:
    """Arithmetic per second of the lab, a run on each device, over that of large float32 matrix products.

    The rate of products is the better of one on all cores and of one per device at once. The plain loop's share says
    how many times as fast as it anything can be that computes the same in float32. Contestants in turn.
    """
    use_all_cores()
    devices, task, rates = jax.devices(), Runs(**runs).task, runs["learning_rates"]
    squares = [jax.device_put(jax.random.normal(jax.random.key(0), (rows, rows)), device) for device in devices]
    multiply = jax.jit(jax.numpy.matmul)
    trained = [Run(rates[i % len(rates)], seed=i) for i in range(len(devices))]
    contestants = {
        "training": lambda: lab_seconds(task, trained),
        "plain loop": lambda: seconds_of(train_by_hand, task, rates[0], 0),
        "one product": lambda: seconds_of(multiply, squares[0], squares[0]),
        "one per device": lambda: seconds_of(lambda: [multiply(a, a) for a in squares]) / len(devices),
    }
    seconds = in_turn(contestants, repetitions, warm_up=True)
    fastest = min(("one product", "one per device"), key=lambda name: np.median(seconds[name]))
    products = 2 * rows**3 / seconds[fastest]
    steps = len(devices) * task.steps / seconds["training"]
    flops, rate = step_flops(task), float(np.median(products))
    return {
        "width": task.width,
        "matrix_entries": sum(matrix_sizes(task).values()),
        "matmul_flops_per_second": spread(products),
        "matmul_by": fastest,
        "steps_per_second": spread(steps),
        "share_made": spread(steps * flops / rate),
        "plain_share_made": spread(task.steps / seconds["plain loop"] * flops / rate),
    }
