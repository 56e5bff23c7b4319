"""Trains a sweep slowly into the store named on the command line: in a batch, to be killed, or to be asked to stop.

    python many_sweeps.py STORE SECONDS_PER_RUN EXECUTOR [SHARD COUNT]

Exit code 130 after Ctrl-C.
"""

import sys

from fake_training import SlowTrainer, experiment

from sharplab.sweep import work
from sharplab.sweep.executors.opening import open_executor
from sharplab.sweep.plan import WHOLE, Shard
from sharplab.sweep.runner import run_with

SWEEP = experiment(seeds=4)

if __name__ == "__main__":
    work.FLUSH_SECONDS = 0.1
    store, seconds, executor, *shard = sys.argv[1:]
    part = Shard(*map(int, shard)) if shard else WHOLE
    try:
        with open_executor(executor) as workers:
            run_with(SlowTrainer(float(seconds)), SWEEP, store, executor=workers, shard=part)
    except KeyboardInterrupt:
        sys.exit(130)
