"""Where runs are kept: a directory of group files, each written whole or not at all.

Any number of processes and machines may write into one store at once: there is nothing that two of them write, no
lock that could go stale and no database. A group file that does not verify is set aside and its runs trained again.
"""

import os
import uuid
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pandas as pd
import pyarrow as pa

from sharplab.core.arguments import checked
from sharplab.core.files import (
    DamagedFile,
    StoreError,
    StoreWarning,
    read_regular,
    refusal,
    sync_folder,
    write_whole,
)
from sharplab.core.provenance import versions
from sharplab.records import Records
from sharplab.sweep.store.group_file import (
    SCHEMA,
    Block,
    Key,
    OtherSchema,
    encode,
    join,
    key_of,
    read_block,
    read_table,
    run_ids_in,
)
from sharplab.sweep.store.layout import Unusable
from sharplab.sweep.store.rows import as_records, one_per_run, rows_of
from sharplab.training.task import Task

if TYPE_CHECKING:
    from sharplab.training.train import RunResult

MARKER = "store.json"
GROUPS = "groups"
LARGEST_MARKER = 2**16  # bytes
BLOCK = 64  # files whose tables are joined once and for all


@dataclass(frozen=True)
class _Marker:
    sharplab_store: int  # the schema
    sharplab: str = ""  # the version that made the store


def open_store(path: Path | str) -> Path:
    """The store's directory, ready to be written, made where there is none.

    A marker that was damaged or lost is written anew where group files verify and say that they are of this schema:
    they are what a store is. Without any the directory may be anyone's, and is refused.

    Raises:
        StoreError: for a directory that holds something else, a store of another schema, or one that cannot
            be written.
    """
    folder = Path(path)
    try:
        names = set(os.listdir(folder)) if folder.exists() else set()
        if MARKER not in names and not _is_marked_by_groups(folder):
            _require_room(folder, names)
            (folder / GROUPS).mkdir(parents=True, exist_ok=True)
            _write_marker(folder)
            sync_folder(folder.parent)
        (folder / GROUPS).mkdir(exist_ok=True)
    except OSError as error:
        raise refusal(f"store {folder} cannot be made", error) from error
    _check_schema(folder)
    if not os.access(folder / GROUPS, os.W_OK | os.X_OK):
        raise StoreError(
            f"store {folder} cannot be written: change the permissions of {folder / GROUPS}, or have its file system "
            "mounted for writing."
        )
    return folder


def _require_room(folder: Path, names: set[str]) -> None:
    # Another process may be making the store at this moment: the folder of groups, the marker under its first name.
    foreign = {name for name in names - {GROUPS} if not name.startswith(f".{MARKER}.")}
    if GROUPS in names:
        foreign |= {name for name in os.listdir(folder / GROUPS) if not name.startswith(".")}
    if foreign and not (folder / MARKER).exists():
        raise StoreError(f"store {folder} holds other files and no {MARKER}: give a new or empty directory.")


def _write_marker(folder: Path) -> None:
    write_whole(folder / MARKER, msgspec.json.encode(_Marker(SCHEMA, versions()["sharplab"])))


def is_store(folder: Path) -> bool:
    """Whether a directory is a store, of whatever schema."""
    return (folder / MARKER).exists() or _is_marked_by_groups(folder)


def require_store(folder: Path) -> None:
    """Check that there is a store of this schema, which need not be writable. StoreError if not."""
    if not is_store(folder):
        raise StoreError(f"there is no store at {folder}: give the directory that a sweep was written to.")
    _check_schema(folder)


def _check_schema(folder: Path) -> None:
    marker = folder / MARKER
    try:
        content = msgspec.json.decode(read_regular(marker, LARGEST_MARKER), type=_Marker)
        schema, version = content.sharplab_store, content.sharplab
    except (FileNotFoundError, DamagedFile, msgspec.MsgspecError, ValueError, RecursionError) as error:
        _restore_marker(folder, error)
    except OSError as error:
        raise refusal(f"store {folder} cannot be read ({marker})", error) from error
    else:
        if schema != SCHEMA:
            raise _other_schema(folder, schema, version)


def _restore_marker(folder: Path, problem: Exception) -> None:
    marker = folder / MARKER
    if not _is_marked_by_groups(folder):
        raise StoreError(
            f"{marker} is damaged and no group file verifies: restore it, or give a new directory as store."
        ) from problem
    if isinstance(problem, FileNotFoundError) and marker.exists():
        return  # another process has just made the store
    try:
        _write_marker(folder)
        done = f"written anew, as the group files are whole and of schema {SCHEMA}"
    except OSError:  # a store may be read where it cannot be written
        done = f"left as it is, and schema {SCHEMA} read from the group files"
    warnings.warn(f"{marker} was damaged or missing: {done}.", StoreWarning, stacklevel=4)


def _is_marked_by_groups(folder: Path) -> bool:
    """Whether group files verify, all of this schema. StoreError if one says another."""
    verified = False
    for key in _keys(folder, frozenset()):
        try:
            read_table(key)
            verified = True
        except OtherSchema as other:
            raise _other_schema(folder, other.schema, other.version) from other
        except (Unusable, OSError):
            continue
    return verified


