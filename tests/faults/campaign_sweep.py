"""Trains the campaign's sweep into a store, to be disturbed on the way.

    python campaign_sweep.py STORE EXECUTOR

Real training of small networks, diverging ones among them. Results and checkpoints are written every half second, so
that there is much to break. Exit codes are those of commands.
"""

import sys
import warnings

from sharplab.commands.exit_codes import exit_code_of
from sharplab.sweep import Experiment, work
from sharplab.sweep.executors import cluster
from sharplab.sweep.executors.opening import open_executor
from sharplab.sweep.runner import run_with
from sharplab.training import loop as program
from sharplab.training.train import train_runs

SWEEP = Experiment(
    model="residual_mlp",
    data="gaussian-clusters",
    widths=(4, 8),
    base_width=4,
    depths=(2,),
    parameterizations=("mup",),
    learning_rates=(0.05, 0.1, 0.2, 0.4, 1e4),  # the last diverges: its later losses are NaN
    seeds=4,
    steps=5000,
    records=7,
    batch_size=32,
    probe_size=64,
    observables=("train_loss", "eval_loss", "sharpness"),
    optimizer="momentum",
)


def train_in_small_bites(task, runs, watch):
    """Real training, in a worker process as here."""
    hurry()
    yield from train_runs(task, runs, watch)


def hurry() -> None:
    """Write twice a second."""
    work.FLUSH_SECONDS = program.CHECKPOINT_SECONDS = 0.5
    program.SEGMENT_SECONDS = 0.1


if __name__ == "__main__":
    from campaign_sweep import train_in_small_bites  # under a name that workers can import

    hurry()
    cluster.ANSWER_SECONDS = 2.0  # for a scheduler that will not come back
    warnings.simplefilter("ignore")

    def command() -> None:
        with open_executor(sys.argv[2]) as executor:
            run_with(train_in_small_bites, SWEEP, sys.argv[1], executor=executor)

    sys.exit(exit_code_of(command))
