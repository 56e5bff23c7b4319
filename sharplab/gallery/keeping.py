"""The evidence of a figure, kept beside it: evidence/NAME, a store of its runs with its tables in tables/."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from sharplab.core.evidence import Evidence, gathering
from sharplab.core.files import DamagedFile, read_regular, write_whole
from sharplab.sweep.store.directory import open_store
from sharplab.sweep.store.pack import LEVEL, pack

if TYPE_CHECKING:
    import pandas as pd

KEPT = "evidence"
TABLES = "tables"
LARGEST = 2**26  # bytes of a table


def keep(evidence: Evidence, store: Path, folder: Path, name: str) -> None:
    """Write the evidence of the figure folder/name; its runs are in `store`. What was kept of it before goes.

    Raises:
        StoreError, OSError: if it cannot be written.
    """
    kept = folder / KEPT / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=kept.parent, prefix=f".{name}.") as scratch:
        new = Path(scratch) / name
        if evidence.run_ids:
            pack(store, evidence.run_ids, new)
        for title, table in evidence.tables.items():
            (new / TABLES).mkdir(parents=True, exist_ok=True)
            write_table(new / TABLES / f"{title}.parquet", table)
        shutil.rmtree(kept, ignore_errors=True)
        if new.exists():
            new.replace(kept)


def is_kept(folder: Path, name: str) -> bool:
    """Whether there is evidence of the figure folder/name."""
    return (folder / KEPT / name).is_dir()


@contextmanager
def from_kept(folder: Path, name: str) -> Iterator[Path]:
    """A block in which the figure folder/name is drawn from its evidence; yields the store to give to its script.

    Raises:
        ValueError: if nothing is kept of it, or a table is not as it was written.
        StoreError, OSError: if it cannot be read.
    """
    kept = folder / KEPT / name
    if not is_kept(folder, name):
        raise ValueError(f"{kept} is missing, the runs that the figure was drawn from: make it anew.")
    tables = {path.stem: read_table(path) for path in sorted((kept / TABLES).glob("*.parquet"))}
    with TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"  # sweeps leave notes where they look for their runs
        shutil.copytree(kept, store, ignore=shutil.ignore_patterns(TABLES))
        open_store(store)
        with gathering(Evidence(tables=tables, complete=True)):
            yield store


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Keep a table without its index."""
    content = io.BytesIO()
    rows = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(rows, content, compression="zstd", compression_level=LEVEL)
    write_whole(path, content.getvalue())


def read_table(path: Path) -> "pd.DataFrame":
    """A table that was kept.

    Raises:
        ValueError: if it is not as it was written.
    """
    try:
        return pq.read_table(pa.BufferReader(read_regular(path, LARGEST)), use_threads=False).to_pandas()
    except MemoryError:
        raise  # pyarrow's is an ArrowException too
    except (DamagedFile, pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the table that was kept there: make the figure anew.") from error
