"""The bundled 10,000 images of Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv:1708.07747)."""

from pathlib import Path

import numpy as np

from sharplab.data.dataset import Dataset, definition_checksum
from sharplab.data.idx import read_checksums, read_idx_gz, verify_checksum

NAME = "fashion-mnist-10k"
FOLDER = Path(__file__).parent / "fashion_mnist_10k"
IMAGES = "t10k-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"
TRAIN_EXAMPLES = 8192
PADDING = 2  # 28×28 → 32×32, the size at which the Figure-1 network ends at 1×1


def fashion_mnist_10k(folder: Path = FOLDER) -> Dataset:
    """Images (N, 32, 32, 1) as x/127.5 − 1 in [−1, 1], background −1; 8,192 to train, 1,808 to evaluate.

    Raises ValueError when a file in `folder` is missing, damaged or not the one in its SHA256SUMS.
    """
    sums = read_checksums(folder)
    for name in (IMAGES, LABELS):
        if name not in sums:
            raise ValueError(f"{folder / 'SHA256SUMS'} has no line for {name}; restore the original file.")
        verify_checksum(folder / name, sums[name])
    inputs = prepare_images(read_idx_gz(folder / IMAGES, rank=3))
    targets = read_idx_gz(folder / LABELS, rank=1).astype(np.int32)
    definition = (
        f"{NAME}; {IMAGES} {sums[IMAGES]}; {LABELS} {sums[LABELS]}; "
        f"x/127.5 - 1; pad {PADDING} with -1; first {TRAIN_EXAMPLES} train, rest evaluation"
    )
    return Dataset(
        name=NAME,
        train_inputs=inputs[:TRAIN_EXAMPLES],
        train_targets=targets[:TRAIN_EXAMPLES],
        eval_inputs=inputs[TRAIN_EXAMPLES:],
        eval_targets=targets[TRAIN_EXAMPLES:],
        classes=10,
        checksum=definition_checksum(definition),
    )


def prepare_images(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W) → float32 (N, H + 4, W + 4, 1): x/127.5 − 1, then a border of background (−1).

    >>> prepare_images(np.full((1, 1, 1), 255, np.uint8))[0, 1:4, 1:4, 0]
    array([[-1., -1., -1.],
           [-1.,  1., -1.],
           [-1., -1., -1.]], dtype=float32)
    """
    scaled = images.astype(np.float32) / np.float32(127.5) - np.float32(1)
    border = ((0, 0), (PADDING, PADDING), (PADDING, PADDING))
    return np.pad(scaled, border, constant_values=-1)[..., np.newaxis]
