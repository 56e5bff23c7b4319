"""Trains a sweep into a store on a disk that is too small for it, and copies what is left of it elsewhere.

python fill_a_disk.py STORE COPY
"""

import shutil
import sys

from fake_training import FakeTrainer, experiment

from sharplab.sweep import work
from sharplab.sweep.runner import run_with

SWEEP = experiment(seeds=60, records=9)

if __name__ == "__main__":
    work.FLUSH_SECONDS = 0.0
    try:
        run_with(FakeTrainer(), SWEEP, sys.argv[1])
    except ValueError as error:
        print(error)
    shutil.copytree(sys.argv[1], sys.argv[2])
