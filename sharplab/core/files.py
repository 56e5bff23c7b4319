"""Files that are there whole or not at all, and sentences for what a file system refuses.

An interrupted write leaves a hidden `.….tmp` beside its target, which nothing reads. None is ever cleared away: its
writer may only be suspended, or hang on a network file system, and a few kilobytes are not worth a lost group.
"""

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path


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
    """What failed and why, what is safe, what to do.

    >>> print(refusal("store runs cannot be written", OSError(errno.ENOSPC, "No space left on device"), safe="it is"))
    store runs cannot be written: No space left on device; it is safe. Remedy: free space there, then go on with the
    same command.
    """
    remedy = _REMEDIES.get(error.errno or 0, "see to the file system")
    kept = f"; {safe} safe" if safe else ""
    return StoreError(f"{what}: {error.strerror or error}{kept}. Remedy: {remedy}, then go on with the same command.")


def write_whole(path: Path, content: bytes) -> None:
    """Under its name there is the whole content or nothing, whenever the machine stops.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a directory outlast a power cut, where the system has a way to."""
    # Some systems open no directories and some network file systems sync none; the content is on disk all the same.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
