"""CIFAR-10 (Krizhevsky, Learning multiple layers of features from tiny images, 2009) in its binary form, downloaded.

The digest is the one that TensorFlow Datasets records. The tests read a small archive of the same format.
"""

from pathlib import Path

import numpy as np

from sharplab.data.archives import read_tar
from sharplab.data.dataset import Dataset, make_dataset
from sharplab.data.downloads import Source, fetch
from sharplab.data.images import scale_pixels

ARCHIVE = Source(
    "cifar-10/cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"{FOLDER}/data_batch_{i}.bin" for i in range(1, 6))
TEST = f"{FOLDER}/test_batch.bin"
CLASSES = 10
SHAPE = (3, 32, 32)


def cifar_10(source: Source = ARCHIVE) -> Dataset:
    """Images (N, 32, 32, 3) as x/127.5 − 1 in [−1, 1]; the official 50,000 to train and 10,000 to evaluate."""
    path = fetch(source)
    files = read_tar(path, (*TRAIN, TEST))
    train, held_out = _read(b"".join(files[name] for name in TRAIN), path), _read(files[TEST], path)
    definition = f"cifar-10; {path.name} {source.sha256}; x/127.5 - 1; official split"
    return make_dataset("cifar-10", train, held_out, CLASSES, definition)


def _read(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and classes: of each record one byte is the class, then 1,024 each are red, green and blue, row by row."""
    length = 1 + int(np.prod(SHAPE))
    if len(content) % length:
        raise ValueError(f"{path} holds {len(content)} bytes of records of {length} each; get the original archive.")
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    targets = records[:, 0].astype(np.int32)
    if len(targets) and targets.max() >= CLASSES:
        raise ValueError(f"{path} holds class {targets.max()} where 0 to 9 belong; get the original archive.")
    return scale_pixels(records[:, 1:].reshape(-1, *SHAPE).transpose(0, 2, 3, 1)), targets