def _other_schema(folder: Path, schema: object, version: str) -> StoreError:
    if isinstance(schema, int) and schema > SCHEMA:
        remedy = f"install sharplab {version} or later" if version else "install a later sharplab"
    else:
        remedy = f"read it with sharplab {version}" if version else "read it with the sharplab that wrote it"
    writer = f", written by sharplab {version}" if version else ""
    return StoreError(
        f"store {folder} has schema {schema}{writer}; this is sharplab {versions()['sharplab']}, which reads schema "
        f"{SCHEMA}: {remedy}, or give a new directory."
    )


def add_group(store: Path, task: Task, results: "Sequence[RunResult]", *, not_before: str | None = None) -> Path:
    """Write the results of runs of one task as a group file.

    `not_before` is the ISO time, with its zone, that the results are dated at the earliest: a clock that was moved back
    cannot make them older than those that they replace.

    Raises:
        StoreError: if the directory cannot be written. What it held before stays as it was.
    """
    name, content = encode(task, results, not_before=not_before)
    path = store / GROUPS / name
    try:
        write_whole(path, content)
    except OSError as error:
        raise refusal(f"store {store} cannot be written", error, safe="what it held before is") from error
    return path


def group_files(store: Path) -> frozenset[Path]:
    """The paths of all group files that there are now.

    Raises:
        StoreError: if the directory cannot be read.
    """
    folder = store / GROUPS
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise refusal(f"store {store} cannot be read", error) from error
    return frozenset(folder / name for name in names if name.endswith(".parquet") and not name.startswith("."))


def _keys(store: Path, apart_from: frozenset[Path]) -> list[Key]:
    """The keys of group files, by age, so that those joined before come first and stay joined."""
    try:
        return sorted(key for path in group_files(store) - apart_from if (key := key_of(path)) is not None)
    except OSError as error:
        raise refusal(f"store {store} cannot be read", error) from error


def read_rows(
    store: Path, *, apart_from: frozenset[Path] = frozenset(), of: Collection[str] | None = None
) -> pd.DataFrame:
    """Every row of a store, those of the group files in `apart_from` left out; one run may have several rows.

    With `of`, some runs' identities: the rows of the files that hold any of these, and no others.

    A process reads each file once: to read the store again costs what is new. A file that is not as it was written is
    set aside, one of another schema passed over, each with a `StoreWarning`.

    Raises:
        StoreError: if a file cannot be read, or there is too little memory.
    """
    keys = _keys(store, apart_from)
    if of is not None:
        keys = [key for key in keys if _may_hold(key, of)]
    try:
        blocks = [_block(tuple(keys[start : start + BLOCK])) for start in range(0, len(keys), BLOCK)]
        return rows_of([block for block in blocks if block is not None])
    except MemoryError as error:
        raise StoreError(f"store {store} cannot be read: there is too little memory free for its tables.") from error


def _may_hold(key: Key, run_ids: Collection[str]) -> bool:
    try:
        return not run_ids_in(key).isdisjoint(run_ids)
    except (Unusable, OtherSchema, OSError):
        return True  # whoever reads it will say what is wrong


def _block(keys: tuple[Key, ...]) -> Block | None:
    try:
        return read_block(keys) if len(keys) == BLOCK else join([read_table(key) for key in keys])
    except (Unusable, OtherSchema, OSError):
        tables = [table for key in keys if (table := _usable_table(key)) is not None]
        return join(tables) if tables else None


def _usable_table(key: Key) -> pa.Table | None:
    try:
        return read_table(key)
    except FileNotFoundError:
        return None  # another process has just set it aside
    except OSError as error:
        raise refusal(f"store file {key.path} cannot be read", error) from error
    except Unusable as error:
        done = f"{error}: {_set_aside(key.path)}; runs in it count as not yet trained"
    except OtherSchema as error:
        done = f"has schema {error.schema}, of sharplab {error.version}, and is passed over; upgrade to read it"
    warnings.warn(f"{key.path} {done}.", StoreWarning, stacklevel=5)
    return None


def _set_aside(path: Path) -> str:
    aside = path.parent / "set-aside"
    target = aside / path.name
    if target.exists():
        target = aside / f"{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}"
    try:
        aside.mkdir(exist_ok=True)
        path.replace(target)
    except OSError:  # a store may be read where it cannot be written
        return "ignored"
    return f"set aside in {aside}"


@checked()
def load(store: Path | str) -> Records:
    """Everything that a store holds, as `Records` with `.runs` and `.curves`.

    Raises:
        StoreError: if there is no store of this schema at that place, or it holds no runs.
    """
    folder = Path(store)
    require_store(folder)
    return as_records(read_runs(folder))


def read_runs(folder: Path) -> pd.DataFrame:
    """One row per run of a store. StoreError if it holds none."""
    rows = one_per_run(read_rows(folder))
    if rows.empty:
        raise StoreError(f"the store {folder} holds no runs yet.")
    return rows
