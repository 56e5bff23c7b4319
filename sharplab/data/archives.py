"""Archives read in memory, member by member under exact names.

Nothing is ever unpacked onto the disk, so no name or link inside an archive can lead anywhere; members that are not
asked for are not looked at.
"""

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


def read_tar(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of the plain files `names` in a gzipped tar archive.

    Raises:
        ValueError: when one is missing or something else than a plain file, and for a damaged archive.
    """
    wanted, contents = set(names), {}
    # gzip's own reader, for it checks the sum at the end, and tarfile's stream does not.
    with _damage_named(path), gzip.open(path) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        for member in archive:
            if member.name not in wanted:
                continue
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                raise ValueError(f"{path} holds {member.name} as a link or folder; get the original archive.")
            contents[member.name] = file.read()
        while plain.read(1 << 20):
            pass
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
        raise ValueError(f"{archive.filename} holds no {name}; get the original archive.")
    member = archive.getinfo(name)
    mode = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
    if member.is_dir() or mode not in (0, stat.S_IFREG):
        raise ValueError(f"{archive.filename} holds {name} as a link or folder; get the original archive.")
    return archive.read(member)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise ValueError(f"{path} is not a whole archive ({error}); get the original one.") from error
