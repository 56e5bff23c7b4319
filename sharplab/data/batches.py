"""The order of training examples: which of them make up the batch of each step."""

import numpy as np


def batch_indices(seed: int, examples: int, batch_size: int, start: int, stop: int) -> np.ndarray:
    """Indices into the training examples for steps start..stop−1: int32, shape (stop − start, batch_size).

    Every epoch is a fresh permutation of the examples, cut into whole batches; its ragged tail is dropped. A
    step's batch depends on `seed` and the step alone: runs that share a seed see the same batches, and a
    resumed run the ones it would have seen.

    >>> batch_indices(seed=0, examples=4, batch_size=2, start=0, stop=2).ravel().tolist()
    [2, 0, 1, 3]
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}: give an integer from 0 to 2^32 - 1.")
    if not 1 <= batch_size <= examples:
        raise ValueError(
            f"batch_size is {batch_size} with {examples} training examples: give one from 1 to {examples}."
        )
    if not 0 <= start <= stop:
        raise ValueError(f"start is {start} and stop is {stop}: give 0 <= start <= stop.")
    per_epoch = examples // batch_size
    batches = np.empty((stop - start, batch_size), np.int32)
    for epoch in range(start // per_epoch, -(-stop // per_epoch)):
        order = np.random.default_rng([seed, epoch]).permutation(examples)[: per_epoch * batch_size]
        first = epoch * per_epoch
        low, high = max(start, first), min(stop, first + per_epoch)
        batches[low - start : high - start] = order.reshape(per_epoch, batch_size)[low - first : high - first]
    return batches
