"""Trains a sweep slowly into the store named on the command line, to be killed on the way."""

import sys
import time

from fake_training import FakeTrainer, experiment

from sharplab.sweep import runner, work


def train_slowly(task, runs, watch):
    for run_batch in FakeTrainer()(task, runs, watch):
        time.sleep(0.05)
        yield run_batch


if __name__ == "__main__":
    work.FLUSH_SECONDS = 0.1
    runner.run_with(train_slowly, experiment(refine=True, seeds=3), sys.argv[1])
