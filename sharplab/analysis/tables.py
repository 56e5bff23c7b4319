"""Tables of sweeps made elsewhere, read as `Records`: CSV, Parquet, JSON lines, and exports of Weights & Biases."""

import csv
import gzip
import io
import json
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from sharplab.core.arguments import checked
from sharplab.core.arguments import path as a_path
from sharplab.core.files import DamagedFile, read_regular
from sharplab.core.text import printable
from sharplab.records import NAMED, RUN_KEYS, Records, has_diverged

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 2**26  # bytes of a table, also once inflated
MOST_VALUES = 2**24  # rows times columns, of which a small file can have many
SEPARATORS = ",\t;"
PREFIXES = ("config.", "summary.", "summary_metrics.")  # where W&B keeps what a run was given, and what it gave
MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "<na>"))
TEXTS = {*NAMED, "parameterization", "seed"}  # columns that may hold names
OUTCOMES = ("loss", "accuracy", "error", "perplexity")  # words in the names of what a run gave, and of some settings
OWN_OUTCOMES = ("train_loss", "eval_loss")  # names under which the lab knows what a run gave
UNFINISHED = frozenset(("running", "pending", "preempting", "preempted"))
BROKEN = frozenset(("crashed", "failed", "killed"))
STATES = UNFINISHED | BROKEN | {"finished"}


class _Table(NamedTuple):
    """Columns as they stand in a file, and where each row does."""

    columns: pd.DataFrame
    places: Sequence[str]  # "line 7"


@checked(path=a_path)
def read_sweep(path: str | Path, **columns: str) -> Records:
    """The runs of a table made elsewhere, for `transfer` and `learning_rate_law`.

    The file is CSV (.csv, .tsv), Parquet (.parquet) or JSON lines (.jsonl, .ndjson), or one of these with .gz behind.
    `columns` say what is called otherwise there: `learning_rate="lr", width="d_model", eval_loss="final loss"`. Columns
    that are not named keep their names. Every run needs a learning_rate; without a column seed, rows that are alike in
    all settings count as seeds 0, 1, …, and rows that are alike in their losses too are refused. A loss that is empty,
    NaN or infinite is that of a run that diverged, as is one marked in a column diverged, of truths or 0 and 1.

    In an export of the runs table of Weights & Biases, "config.lr" is "lr" too. Runs that are still running are left
    out, and those that crashed, failed or were killed count as diverged, each with a warning.

    Raises:
        ValueError: naming the file, the column, the line, and what to do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "sweep.csv"
    ...     _ = file.write_text("lr,d_model,final loss\\n0.1,64,2.5\\n0.2,64,NaN\\n0.2,64,2.4\\n")
    ...     read_sweep(file, learning_rate="lr", width="d_model", eval_loss="final loss").runs
       learning_rate  width  eval_loss  seed
    0            0.1     64        2.5     0
    1            0.2     64        NaN     0
    2            0.2     64        2.4     1
    """
    file = Path(path)
    table = _read(file)
    if not len(table.columns):
        raise ValueError(f"{file} has no rows: give a table with a row per run.")
    named = _renamed(file, table.columns, columns)
    numbers = {*columns, "learning_rate", "width", "depth", "diverged"} - TEXTS
    runs = pd.DataFrame({name: _typed(file, name, named[name], table.places, name in numbers) for name in named})
    rates = runs["learning_rate"]
    if (wrong := np.flatnonzero(~((rates > 0) & (rates < np.inf)))).size:
        raise ValueError(
            f"{file}: {_called('learning_rate', columns)} is {rates.iloc[wrong[0]]:g} in {table.places[wrong[0]]}: it "
            "must be positive and finite in every run; correct it, or leave the run out."
        )
    runs = _by_state(file, runs)
    outcomes = [name for name in runs.select_dtypes("number") if name not in RUN_KEYS]
    if not outcomes:
        raise ValueError(f"{file} has no column of losses; it has {_listed(table.columns)}.")
    if "seed" not in runs:
        _refuse_copies(file, runs, table.places)
        runs["seed"] = runs.groupby(settings_of(runs), dropna=False).cumcount()
    return Records(runs.reset_index(drop=True))


def _called(name: str, columns: Mapping[str, str]) -> str:
    """A column by both of its names."""
    return f"column {columns[name]!r} ({name})" if columns.get(name, name) != name else f"column {name!r}"


def _listed(table: pd.DataFrame, most: int = 30) -> str:
    return printable(", ".join(map(str, table.columns[:most])) + ", …" * (len(table.columns) > most))


