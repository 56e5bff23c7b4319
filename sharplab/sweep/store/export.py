"""Export of a store's tables to other programs, and the merge of several stores into one."""

import io
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sharplab.core.files import StoreError, refusal, sync_folder, write_whole
from sharplab.sweep.store.columns import SETTINGS
from sharplab.sweep.store.data_card import TITLE, data_card
from sharplab.sweep.store.directory import (
    GROUPS,
    group_files,
    is_store,
    open_store,
    read_rows,
    read_runs,
    require_store,
)
from sharplab.sweep.store.group_file import OtherSchema, digest_in, key_of, read_table, verified_content
from sharplab.sweep.store.layout import Unusable
from sharplab.sweep.store.rows import as_records, first_values, one_per_run, recorded

CARD = "README.md"
EXPORTED = ("runs.parquet", "curves.parquet", CARD)
# The first record comes before any step: what differs there is the model or the data, not chance. Eigenvalues have
# a solver's error beside, and an accuracy jumps with a single example.
COMPARED = ("train_loss", "eval_loss")
ROUNDING = 1e-4


def export(store: Path | str, folder: Path | str) -> Path:
    """Write a store's runs as `runs.parquet`, `curves.parquet` and a data card, whole or not at all.

    What a run observed, and at which steps, are Parquet lists. An observable that a run was not asked for is null; NaN
    and ±inf are kept as such.

    The folder is new or empty, or an earlier export, which is replaced.

    Raises:
        StoreError: if there is no store, the folder holds other things, or cannot be written.
    """
    source, target = Path(store), Path(folder).resolve()
    require_store(source)
    rows = read_runs(source)
    records = as_records(rows)
    assert records.curves is not None
    measured = recorded(rows)
    lengths = rows["record_steps"].str.len().to_numpy(int)
    contents = {
        "runs.parquet": _parquet(records.runs, measured),
        "curves.parquet": _parquet(records.curves, {name: np.repeat(has, lengths) for name, has in measured.items()}),
        CARD: data_card(records).encode(),
    }
    try:
        _require_room(target)
        _write_folder(target, contents)
    except OSError as error:
        raise refusal(f"{target} cannot be written", error, safe="the store is") from error
    return target


def _parquet(table: pd.DataFrame, measured: Mapping[str, np.ndarray]) -> bytes:
    arrays = {name: _array(table[name], measured.get(str(name))) for name in table}
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()


def _array(column: pd.Series, has: np.ndarray | None) -> pa.Array:
    if column.dtype.kind == "f":
        # From a numpy array NaN stays NaN; from a pandas column it would become null.
        return pa.array(column.to_numpy(), mask=None if has is None else ~has)
    return pa.array(column)


def _require_room(folder: Path) -> None:
    names = set(os.listdir(folder)) if folder.exists() else set()
    earlier = names == set(EXPORTED) and (folder / CARD).read_text(errors="replace").startswith(TITLE)
    if names and not earlier:
        raise StoreError(f"{folder} holds other things, as {min(names - {CARD}, default=CARD)}: give a new directory.")


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.{what}") for what in ("new", "old"))
    try:
        new.mkdir()
        for name, content in contents.items():
            write_whole(new / name, content)
        if folder.exists():
            folder.replace(old)
        try:
            new.replace(folder)
        except OSError:
            if old.exists():
                old.replace(folder)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def merge(sources: Sequence[Path | str], into: Path | str) -> int:
    """Copy the group files of several stores into one, unless these differ in what a run is.

    Files are known by their content: what is there already is not copied, and a merge that was interrupted is finished
    by the same call. Damaged files are left out, with a `StoreWarning`.

    `into` is a new or empty directory, or a store, which is checked like the others. Returned is how many files were
    copied.

    Raises:
        ValueError: without sources.
        StoreError: where one is no store of this schema; where a run that two of them hold has other settings, or
            another loss at its first record by more than rounding; where `into` cannot be written. Nothing is written
            in the first two cases.
    """
    target = Path(into)
    stores = list({Path(source).resolve(): Path(source) for source in sources}.values())
    if not stores:
        raise ValueError("sources is empty: give at least one store to merge.")
    for store in stores:
        require_store(store)
    held = [*stores, target] if is_store(target) and target.resolve() not in map(Path.resolve, stores) else stores
    conflict = next(_conflicts([(store, one_per_run(read_rows(store))) for store in held]), None)
    if conflict is not None:
        raise StoreError(str(conflict))
    target = open_store(target)
    present = {digest_in(path) for path in group_files(target)}
    return sum(_copy(path, target, present) for store in stores for path in sorted(group_files(store)))


