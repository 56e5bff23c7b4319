"""Data sets by name, checked and cached, and the order in which training reads them."""

from collections.abc import Callable
from functools import cache

from sharplab.data.augmentations import AUGMENTATIONS, Augmentation
from sharplab.data.batches import batch_indices
from sharplab.data.dataset import Dataset
from sharplab.data.fashion_mnist import fashion_mnist_10k
from sharplab.data.synthetic import gaussian_clusters
from sharplab.naming import lookup

__all__ = ["AUGMENTATIONS", "DATASETS", "Augmentation", "Dataset", "batch_indices", "load_dataset"]

DATASETS: dict[str, Callable[[], Dataset]] = {
    "fashion-mnist-10k": fashion_mnist_10k,
    "gaussian-clusters": gaussian_clusters,
}


@cache
def load_dataset(name: str) -> Dataset:
    """The data set `name` of `DATASETS`, read once per process.

    Raises ValueError for an unknown name, and for a bundled file that is damaged.

    >>> load_dataset("gaussian-clusters").train_inputs.shape
    (1024, 16)
    """
    return lookup("data set", name, DATASETS)()
