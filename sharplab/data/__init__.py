"""Data sets by name, checked and cached, and the order in which training reads them."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module

from sharplab.core.imports import find_function, is_held
from sharplab.data.augmentations import AUGMENTATIONS, Augmentation
from sharplab.data.batches import batch_indices
from sharplab.data.dataset import Dataset

__all__ = ["AUGMENTATIONS", "DATASETS", "LICENCES", "Augmentation", "Dataset", "batch_indices", "load_dataset"]


def _load(module: str, function: str, *arguments: str) -> Dataset:
    dataset: Dataset = getattr(import_module(f"sharplab.data.{module}"), function)(*arguments)
    return dataset


_FASHION = "Zalando SE, MIT licence"
_WIKITEXT = "text of Wikipedia, CC BY-SA 3.0"
_BIBLE = (
    "text in the public domain everywhere but in the United Kingdom, where letters patent reserve its printing to the "
    "Crown; the tokenizer is sharplab's (Apache-2.0)"
)
_CIFAR = (
    "published without a licence; its author asks to cite Krizhevsky, Learning multiple layers of features from tiny "
    "images, 2009"
)
_IMAGENET = "images of ImageNet, whose terms allow research and teaching, not commerce"
_MADE = "made by sharplab from a seed; nobody's"

# Data set → whose it is, and the module, function and arguments that load it: what a data set needs is imported, and
# downloaded, when it is loaded.
_DECLARED: Mapping[str, tuple[str, ...]] = {
    # Made or bundled.
    "fashion-mnist-10k": (_FASHION, "fashion_mnist", "fashion_mnist_10k"),
    "gaussian-clusters": (_MADE, "synthetic", "gaussian_clusters"),
    "king-james-bpe": (_BIBLE, "book", "king_james_bpe"),
    "king-james-bytes": (_BIBLE, "book", "king_james_bytes"),
    "teacher-student": (_MADE, "synthetic", "teacher_student"),
    # Downloaded.
    "cifar-10": (_CIFAR, "cifar", "cifar_10"),
    "fashion-mnist": (_FASHION, "fashion_mnist", "fashion_mnist"),
    "tiny-imagenet": (_IMAGENET, "tiny_imagenet", "tiny_imagenet"),
    "wikitext-103": (_WIKITEXT, "wikitext", "wikitext_103", "bytes"),
    "wikitext-103-bpe": (_WIKITEXT, "wikitext", "wikitext_103", "bpe"),
    "wikitext-2": (_WIKITEXT, "wikitext", "wikitext_2", "bytes"),
    "wikitext-2-bpe": (_WIKITEXT, "wikitext", "wikitext_2", "bpe"),
}
DATASETS: Mapping[str, Callable[[], Dataset]] = {
    name: partial(_load, *where) for name, (_, *where) in _DECLARED.items()
}
LICENCES: Mapping[str, str] = {name: licence for name, (licence, *_) in _DECLARED.items()}


def load_dataset(name: str) -> Dataset:
    """The data set `name` of `DATASETS`, or that of one's own "module:make@tag", read once per process.

    One that this process holds is kept by whoever holds it, and not here.

    Raises:
        ValueError: for an unknown name, a bundled file that is damaged, one that cannot be downloaded, and a function
            that makes something else than a `Dataset`.

    >>> load_dataset("gaussian-clusters").train_inputs.shape
    (1024, 16)
    """
    return _make(name) if is_held(name) else _read(name)


def _make(name: str) -> Dataset:
    dataset = find_function("data set", name, DATASETS)()
    if not isinstance(dataset, Dataset):
        raise ValueError(f"data set {name!r} made a {type(dataset).__name__}: let it return a sharplab.data.Dataset.")
    return dataset


_read = cache(_make)
