"""Files that are written whole or not at all, and errors for what a file system refuses.

An interrupted write leaves a hidden `.….tmp` beside its target, which nothing reads. None is ever cleared away: its
writer may only be suspended, or hang on a network file system, and a few kilobytes are not worth a lost group.
"""

import errno
import hashlib
import json
import os
import stat
import struct
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BufferedRandom, BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from sharplab.core.npz import read_npz

# What readers of zip and npz files raise for content that is none: NotImplementedError for ways to compress,
# RuntimeError for encrypted members and for JSON that is too deep, SyntaxError and TokenError for headers of arrays.
NO_ARCHIVE = (
    BadZipFile,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TokenError,
    struct.error,
    zlib.error,
)
DIGEST_BYTES = hashlib.sha256().digest_size
NOTE = "manifest"  # the name of the note among the arrays


class StoreError(ValueError):
    """A store, or what is made of one, cannot be read or written. What was finished before stays readable."""


class StoreWarning(UserWarning):
    """Something in a store was not as it was written, and has been set aside, restored or passed over."""


_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "delete something of yours there, or have your quota raised",
    errno.EROFS: "have it mounted for writing, or give another directory",
    errno.EACCES: "change the permissions there",
    errno.EPERM: "change the permissions there",
    errno.ENOTDIR: "give another directory",
    errno.EEXIST: "give another directory",
}


def refusal(what: str, error: OSError, *, safe: str = "") -> StoreError:
    """The error to raise for what a file system refused: what failed and why, what is safe, what to do.

    >>> print(refusal("store runs cannot be written", OSError(errno.ENOSPC, "No space left on device"), safe="it is"))
    store runs cannot be written: No space left on device; it is safe. Remedy: free space there, then go on with the
    same command.
    """
    remedy = _REMEDIES.get(error.errno or 0, "see to the file system")
    kept = f"; {safe} safe" if safe else ""
    return StoreError(f"{what}: {error.strerror or error}{kept}. Remedy: {remedy}, then go on with the same command.")


def write_whole(path: Path, content: bytes | Callable[[BufferedRandom], None], *, durable: bool = True) -> None:
    """Write a file of which there is the whole content under its name or nothing, whenever the process is killed.

    `content` may be a function that writes it into the open file. A `durable` file outlasts a power cut too, for which
    disks are waited for.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("w+b") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


class DamagedFile(Exception):
    """A file is not as it was written; the message goes on after its name."""


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The content of a file, if it is a regular one of at most `most` bytes: a pipe or a device might never end.

    Raises:
        DamagedFile: for anything else under that name.
        OSError: if it cannot be read.
    """
    # A pipe that nobody writes to would block here otherwise.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DamagedFile("is no file")
        if most is not None and found.st_size > most:
            raise DamagedFile(f"has {found.st_size:,} bytes, more than any that was written there")
        return file.read()


def write_arrays(path: Path, arrays: Sequence[np.ndarray], note: Any) -> None:
    """Write arrays and a note, whatever JSON can say, as an npz file with the SHA-256 of its bytes behind it.

    Raises:
        OSError: if it cannot be written; nothing is left behind then, and what was under the name stays.
    """

    def write(file: BufferedRandom) -> None:
        if any(array.dtype.hasobject for array in arrays):
            raise ValueError("arrays of Python's objects are not written: they would be pickled")
        named: dict[str, Any] = {str(i): array for i, array in enumerate(arrays)}
        np.savez(file, **named | {NOTE: np.array(json.dumps(note))})
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").digest())

    write_whole(path, write)


def read_arrays(path: Path) -> tuple[list[np.ndarray], Any]:
    """The arrays and the note that `write_arrays` wrote; arrays of types that numpy lacks come back as raw bytes.

    Raises:
        DamagedFile: for a file that was cut or altered, or holds something else.
        OSError: if it cannot be read.
    """
    content = read_regular(path)
    content, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedFile("is not as it was written (cut or altered)")
    try:
        found = read_npz(BytesIO(content))
        note = json.loads(str(found[NOTE]))
        return [found[str(i)] for i in range(len(found) - 1)], note
    except NO_ARCHIVE as error:
        raise DamagedFile("holds no arrays") from error


def sync_folder(folder: Path) -> None:
    """Make the names of a directory's files outlast a power cut, where the system has a way to."""
    # Some systems open no directories and some network file systems sync none; the content is on disk all the same.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
