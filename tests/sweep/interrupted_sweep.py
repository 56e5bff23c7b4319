"""Trains a sweep slowly into the store named on the command line, to be killed on the way."""

import sys
import time

from fake_training import FakeTrainer, experiment

from sharplab.sweep import runner


def train_slowly(task, lanes, *, progress=None):
    for result in FakeTrainer()(task, lanes, progress=progress):
        time.sleep(0.05)
        yield result


if __name__ == "__main__":
    runner.FLUSH_SECONDS = 0.1
    runner.run_with(train_slowly, experiment(refine=True, seeds=3), sys.argv[1])
