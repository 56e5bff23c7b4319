"""Data sets by name, checked and cached, and the order in which training reads them."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any

from sharplab.core.imports import find_function
from sharplab.data.augmentations import AUGMENTATIONS, Augmentation
from sharplab.data.batches import batch_indices
from sharplab.data.dataset import Dataset

__all__ = ["AUGMENTATIONS", "DATASETS", "Augmentation", "Dataset", "batch_indices", "load_dataset"]


def _load(module: str, function: str, *arguments: Any) -> Dataset:
    dataset: Dataset = getattr(import_module(f"sharplab.data.{module}"), function)(*arguments)
    return dataset


# Names alone: what a data set needs is imported, and downloaded, when it is loaded.
DATASETS: Mapping[str, Callable[[], Dataset]] = {
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
    """The data set `name` of `DATASETS`, or that of one's own "module:make@tag", read once per process.

    Raises:
        ValueError: for an unknown name, a bundled file that is damaged, one that cannot be downloaded, and a function
            that makes something else than a `Dataset`.

    >>> load_dataset("gaussian-clusters").train_inputs.shape
    (1024, 16)
    """
    dataset = find_function("data set", name, DATASETS)()
    if not isinstance(dataset, Dataset):
        raise ValueError(f"data set {name!r} made a {type(dataset).__name__}: let it return a sharplab.data.Dataset.")
    return dataset
