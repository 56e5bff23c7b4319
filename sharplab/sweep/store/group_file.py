"""One file of a store: the results of runs of one task, a Parquet table with a row per run and curves as lists.

It carries the digest of its own bytes in its name, so that a file that was cut or altered is known as such, and the
schema in its metadata, so that a store whose marker was lost is still understood.
"""

import hashlib
import io
import json
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharplab.core.provenance import versions
from sharplab.sweep.store.identity import run_id, settings
from sharplab.sweep.store.layout import Unusable, check_layout, check_rows
from sharplab.training.task import Task

if TYPE_CHECKING:
    from sharplab.training.train import RunResult

SCHEMA = 1


class OtherSchema(Exception):
    """A group file is whole, but of another schema."""

    def __init__(self, schema: int, version: str) -> None:
        super().__init__(schema, version)
        self.schema, self.version = schema, version


class Key(NamedTuple):
    """The state of a file: group files are never altered, so that one of the same key has the same content."""

    mtime_ns: int
    path: Path
    size: int
    regular: bool


def key_of(path: Path) -> Key | None:
    """The key of a file; None where there is no file any more."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Key(found.st_mtime_ns, path, found.st_size, stat.S_ISREG(found.st_mode))


def encode(task: Task, results: "Sequence[RunResult]", *, not_before: str | None = None) -> tuple[str, bytes]:
    """The name and the content of the file of these results, dated now or, where that is later, `not_before`."""
    written = datetime.now(UTC)
    if not_before is not None:
        written = max(written, datetime.fromisoformat(not_before).astimezone(UTC))
    provenance = {"versions": json.dumps(_versions()), "written": written.isoformat(timespec="microseconds")}
    table = pa.Table.from_pylist([_row(task, result) | provenance for result in results])
    table = table.replace_schema_metadata(metadata())
    buffer = io.BytesIO()
    # Without these the small files are smaller and read twice as fast; nothing searches in them.
    pq.write_table(table, buffer, use_dictionary=False, write_statistics=False)
    content = buffer.getvalue()
    return f"{task.parameterization}-w{task.width}-d{task.depth}-{digest(content)}.parquet", content


def metadata() -> dict[str, str]:
    """The metadata of a file that is written now: the schema, and the version that wrote it."""
    return {"sharplab_store": str(SCHEMA), "sharplab": _versions()["sharplab"]}


@cache
def _versions() -> dict[str, str]:
    return versions()


def _row(task: Task, result: "RunResult") -> dict[str, Any]:
    measured = {name: values.tolist() for name, values in result.curves.items() if name != "step"}
    return {
        "run_id": run_id(task, result.run),
        **settings(task, result.run),
        "observables": list(task.observables),
        "record_steps": list(task.record_steps),
        "diverged": result.diverged,
        "diverged_step": result.diverged_step,
        "matvecs": int(sum(np.sum(values) for name, values in result.curves.items() if name.endswith("_matvecs"))),
        "seconds": result.seconds,
        **result.setting,
        **{f"curve:{name}": values for name, values in measured.items()},
    }


def digest(content: bytes) -> str:
    """The digest of a file's content, in which its name ends."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_in(path: Path) -> str:
    """The digest in a file's name."""
    return path.stem.rpartition("-")[2]


def verified_content(key: Key) -> bytes:
    """The bytes of a group file.

    Raises:
        Unusable: where they are not those that were written.
        OSError: if they cannot be read.
    """
    if not key.regular:
        raise Unusable("is no file")
    content = key.path.read_bytes()
    if digest_in(key.path) != digest(content):
        raise Unusable("is not as it was written (cut, altered or foreign)")
    return content


# Beside what is in blocks, only the newest files are asked for one by one.
@lru_cache(maxsize=1024)
def read_table(key: Key) -> pa.Table:
    """The rows of a group file, read and verified once.

    Raises:
        Unusable, OtherSchema: where they are no rows of this schema.
        OSError: if the file cannot be read.
    """
    content = verified_content(key)
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        said = file.schema_arrow.metadata or {}
        # The first files say nothing of it.
        schema = int(said.get(b"sharplab_store", SCHEMA))
        if schema != SCHEMA:
            raise OtherSchema(schema, said.get(b"sharplab", b"").decode())
        check_layout(file)
        table = file.read(use_threads=False)
    except MemoryError:
        raise  # pyarrow's is an ArrowException too
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unusable("is no Parquet file") from error
    check_rows(table)
    return _renamed(table.replace_schema_metadata())


# Columns that stores had under other names before version 0.2, with the values that changed along.
RENAMED = {"lane_mode": "batching", "company": "runs_per_device", "driver": "loop"}
RENAMED_VALUES = {"loop": {"loop": "compiled", "dispatch": "python"}}


def _renamed(table: pa.Table) -> pa.Table:
    """The rows of an early file under the names of today."""
    if RENAMED.keys().isdisjoint(table.schema.names):
        return table
    table = table.rename_columns([RENAMED.get(name, name) for name in table.schema.names])
    for name, values in RENAMED_VALUES.items():
        if (place := table.schema.get_field_index(name)) >= 0:
            table = table.set_column(place, name, pa.array([values.get(v, v) for v in table[name].to_pylist()]))
    return table


@lru_cache(maxsize=2**14)
def run_ids_in(key: Key) -> frozenset[str]:
    """The identities of the runs of a group file. Raises as `read_table`."""
    return frozenset(read_table(key)["run_id"].to_pylist())


class Block(NamedTuple):
    """The rows of several files, and the different lists of columns that these have."""

    table: pa.Table
    layouts: frozenset[tuple[str, ...]]


def join(tables: Sequence[pa.Table]) -> Block:
    """The rows of several tables as a block, with every column that any of them has."""
    schemas = {table.schema for table in tables}
    promotion = "permissive" if len(schemas) > 1 else "none"  # to promote takes four times as long
    table = pa.concat_tables(tables, promote_options=promotion).combine_chunks()
    return Block(table, frozenset(tuple(schema.names) for schema in schemas))


@lru_cache(maxsize=512)
def read_block(keys: tuple[Key, ...]) -> Block:
    """The rows of several files, joined once. Raises as `read_table`."""
    return join([read_table(key) for key in keys])
