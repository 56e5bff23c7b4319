"""Tiny-ImageNet, 200 classes of ImageNet at 64×64 pixels (Stanford, course CS231n), downloaded.

ImageNet's terms hold: research and teaching, not commerce. Its makers publish no digest; the SHA-256 is the one that
independent users record for the same 248,100,043 bytes (MD5 90528d7ca1a48142e341f4ef8d21d0de). The tests read a small
archive of the same format.
"""

import io
import re
from zipfile import ZipFile

import numpy as np

from sharplab.data.archives import open_zip, read_member
from sharplab.data.dataset import Dataset, Pair, make_dataset
from sharplab.data.downloads import Source, fetch
from sharplab.data.images import scale_pixels

ARCHIVE = Source(
    "tiny-imagenet/tiny-imagenet-200.zip",
    ("https://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    248_100_043,
)
ROOT = "tiny-imagenet-200"
SIZE = 64
_TRAIN_IMAGE = re.compile(rf"{ROOT}/train/(\w+)/images/\1_(\d+)\.JPEG")


def tiny_imagenet(source: Source = ARCHIVE) -> Dataset:
    """Images (N, 64, 64, 3) as x/127.5 − 1 in [−1, 1]: 100,000 to train (4.9 GB), 10,000 of `val` to evaluate.

    Classes are numbered as in wnids.txt. Training images come one of each class in turn, so that the first ones, on
    which curvature is measured, are balanced. The few grey pictures have three equal channels.
    """
    path = fetch(source)
    with open_zip(path) as archive:
        wnids = read_member(archive, f"{ROOT}/wnids.txt").decode().split()
        number = {wnid: i for i, wnid in enumerate(wnids)}
        found = [match for match in map(_TRAIN_IMAGE.fullmatch, archive.namelist()) if match and match[1] in number]
        train = sorted((int(match[2]), number[match[1]], match[0]) for match in found)
        rows = read_member(archive, f"{ROOT}/val/val_annotations.txt").decode().splitlines()
        val = [(f"{ROOT}/val/images/{file}", number[wnid]) for file, wnid, *_ in map(str.split, rows)]
        if len(val) > len(archive.namelist()):
            raise ValueError(
                f"{path} lists {len(val):,} pictures of val, more than it holds; get the original archive."
            )
        train_part, eval_part = (_read_part(archive, part) for part in ([(name, n) for _, n, name in train], val))
    definition = f"tiny-imagenet; {path.name} {source.sha256}; classes in turn; x/127.5 - 1; train and val"
    return make_dataset("tiny-imagenet", train_part, eval_part, len(wnids), definition)


def _read_part(archive: ZipFile, part: list[tuple[str, int]]) -> Pair:
    """Images and classes of pairs (name, class)."""
    from PIL import Image, UnidentifiedImageError

    images = np.empty((len(part), SIZE, SIZE, 3), np.uint8)
    for i, (name, _) in enumerate(part):
        try:
            with Image.open(io.BytesIO(read_member(archive, name)), formats=["JPEG"]) as image:
                shape = (*image.size[::-1], 3)
                if shape != images.shape[1:]:  # known before the picture is inflated
                    raise ValueError(f"{archive.filename} holds {name} in shape {shape}; get the original archive.")
                images[i] = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
            raise ValueError(
                f"{archive.filename} holds {name}, which is no whole JPEG; get the original archive."
            ) from error
    return scale_pixels(images), np.array([target for _, target in part], np.int32)
