"""Training of many runs of one compiled shape: a run as pure functions, batches of runs, their loop and checkpoints."""
