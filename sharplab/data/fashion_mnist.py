"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv:1708.07747): the bundled 10,000 test images, or all, downloaded."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sharplab.data.checksums import checked_files
from sharplab.data.dataset import Dataset, Pair, make_dataset, split
from sharplab.data.downloads import Source, fetch
from sharplab.data.idx import read_idx_gz
from sharplab.data.images import scale_pixels

FOLDER = Path(__file__).parent / "fashion_mnist_10k"
IMAGES = "t10k-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"
TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TRAIN_EXAMPLES = 8192
PADDING = 2  # 28×28 → 32×32, the size at which the Figure-1 network ends at 1×1


def _source(file: str, sha256: str, size: int) -> Source:
    url = f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{file}"
    return Source(f"fashion-mnist/{file}", (url,), sha256, size)


# These digests are of files whose MD5s are the ones that upstream publishes.
SOURCES: Mapping[str, Source] = {
    TRAIN_IMAGES: _source(TRAIN_IMAGES, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
    TRAIN_LABELS: _source(TRAIN_LABELS, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
    IMAGES: _source(IMAGES, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
    LABELS: _source(LABELS, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
}


def fashion_mnist_10k(folder: Path = FOLDER) -> Dataset:
    """Images (N, 32, 32, 1) as x/127.5 − 1 in [−1, 1], background −1; 8,192 to train, 1,808 to evaluate.

    Raises:
        ValueError: when a file in `folder` is missing, damaged or not the one in its SHA256SUMS.
    """
    sums = checked_files(folder, IMAGES, LABELS)
    inputs, targets = _read(folder / IMAGES, folder / LABELS)
    definition = (
        f"fashion-mnist-10k; {IMAGES} {sums[IMAGES]}; {LABELS} {sums[LABELS]}; "
        f"x/127.5 - 1; pad {PADDING} with -1; first {TRAIN_EXAMPLES} train, rest evaluation"
    )
    return make_dataset("fashion-mnist-10k", *split(inputs, targets, TRAIN_EXAMPLES), 10, definition)


def fashion_mnist(sources: Mapping[str, Source] = SOURCES) -> Dataset:
    """All images, prepared as `fashion_mnist_10k`; the official 60,000 to train and 10,000 to evaluate."""
    paths = {file: fetch(source) for file, source in sources.items()}
    files = "; ".join(f"{file} {source.sha256}" for file, source in sources.items())
    train, held_out = _read(paths[TRAIN_IMAGES], paths[TRAIN_LABELS]), _read(paths[IMAGES], paths[LABELS])
    definition = f"fashion-mnist; {files}; x/127.5 - 1; pad {PADDING} with -1; official split"
    return make_dataset("fashion-mnist", train, held_out, 10, definition)


def _read(images: Path, labels: Path) -> Pair:
    return prepare_images(read_idx_gz(images, rank=3)), read_idx_gz(labels, rank=1).astype(np.int32)


def prepare_images(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W) → float32 (N, H + 4, W + 4, 1): x/127.5 − 1, then a border of background (−1)."""
    border = ((0, 0), (PADDING, PADDING), (PADDING, PADDING))
    return np.pad(scale_pixels(images), border, constant_values=-1)[..., np.newaxis]
