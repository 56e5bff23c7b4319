"""How much of what the machine can multiply, training multiplies."""

from typing import Any

import jax
import numpy as np
from measures import in_turn, seconds_of, spread

from sharplab.data import load_dataset
from sharplab.training.layout import use_all_cores
from sharplab.training.task import Run, Task
from sharplab.training.train import train_runs
from sweeps.by_hand import train_by_hand
from sweeps.runs import Runs


def matrix_sizes(task: Task) -> dict[str, int]:
    """Entries of the residual MLP's weight matrices, by layer."""
    dataset = load_dataset(task.data)
    inputs = int(np.prod(dataset.train_inputs.shape[1:]))
    return {
        "stem": inputs * task.width,
        "blocks": task.depth * task.width**2,
        "readout": task.width * dataset.classes,
    }


def step_flops(task: Task) -> dict[str, float]:
    """Of one training step, counted by hand.

    "six": 6 per example and entry of a matrix, 2 forward and 4 backward. "made": what is computed, as the stem's
    inputs need no gradient.
    """
    sizes = matrix_sizes(task)
    six = 6 * sum(sizes.values()) * task.batch_size
    return {"six": six, "made": six - 2 * sizes["stem"] * task.batch_size}


def matmul_share(runs: Runs, rows: int, repetitions: int) -> dict[str, Any]:
    """Arithmetic per second of `train_runs`, a run on each device, over that of large float32 matrix products.

    The rate of products is the better of one on all cores and of one per device at once. The plain loop's share says
    how many times as fast as it anything can be that computes the same in float32. Contestants in turn.
    """
    use_all_cores()
    devices, task = jax.devices(), runs.task
    squares = [jax.device_put(jax.random.normal(jax.random.key(0), (rows, rows)), device) for device in devices]
    multiply = jax.jit(jax.numpy.matmul)
    runs = [Run(runs.learning_rates[i % len(runs.learning_rates)], seed=i) for i in range(len(devices))]
    contestants = {
        "training": lambda: _training_seconds(task, runs),
        "plain loop": lambda: seconds_of(train_by_hand, task, runs[0].learning_rate, runs[0].seed),
        "one product": lambda: seconds_of(multiply, squares[0], squares[0]),
        "one per device": lambda: seconds_of(lambda: [multiply(a, a) for a in squares]) / len(devices),
    }
    for contestant in contestants.values():
        contestant()
    seconds = {name: np.array(values) for name, values in in_turn(contestants, repetitions).items()}
    products = min(("one product", "one per device"), key=lambda name: np.median(seconds[name]))
    rates = 2 * rows**3 / seconds[products]
    steps = len(runs) * task.steps / seconds["training"]
    flops, rate = step_flops(task), float(np.median(rates))
    return {
        "width": task.width,
        "matrix_entries": sum(matrix_sizes(task).values()),
        "matmul_flops_per_second": spread(rates),
        "matmul_by": products,
        "steps_per_second": spread(steps),
        "share_made": spread(steps * flops["made"] / rate),
        "share_six": spread(steps * flops["six"] / rate),
        "plain_share_made": spread(task.steps / seconds["plain loop"] * flops["made"] / rate),
    }


def _training_seconds(task: Task, runs: list[Run]) -> float:
    """Of all runs, with the drawing of weights and two records, without the placing of the data."""
    results = [result for run_batch in train_runs(task, runs) for result in run_batch]
    if any(result.diverged for result in results):
        raise ValueError(f"a run of width {task.width} diverged, and cost too little: give smaller learning rates.")
    return sum(result.seconds for result in results)