def _read(file: Path) -> _Table:
    """The table in a file, by the ending of its name."""
    kinds: Mapping[str, Callable[[bytes], _Table]] = {
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


def _csv(content: bytes) -> _Table:
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


def _json_lines(content: bytes) -> _Table:
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


def _parquet(content: bytes) -> _Table:
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


def _table(names: Sequence[str], columns: pd.DataFrame, places: Sequence[str]) -> _Table:
    _require_once(names)
    columns.columns = pd.Index(names)
    return _Table(columns.drop(columns=[name for name in names if not name]), places)


def _renamed(file: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, pd.Series]:
    """The columns under the names they are to have."""
    own = {_short(name): name for name in reversed(table.columns)}  # of two that shorten alike, the first
    own |= {name: name for name in table.columns}
    found: dict[str, str] = {}
    for name, theirs in columns.items():
        if not isinstance(theirs, str):
            raise ValueError(f"{name} must be the name of a column, a text, not {theirs!r}.")
        found[name] = _find(file, table, name, theirs)
        others = [other for other, column in found.items() if column == found[name] and other != name]
        if others:
            raise ValueError(f"{file}: column {theirs!r} cannot be both {others[0]} and {name}: name another for one.")
        if name in table and found[name] != name:
            raise ValueError(
                f"{file} has a column {name!r}, so that {theirs!r} cannot be called so: name that one otherwise, or "
                f"give {name}={name!r}."
            )
    named = {name: table[column] for name, column in found.items()}
    for column in table.columns:
        if column not in found.values():
            short = _short(column)
            taken = short in named or short in found or (short != column and (short in table or own[short] != column))
            named[column if taken else short] = table[column]
    if "learning_rate" not in named:
        raise ValueError(
            f"{file} has no column 'learning_rate': name it, as by learning_rate='lr'; it has {_listed(table)}."
        )
    return named


def _short(column: str) -> str:
    """The name of a column without W&B's prefix."""
    return next((column.removeprefix(prefix) for prefix in PREFIXES if column.startswith(prefix)), column)


def _find(file: Path, table: pd.DataFrame, name: str, theirs: str) -> str:
    """The column that is called so, as it is or behind a prefix of W&B."""
    if theirs in table:
        return theirs
    found = [column for column in table.columns if _short(column) == theirs]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{file}: {name}={theirs!r} may be {' or '.join(map(repr, found))}: give one of these.")
    near = get_close_matches(theirs, table.columns, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(f"{file} has no column {theirs!r}, to be {name}: {hint}It has {_listed(table)}.")


def _typed(file: Path, name: str, column: pd.Series, places: Sequence[str], must: bool) -> pd.Series:
    """The column as numbers or truths where its texts are such; a ValueError names the first that is none.

    `must` says that it has to be numbers.
    """
    if pd.api.types.is_numeric_dtype(column):
        return column
    texts = column.map(lambda value: "" if value is None else str(value).strip())
    lower = texts.str.lower()
    missing = lower.isin(MISSING)
    if lower.isin(("true", "false"))[~missing].all() and not missing.all():
        return lower.eq("true")
    numbers = pd.to_numeric(texts.mask(missing, "nan"), errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & ~missing)
    if not wrong.size:
        return numbers
    if must:
        first = wrong[0]
        remedy = "true or false" if name == "diverged" else "numbers; leave the loss of a diverged run empty"
        raise ValueError(
            f"{file}: column {column.name!r}, to be {name}, has the text {texts.iloc[first][:40]!r} in "
            f"{places[first]}: give {remedy}."
        )
    return texts.mask(missing, None)


def _by_state(file: Path, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that have ended, those that W&B calls broken marked as diverged."""
    column = next((name for name in ("State", "state", "_state") if name in runs), None)
    if column is None:
        return runs
    states = runs[column].astype(str).str.lower()
    if not states.isin(STATES).all():
        return runs
    unfinished, broken = states.isin(UNFINISHED), states.isin(BROKEN)
    if unfinished.any():
        warnings.warn(f"{file}: {unfinished.sum()} runs have not ended, and are left out.", stacklevel=4)
    if broken.any():
        warnings.warn(f"{file}: {broken.sum()} runs broke off ({column}), and count as diverged.", stacklevel=4)
        runs = runs.assign(diverged=broken | has_diverged(runs))
    return runs[~unfinished]


def _refuse_copies(file: Path, runs: pd.DataFrame, places: Sequence[str]) -> None:
    """Refuse a run that stands in the table twice, lest it pass for two seeds; all that diverged may look alike."""
    once = runs.drop_duplicates()  # where all runs stand there twice, no loss is different in most rows
    given = once.select_dtypes("number").columns.difference(settings_of(once))
    copies = runs.duplicated() & np.isfinite(runs[given]).any(axis=1) & ~has_diverged(runs)
    if copies.any():
        raise ValueError(
            f"{file}: {places[copies.idxmax()]} repeats an earlier one in every column, as where a run was exported "
            "twice: leave it out, or give a column seed."
        )


def settings_of(runs: pd.DataFrame) -> list[str]:
    """The columns in which repeats of a run are alike: none that it gave, nor one that is different in most rows."""
    return [
        name
        for name, column in runs.items()
        if name in RUN_KEYS or not (_is_outcome(str(name), column) or column.astype(str).nunique() > len(runs) / 2)
    ]


def _is_outcome(name: str, column: pd.Series) -> bool:
    """Whether a run gave what is in a column: settings may be called alike, as z_loss is, but have few values."""
    lower = name.lower()
    if name in OWN_OUTCOMES or "diverged" in lower:
        return True
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if not numeric or not any(word in lower for word in OUTCOMES):
        return False
    known = column[np.isfinite(column)]
    return known.nunique() > len(known) / 2
