"""Files in the idx format of MNIST and its successors."""

import gzip
import io
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from sharplab.core.files import DamagedFile, read_regular

UNSIGNED_BYTE = 0x08
MOST_AXES = 8  # images in colour have 4
DEFLATED = 1032  # times shorter is what gzip makes of zeros, and nothing shorter still
LARGEST = 2**30  # bytes of an array; 60,000 images of 28×28 are 47 million


def parse_idx(content: bytes, source: str) -> np.ndarray:
    """The uint8 array in the bytes of an idx file: two zero bytes, type code, rank, big-endian sizes, data.

    Raises:
        ValueError: naming `source`, for another type, a header cut short or data of another length.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels")
    array([7, 8, 9], dtype=uint8)
    """
    shape = _shape(content, source)
    return _array(content[_header_bytes(content) :], shape, source)


def _header_bytes(start: bytes) -> int:
    return 4 + 4 * start[3]


def _shape(content: bytes, source: str) -> tuple[int, ...]:
    """The sizes that a header states. ValueError where it is none, or of more than is ever read."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE or content[3] == 0:
        raise ValueError(
            f"{source} is not an idx file of unsigned bytes: it starts with {content[:4].hex() or 'nothing'} "
            "instead of 000008 and a rank; restore the original file."
        )
    header = _header_bytes(content)
    if len(content) < header:
        raise ValueError(f"{source} ends within its header of {header} bytes; restore the original file.")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    if len(shape) > MOST_AXES or max(prod(shape), *shape) > LARGEST:
        raise ValueError(f"{source} claims an array of shape {shape[:9]}; restore the original file.")
    return shape


def _array(data: bytes, shape: tuple[int, ...], source: str) -> np.ndarray:
    if len(data) != prod(shape):
        raise ValueError(
            f"{source} holds {len(data)} bytes of data where its header says {prod(shape)} "
            f"(shape {shape}); restore the original file."
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_idx_gz(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of `rank` axes in a gzipped idx file; ValueError when damaged, of another rank or too large."""
    try:
        packed = read_regular(path)
        with gzip.open(io.BytesIO(packed)) as file:
            start = file.read(4)
            shape = _shape(start + (file.read(4 * start[3]) if len(start) == 4 else b""), str(path))
            if prod(shape) > DEFLATED * len(packed):  # for which memory is taken at once
                raise ValueError(f"{path} cannot hold the shape {shape} that it claims; restore the original file.")
            data = file.read(prod(shape) + 1)
    except (DamagedFile, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); restore the original file.") from error
    array = _array(data, shape, str(path))
    if array.ndim != rank:
        raise ValueError(f"{path} holds {array.ndim} axes where {rank} belong; restore the original file.")
    return array
