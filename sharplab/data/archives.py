"""Archives read in memory, member by member under exact names.

Nothing is ever unpacked onto the disk, so no name or link inside an archive can lead anywhere; members that are not
asked for are not looked at, and none is inflated beyond a limit.
"""

import errno
import gzip
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sharplab.core.files import NO_ARCHIVE

LARGEST = 2**31  # bytes of a member; the training text of WikiText-103 has a quarter of it
LARGEST_IN_ALL = 2**33  # bytes to which a tar archive inflates


class _NotInflated(ValueError):
    """The sentence for a member that is not read."""


def read_tar(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of the plain files `names` in a gzipped tar archive.

    Raises:
        ValueError: when one is missing or something else than a plain file, and for a damaged archive.
    """
    wanted, contents = set(names), {}
    # gzip's own reader, for it checks the sum at the end, and tarfile's stream does not.
    with _damage_named(path), gzip.open(path) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        for member in archive:
            if member.offset_data + member.size > LARGEST_IN_ALL:
                raise _NotInflated(f"{path} inflates to more than {LARGEST_IN_ALL:,} bytes; get the original archive.")
            if member.name not in wanted:
                continue
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                raise _NotInflated(f"{path} holds {member.name} as a link or folder; get the original archive.")
            _refuse_large(path, member.name, member.size)
            contents[member.name] = file.read()
        while plain.read(1 << 20):
            if plain.tell() > LARGEST_IN_ALL:
                raise _NotInflated(f"{path} inflates to more than {LARGEST_IN_ALL:,} bytes; get the original archive.")
    if missing := sorted(wanted - set(contents)):
        raise ValueError(f"{path} holds no {missing[0]}; get the original archive.")
    return contents


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive for `read_member`; what is damaged, here or while it is read, becomes a ValueError."""
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        yield archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of the plain file `name`; ValueError when it is missing or something else."""
    if name not in archive.NameToInfo:
        raise _NotInflated(f"{archive.filename} holds no {name}; get the original archive.")
    member = archive.getinfo(name)
    mode = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
    if member.is_dir() or mode not in (0, stat.S_IFREG):
        raise _NotInflated(f"{archive.filename} holds {name} as a link or folder; get the original archive.")
    _refuse_large(archive.filename, name, member.file_size)
    return archive.read(member)


def _refuse_large(path: object, name: str, size: int) -> None:
    if size > LARGEST:
        raise _NotInflated(f"{path} holds {name} of {size:,} bytes, more than {LARGEST:,}; get the original archive.")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except _NotInflated:
        raise
    except (tarfile.TarError, OSError, *NO_ARCHIVE) as error:
        # Archives lead to places that no file has; other errors of the system are not theirs.
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile) and error.errno != errno.EINVAL:
            raise
        raise ValueError(f"{path} is not a whole archive ({error}); get the original one.") from error
