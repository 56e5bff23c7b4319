"""Some runs of a store as a store of one small file, to be kept beside what was made of them."""

import io
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sharplab.core.files import write_whole
from sharplab.sweep.store.directory import GROUPS, group_files, open_store
from sharplab.sweep.store.group_file import digest, key_of, metadata, read_table, run_ids_in

LEVEL = 19  # of Zstandard: it is written once


def pack(store: Path, run_ids: Collection[str], target: Path) -> None:
    """Write all that a store holds of these runs as a store in `target`, a new directory, in one file.

    The same runs give the same bytes.

    Raises:
        StoreError: if `target` is not empty, or cannot be written.
    """
    keys = [key for path in sorted(group_files(store)) if (key := key_of(path)) is not None]
    wanted = pa.array(sorted(run_ids))
    tables = [
        table.filter(pc.is_in(table["run_id"], wanted))
        for key in keys
        if not run_ids_in(key).isdisjoint(run_ids)
        for table in [read_table(key)]
    ]
    table = pa.concat_tables(tables, promote_options="permissive").sort_by(
        [("run_id", "ascending"), ("written", "ascending")]
    )
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(metadata()),
        buffer,
        write_statistics=False,
        compression="zstd",
        compression_level=LEVEL,
    )
    content = buffer.getvalue()
    write_whole(open_store(target) / GROUPS / f"runs-{digest(content)}.parquet", content)
