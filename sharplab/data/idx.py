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
LARGEST = 2**30  # bytes of an array; 60,000 images of 28×28 are 47 million


def parse_idx(content: bytes, source: str) -> np.ndarray:
    """The uint8 array in the bytes of an idx file: two zero bytes, type code, rank, big-endian sizes, data.

    Raises:
        ValueError: naming `source`, for another type, a header cut short or data of another length.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels")
    array([7, 8, 9], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE or content[3] == 0:
        raise ValueError(
            f"{source} is not an idx file of unsigned bytes: it starts with {content[:4].hex() or 'nothing'} "
            "instead of 000008 and a rank; restore the original file."
        )
    rank = content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise ValueError(f"{source} ends within its header of {header} bytes; restore the original file.")
    shape = struct.unpack(f">{rank}I", content[4:header])
    if len(content) - header != prod(shape):
        raise ValueError(
            f"{source} holds {len(content) - header} bytes of data where its header says {prod(shape)} "
            f"(shape {shape}); restore the original file."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_idx_gz(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of `rank` axes in a gzipped idx file; ValueError when damaged, of another rank or too large."""
    try:
        with gzip.open(io.BytesIO(read_regular(path))) as file:
            content = file.read(LARGEST + 1)
    except (DamagedFile, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); restore the original file.") from error
    if len(content) > LARGEST:
        raise ValueError(f"{path} inflates to more than {LARGEST:,} bytes; restore the original file.")
    array = parse_idx(content, str(path))
    if array.ndim != rank:
        raise ValueError(f"{path} holds {array.ndim} axes where {rank} belong; restore the original file.")
    return array
