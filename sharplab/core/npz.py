"""Arrays of an npz file, each compared with what the archive holds of it before memory is taken."""

import errno
import os
from math import prod
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy

MOST_TIMES = 64  # what a checkpoint is smaller for being packed; one that is new is zeros in two of three arrays
ALWAYS = 2**30  # bytes that files may unpack to, however small they are

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def require_plausible(promised: int, held: int) -> None:
    """Check that a file of `held` bytes may be one that unpacks to `promised`.

    Raises:
        ValueError: if it would be a bomb.
    """
    if promised > max(ALWAYS, MOST_TIMES * held):
        raise ValueError(f"it promises {promised:,} bytes in {held:,}")


def read_npz(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name, without pickles.

    Raises:
        ValueError, or another of `files.NO_ARCHIVE`: for a file that is none, or whose arrays are not of the size that
            the archive says, or far beyond that of the file.
    """
    try:
        return _arrays(file)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise BadZipFile("leads to places that no file has") from error


def _arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    held = file.seek(0, os.SEEK_END)
    found: dict[str, np.ndarray] = {}
    with ZipFile(file) as archive:
        members = archive.infolist()
        require_plausible(sum(member.file_size for member in members), held)
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"{name} is there twice")
            with archive.open(member) as content:
                version = npy.read_magic(content)
                if version not in _HEADERS:
                    raise ValueError(f"{name} is of version {version}")
                shape, _, dtype = _HEADERS[version](content)
                promised = content.tell() + prod(shape) * dtype.itemsize
                if promised != member.file_size:
                    raise ValueError(f"{name} promises {promised:,} bytes in {member.file_size:,}")
                content.seek(0)
                found[name] = npy.read_array(content, allow_pickle=False)
    return found
