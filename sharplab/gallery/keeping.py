"""The evidence of a figure, kept beside it: evidence/NAME, a store of its runs with its tables in tables/."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from sharplab.core.evidence import Evidence, gathering
from sharplab.core.files import read_regular, write_whole
from sharplab.sweep.store.directory import open_store
from sharplab.sweep.store.pack import LEVEL, pack

KEPT = "evidence"
TABLES = "tables"
LARGEST = 2**26  # bytes of a table


def keep(evidence: Evidence, store: Path, folder: Path, name: str) -> None:
    """Write the evidence of the figure folder/name; its runs are in `store`. What was kept of it before goes.

    Raises:
        StoreError, OSError: if it cannot be written.
    """
    kept = folder / KEPT / name
    if not evidence.run_ids and not evidence.tables:
        shutil.rmtree(kept, ignore_errors=True)
        return
    kept.mkdir(parents=True, exist_ok=True)
    if evidence.run_ids:
        pack(store, evidence.run_ids, kept)
    tables = kept / TABLES
    if evidence.tables:
        tables.mkdir(exist_ok=True)
    for title, table in evidence.tables.items():
        content = io.BytesIO()
        # Without the pandas metadata, which has the index too, columns and their types come back as they were.
        pq.write_table(
            pa.Table.from_pandas(table, preserve_index=False), content, compression="zstd", compression_level=LEVEL
        )
        write_whole(tables / f"{title}.parquet", content.getvalue())
    for path in tables.glob("*.parquet"):
        if path.stem not in evidence.tables:
            os.unlink(path)


@contextmanager
def from_kept(folder: Path, name: str) -> Iterator[Path]:
    """A block in which the figure folder/name is drawn from its evidence; yields the store to give to its script.

    Raises:
        ValueError: if nothing is kept of it.
        StoreError, OSError: if it cannot be read.
    """
    kept = folder / KEPT / name
    if not kept.is_dir():
        raise ValueError(f"{kept} is missing, the runs that the figure was drawn from: make it anew.")
    tables = {
        path.stem: pq.read_table(pa.BufferReader(read_regular(path, LARGEST))).to_pandas()
        for path in sorted((kept / TABLES).glob("*.parquet"))
    }
    with TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"  # sweeps leave notes where they look for their runs
        shutil.copytree(kept, store, ignore=shutil.ignore_patterns(TABLES))
        open_store(store)
        with gathering(Evidence(tables=tables, complete=True)):
            yield store
