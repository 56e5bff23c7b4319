"""Tables in files, CSV, Parquet or JSON lines, as they stand there: text by column, and where each row is."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sharplab.core.files import DamagedFile, read_regular

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 2**26  # bytes of a table, also once inflated
MOST_VALUES = 2**24  # rows times columns, of which a small file can have many
SEPARATORS = ",\t;"


class Table(NamedTuple):
    """Columns as they stand in a file, and where each row does."""

    columns: pd.DataFrame
    places: Sequence[str]  # "line 7"


def read_table(file: Path) -> Table:
    """The table in a file, by the ending of its name.

    Raises:
        ValueError: naming the file, and what is wrong with it.
    """
    kinds: Mapping[str, Callable[[bytes], Table]] = {
        ".csv": _csv,
        ".tsv": _csv,
        ".parquet": _parquet,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
    }
    packed = file.suffix == ".gz"
    ending = file.with_suffix("").suffix if packed else file.suffix
    if ending not in kinds:
        raise ValueError(f"path {file}: its name must end in {', '.join(kinds)}, or one of these and .gz.")
    try:
        if file.stat().st_size > LARGEST:
            raise DamagedFile(f"is larger than {LARGEST:,} bytes: leave out columns or runs")
        content = read_regular(file)
        if packed:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as plain:
                content = plain.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise DamagedFile(f"inflates to more than {LARGEST:,} bytes: leave out columns or runs")
        return kinds[ending](content)
    except DamagedFile as error:
        raise ValueError(f"path {file} {error}.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"path {file} is no whole gzip file: get it again.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"path {file} is no text in UTF-8: save it as such.") from error
    except OSError as error:
        raise ValueError(f"path {file} cannot be read: {error.strerror or error}.") from error


def _csv(content: bytes) -> Table:
    text = content.decode("utf-8-sig")
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(SEPARATORS, key=first.count))
    rows: list[list[str]] = []
    places: list[str] = []
    header: list[str] = []
    try:
        for row in reader:
            if not any(map(str.strip, row)):
                continue
            if not header:
                header = [name.strip() for name in row]
            elif len(row) != len(header):
                raise DamagedFile(
                    f"has {len(row)} fields in line {reader.line_num} and {len(header)} in its first: was it cut?"
                )
            else:
                rows.append(row)
                places.append(f"line {reader.line_num}")
                _require_few_values(len(rows), len(header))
    except csv.Error as error:
        raise DamagedFile(f"is no CSV in line {reader.line_num} ({error})") from error
    return _table(header, pd.DataFrame(rows, columns=range(len(header)), dtype=object), places)


def _json_lines(content: bytes) -> Table:
    rows, places = [], []
    for i, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_int=_whole)
        except (ValueError, RecursionError) as error:
            raise DamagedFile(f"has no JSON in line {i}") from error
        if not isinstance(row, dict):
            raise DamagedFile(f"has no JSON object in line {i}: give one per run")
        rows.append(row)
        places.append(f"line {i}")
    try:
        flat = [dict(_entries(row)) for row in rows]
    except RecursionError as error:
        raise DamagedFile("has objects within objects, too deep to read") from error
    _require_few_values(len(flat), len({name for row in flat for name in row}))
    frame = pd.DataFrame(flat)
    return _table(list(frame.columns), frame, places)


def _whole(text: str) -> int | float:
    """A whole number, as a float where a column of 64 bits holds none such."""
    return int(text) if len(text) < 21 and abs(int(text)) < 2**63 else float(text)


def _entries(row: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """What an object holds, and the objects in it, under names joined by dots."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _entries(value, f"{above}{name}.")
        else:
            yield above + name, value


def _require_few_values(rows: int, columns: int) -> None:
    if rows * columns > MOST_VALUES:
        raise DamagedFile(f"has more than {MOST_VALUES:,} values: leave out columns or runs")


def _parquet(content: bytes) -> Table:
    import pyarrow as pa  # here, for no other analysis needs it
    import pyarrow.parquet as pq

    try:
        footer = pq.ParquetFile(pa.BufferReader(content))
        _require_few_values(footer.metadata.num_rows, footer.metadata.num_columns)
        groups = [footer.metadata.row_group(i) for i in range(footer.metadata.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        _require_few_values(sum(chunk.num_values for chunk in chunks), 1)
        if sum(chunk.total_uncompressed_size for chunk in chunks) > LARGEST:
            raise DamagedFile(f"inflates to more than {LARGEST:,} bytes: leave out columns or runs")
        _require_once(footer.schema_arrow.names)
        # A long text that stands in every row is kept once, and counted before it is written out.
        leaves = [footer.schema.column(i) for i in range(len(footer.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        table = pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts).read(use_threads=False)
        if sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks) > LARGEST:
            raise DamagedFile(f"inflates to more than {LARGEST:,} bytes: leave out columns or runs")
        frame = table.to_pandas(ignore_metadata=True)
        frame = frame.astype({name: object for name, kind in frame.dtypes.items() if kind == "category"})
    except MemoryError:
        raise  # pyarrow's is an ArrowException too
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile("is no Parquet file: get it again") from error
    return _table(list(frame.columns), frame.reset_index(drop=True), [f"row {i + 1}" for i in range(len(frame))])


def _text_bytes(array: "pa.Array") -> int:
    """The length of all texts of an array in which equal ones are kept once, each as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        held = array.dictionary
        if not (pa.types.is_string(held.type) or pa.types.is_binary(held.type)):
            return 0
        return pc.sum(pc.binary_length(held).take(array.indices).cast(pa.int64())).as_py() or 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _text_bytes(array.flatten())
    if pa.types.is_struct(kind):
        return sum(_text_bytes(each) for each in array.flatten())
    if pa.types.is_nested(kind):
        raise DamagedFile(f"has a column of {kind}: leave it out")
    return 0


def _require_once(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DamagedFile(f"has the column {twice[0]!r} twice: rename one")


def _table(names: Sequence[str], columns: pd.DataFrame, places: Sequence[str]) -> Table:
    _require_once(names)
    columns.columns = pd.Index(names)
    return Table(columns.drop(columns=[name for name in names if not name]), places)
