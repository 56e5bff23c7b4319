"""Data sets of text: windows of tokens, and of each token the one that follows."""

import numpy as np

from sharplab.data.dataset import Dataset, make_dataset
from sharplab.data.tokenizers import Tokenizer

EVAL_WINDOWS = 512  # spread evenly over the held-out text: an evaluation within seconds
SEED = 20240601


def next_token_windows(tokens: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n,) → inputs and targets, int32 (windows, length): non-overlapping, the targets one token on.

    >>> inputs, targets = next_token_windows(np.arange(8), 3)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    windows = (len(tokens) - 1) // length
    if windows < 1:
        raise ValueError(f"tokens are {len(tokens)}: a window of {length} and what follows it need {length + 1}.")
    end = windows * length
    inputs, targets = tokens[:end].reshape(-1, length), tokens[1 : end + 1].reshape(-1, length)
    return inputs.astype(np.int32), targets.astype(np.int32)


def next_token_dataset(name: str, origin: str, train: bytes, held_out: bytes, tokenizer: Tokenizer) -> Dataset:
    """The next-token data set of a training text and a held-out one.

    Training windows come in a fixed random order, so that the first ones, on which curvature is measured, are drawn
    from the whole text. `origin` says what determines the two texts and the tokenizer, for the checksum.
    """
    inputs, targets = next_token_windows(tokenizer.encode(train), tokenizer.window)
    order = np.random.default_rng(SEED).permutation(len(inputs))
    eval_inputs, eval_targets = next_token_windows(tokenizer.encode(held_out), tokenizer.window)
    windows = min(EVAL_WINDOWS, len(eval_inputs))
    spread = np.arange(windows) * len(eval_inputs) // windows
    definition = (
        f"{name}; {origin}; {tokenizer.name}; windows of {tokenizer.window}; training in the order of "
        f"default_rng({SEED}).permutation; {EVAL_WINDOWS} evenly spaced for evaluation"
    )
    train_part, eval_part = (inputs[order], targets[order]), (eval_inputs[spread], eval_targets[spread])
    return make_dataset(name, train_part, eval_part, tokenizer.vocabulary, definition)
