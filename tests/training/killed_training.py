"""Train the task of `test_resuming` with a checkpoint before every segment, and be killed while writing one.

Run as `python killed_training.py FOLDER NUMBER`, with the tests' folder on the path: the checkpoint that is never done.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

if __name__ == "__main__":
    from test_resuming import RUN, TASK
    from test_training import trained

    from sharplab.core import files
    from sharplab.training import loop as program
    from sharplab.training.train import Watch

    numbers, fatal = count(1), int(sys.argv[2])
    program.CHECKPOINT_SECONDS = 0.0
    files.sync_folder = lambda folder: None  # one wait for the disk per checkpoint
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL) if next(numbers) == fatal else None
    trained(TASK, [RUN], Watch(checkpoints=Path(sys.argv[1])))
