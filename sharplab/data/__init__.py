"""Data sets by name, checked and cached, and the order in which training reads them."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

from sharplab.core.naming import lookup
from sharplab.data.augmentations import AUGMENTATIONS, Augmentation
from sharplab.data.batches import batch_indices
from sharplab.data.dataset import Dataset

__all__ = ["AUGMENTATIONS", "DATASETS", "Augmentation", "Dataset", "batch_indices", "load_dataset"]


def _load(module: str, function: str, *arguments: Any) -> Dataset:
    dataset: Dataset = getattr(import_module(f"sharplab.data.{module}"), function)(*arguments)
    return dataset


# Names alone: what a data set needs is imported, and downloaded, when it is loaded.
DATASETS: dict[str, Callable[[], Dataset]] = {
    # Made or bundled.
    "fashion-mnist-10k": partial(_load, "fashion_mnist", "fashion_mnist_10k"),
    "gaussian-clusters": partial(_load, "synthetic", "gaussian_clusters"),
    "king-james-bpe": partial(_load, "book", "king_james_bpe"),
    "king-james-bytes": partial(_load, "book", "king_james_bytes"),
    "teacher-student": partial(_load, "synthetic", "teacher_student"),
    # Downloaded.
    "cifar-10": partial(_load, "cifar", "cifar_10"),
    "fashion-mnist": partial(_load, "fashion_mnist", "fashion_mnist"),
    "tiny-imagenet": partial(_load, "tiny_imagenet", "tiny_imagenet"),
    "wikitext-103": partial(_load, "wikitext", "wikitext_103", "bytes"),
    "wikitext-103-bpe": partial(_load, "wikitext", "wikitext_103", "bpe"),
    "wikitext-2": partial(_load, "wikitext", "wikitext_2", "bytes"),
    "wikitext-2-bpe": partial(_load, "wikitext", "wikitext_2", "bpe"),
}


@cache
def load_dataset(name: str) -> Dataset:
    """The data set `name` of `DATASETS`, read once per process.

    Raises ValueError for an unknown name, for a bundled file that is damaged, and for one that cannot be downloaded.

    >>> load_dataset("gaussian-clusters").train_inputs.shape
    (1024, 16)
    """
    return lookup("data set", name, DATASETS)()
