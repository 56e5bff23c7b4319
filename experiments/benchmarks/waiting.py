"""What `waits.py` times, each in a process of its own; the package that is imported is that of PYTHONPATH."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

SWEEP = ("sweep", "--preset", "smoke", "--no-refine", "--parameterizations", "mup", "--widths", "16", "--seeds", "1")
# The runs of the transfer figure as it was in version 0.1, but for the refinement of its grid.
FIRST_FIGURE = (
    "sweep", "--no-refine", "--widths", "8", "16", "32", "64", "--parameterizations", "mup", "ntk",
    "--learning-rates", "2^0:2^5", "--seeds", "4", "--steps", "256",
)  # fmt: skip


def package_folder() -> str:
    """Where the package lies that this process imports."""
    import sharplab as sl

    return str(Path(sl.__file__).parents[1])


def step(channels: int, steps: int) -> float:
    """Seconds of a training step of the Figure-1 ConvNet on one core, of runs of `steps` and three times as many."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # before jax counts the cores
    import sharplab as sl

    def seconds(steps: int, seed: int) -> float:
        grid = sl.Experiment(
            model="figure1_convnet", widths=(channels,), depths=(2,), parameterizations=("mup",), seeds=(seed,),
            learning_rates=(0.125,), steps=steps, batch_size=128, probe_size=128, records=2,
            observables=("train_loss",),
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            began = perf_counter()
            sl.run(grid, folder)
            return perf_counter() - began

    for length in (steps, 3 * steps):
        seconds(length, seed=0)  # compiles
    return (seconds(3 * steps, seed=1) - seconds(steps, seed=1)) / (2 * steps)


def further_program(gammas: Sequence[float]) -> float:
    """Seconds of CPU of one more parameterization or γ of a width that was trained before, its sharpness recorded."""
    import sharplab as sl

    def train(parameterization: str, gamma: float) -> None:
        grid = sl.Experiment(
            widths=(16,), parameterizations=(parameterization,), learning_rates=(0.125,), seeds=1, gamma=gamma, steps=4,
            records=2, observables=("train_loss", "sharpness"), probe_size=64,
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            sl.run(grid, folder)

    train("mup", 1.0)
    further = [("ntk", 1.0), *(("mup", gamma) for gamma in gammas)]
    began = process_time()
    for parameterization, gamma in further:
        train(parameterization, gamma)
    return (process_time() - began) / len(further)


def last_command(commands: Sequence[Sequence[str]]) -> float:
    """Seconds of CPU of the last of some commands of `sharplab`, run one after another in an empty folder."""
    with TemporaryDirectory() as folder:
        return [_cpu_seconds(words, Path(folder)) for words in commands][-1]


def _cpu_seconds(words: Sequence[str], folder: Path) -> float:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "sharplab", *words], cwd=folder, capture_output=True, check=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
