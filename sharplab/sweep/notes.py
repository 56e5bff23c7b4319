"""Notes that processes leave for each other in a store: small JSON files, each of the fields of one class.

No result depends on a note. One that is not as its class says is passed over, and named once.
"""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sharplab.core.files import DamagedFile, StoreWarning, read_regular, write_whole

N = TypeVar("N")

LARGEST = 2**24  # bytes; a session of ten thousand groups has a tenth of it


def write_note(path: Path, note: Any) -> None:
    """Write a note, a dataclass, whole; one that cannot be written is left as it was."""
    with suppress(OSError):  # a full disk ends the run where its results are written, not here
        path.parent.mkdir(exist_ok=True)
        write_whole(path, msgspec.json.encode(note), durable=False)


def read_notes(folder: Path, kind: type[N]) -> Iterator[tuple[Path, N]]:
    """The notes of a class in a folder, with their files, in the order of their names."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, msgspec.json.decode(read_regular(path, LARGEST), type=kind)
        except FileNotFoundError:
            continue  # its writer has just ended
        except (DamagedFile, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _name(path, str(error) if isinstance(error, DamagedFile) else "is no note")


@cache
def _name(path: Path, reason: str) -> None:
    warnings.warn(f"{path} {reason}, and is passed over; it can be removed.", StoreWarning, stacklevel=2)