def _copy(path: Path, target: Path, present: set[str]) -> bool:
    key = key_of(path)
    if key is None or digest_in(path) in present:
        return False
    try:
        read_table(key)
        write_whole(target / GROUPS / path.name, verified_content(key))
    except (Unusable, OtherSchema):
        return False  # said when it was read
    except OSError as error:
        safe = "what either held before is"
        raise refusal(f"{path} cannot be copied into store {target}", error, safe=safe) from error
    present.add(digest_in(path))
    return True


class _Conflict(NamedTuple):
    run: pd.Series
    what: str
    values: tuple[object, object]
    stores: tuple[Path, Path]
    runs: int
    reason: str

    def __str__(self) -> str:
        run, (here, there) = self.run, self.stores
        keys = f"{run['parameterization']}, width {run['width']}, depth {run['depth']}, "
        keys += f"learning rate {run['learning_rate']:g}, seed {run['seed']}"
        others = f" (and {self.runs - 1} more runs likewise)" if self.runs > 1 else ""
        return (
            f"run {run['run_id']} ({keys}) has {self.what} = {self.values[0]} in {here} and {self.values[1]} in {there}"
            f"{others}: {self.reason}. Nothing was merged: keep these stores apart, or train the runs of one anew."
        )


def _conflicts(tables: Sequence[tuple[Path, pd.DataFrame]]) -> Iterator[_Conflict]:
    """The differences between runs of two stores that must be alike."""
    for name in SETTINGS:
        columns = [rows[name] if name in rows else pd.Series(dtype=object) for _, rows in tables]
        reason = "one identity must mean one definition, so these stores come from versions that differ"
        yield from _differences(tables, columns, name, reason, rounding=0.0)
    for name in COMPARED:
        columns = [first_values(rows, name) for _, rows in tables]
        reason = "the model or the data behind a name has changed between them"
        yield from _differences(tables, columns, f"{name} at its first record", reason, rounding=ROUNDING)


def _differences(
    tables: Sequence[tuple[Path, pd.DataFrame]],
    columns: Sequence[pd.Series],
    what: str,
    reason: str,
    *,
    rounding: float,
) -> Iterator[_Conflict]:
    places = [(i, row) for i, column in enumerate(columns) for row in column.index]
    if not places:
        return
    values = np.concatenate([column.to_numpy(object) for column in columns])
    ids = [tables[i][1].at[row, "run_id"] for i, row in places]
    _, first, codes = np.unique(ids, return_index=True, return_inverse=True)
    reference = values[first[codes]]
    if rounding:
        numbers, others = values.astype(float), reference.astype(float)
        differ = ~np.isclose(numbers, others, rtol=rounding, atol=0, equal_nan=True)
    else:
        differ = (values != reference) & ~(pd.isna(values) & pd.isna(reference))
    found = np.flatnonzero(differ)
    if len(found):
        example = found[0]
        (here, _), (there, row) = places[first[codes[example]]], places[example]
        pair = (reference[example], values[example])
        stores = (tables[here][0], tables[there][0])
        yield _Conflict(tables[there][1].loc[row], what, pair, stores, len(set(codes[found])), reason)
