"""Rows of a store, one per run and set of records: which to take, and the two tables that people use.

The curves of a run are Arrow lists in its row until they are asked for, so that plans over many runs stay quick.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sharplab.records import RUN_KEYS, Records
from sharplab.sweep.store.group_file import Block
from sharplab.sweep.store.identity import LATER_SETTINGS, OBSERVATION

COLUMNS = ("run_id", "train_loss", "diverged", "observables", "record_steps", "written")  # known of an empty store


def rows_of(blocks: Sequence[Block]) -> pd.DataFrame:
    """The table of all rows, with the train_loss, and settings that came later at the value that earlier runs had."""
    if not blocks:
        return pd.DataFrame({name: [] for name in COLUMNS}).astype({"diverged": bool})
    table = pa.concat_tables([block.table for block in blocks], promote_options="permissive")
    # Whatever the order of the files, one order of columns.
    layouts = sorted({layout for block in blocks for layout in block.layouts})
    names = list(dict.fromkeys(name for layout in layouts for name in layout))
    for name, value in LATER_SETTINGS.items():
        if name in names:
            table = table.set_column(table.column_names.index(name), name, pc.fill_null(table[name], value))
        else:
            names.append(name)
            table = table.append_column(name, pa.repeat(pa.scalar(value), len(table)))
    rows = table.drop_columns(list(OBSERVATION)).to_pandas(types_mapper=_curves_stay_arrow)
    rows = rows.assign(**{name: _shared(table[name]) for name in OBSERVATION})[names]
    return rows.assign(train_loss=_last(rows, "curve:train_loss"))


def _curves_stay_arrow(kind: pa.DataType) -> pd.ArrowDtype | None:
    return pd.ArrowDtype(kind) if pa.types.is_list(kind) else None


def _shared(lists: pa.ChunkedArray) -> np.ndarray:
    """One array per list; equal lists share one array, since thousands of runs are recorded at the same steps."""
    encoded = pc.list_flatten(lists).combine_chunks().dictionary_encode()
    codes, distinct = encoded.indices.to_numpy(), encoded.dictionary.to_numpy(zero_copy_only=False)
    ends = np.cumsum(pc.list_value_length(lists).to_numpy())
    known: dict[bytes, np.ndarray] = {}
    arrays = np.empty(len(ends), object)
    for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        own = codes[start:end]
        name = own.tobytes()
        if name not in known:
            known[name] = distinct[own]
            known[name].flags.writeable = False
        arrays[i] = known[name]
    return arrays


def one_per_run(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run: that with most observables × records, of equal ones the latest."""
    if rows.empty:
        return rows
    amount = rows["observables"].str.len() * rows["record_steps"].str.len()
    # Sorted without the curves, which are moved once.
    keys = rows[["run_id", "written", *RUN_KEYS]].assign(amount=amount).reset_index(drop=True)
    kept = keys.sort_values(["amount", "written"], kind="stable").drop_duplicates("run_id", keep="last")
    # Runs that share their keys differ in other settings: the identity gives them one order too.
    order = kept.sort_values([*RUN_KEYS, "run_id"]).index
    return rows.take(order).reset_index(drop=True)


def at_steps(rows: pd.DataFrame, steps: Mapping[str, Collection[int]]) -> pd.DataFrame:
    """The rows with the records at these steps of each run alone, which it must have."""
    more = np.array([len(at) > len(steps[run]) for run, at in zip(rows["run_id"], rows["record_steps"], strict=True)])
    if not more.any():
        return rows
    thinned = rows[more]
    kept = [np.isin(at, list(steps[run])) for run, at in zip(thinned["run_id"], thinned["record_steps"], strict=True)]
    columns = {
        name: pd.array(
            [None if values is None else np.asarray(values)[at] for values, at in zip(lists, kept, strict=True)],
            dtype=rows[name].dtype,
        )
        for name in rows
        if name.startswith("curve:")
        for lists in [pa.array(thinned[name].array).to_pylist()]
    }
    own = np.empty(len(kept), object)
    own[:] = [steps_of[at] for steps_of, at in zip(thinned["record_steps"], kept, strict=True)]
    thinned = thinned.assign(**columns, record_steps=own)
    return pd.concat([rows[~more], thinned]).sort_index()


def as_records(rows: pd.DataFrame) -> Records:
    """The two tables that people use, from rows of a store."""
    curve_columns = [name for name in rows if name.startswith("curve:")]
    finals = {name.removeprefix("curve:"): _last(rows, name) for name in curve_columns}
    plain = rows.drop(columns=[*curve_columns, "train_loss"], errors="ignore")
    # Joined at once: dozens of columns put in one by one leave a table in pieces.
    return Records(plain.join(pd.DataFrame(finals, index=rows.index)), _curves(rows, curve_columns))


def recorded(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Whether each row has an observable, by the observable's name: a NaN where it has is a measured one."""
    curve_columns = [name for name in rows if name.startswith("curve:")]
    return {name.removeprefix("curve:"): rows[name].notna().to_numpy() for name in curve_columns}


def first_values(rows: pd.DataFrame, name: str) -> pd.Series:
    """The value of an observable before any step, for the rows that have it."""
    column = f"curve:{name}"
    if column not in rows:
        return pd.Series(dtype=float)
    starts = rows["record_steps"].map(lambda steps: len(steps) > 0 and steps[0] == 0)
    having = rows[starts.to_numpy(bool) & rows[column].notna().to_numpy()]
    lengths, values = _flat(having[column])
    return pd.Series(values[np.cumsum(lengths) - lengths].astype(float), having.index)


def _flat(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The length of each list, 0 for none, and all their values, one list after another."""
    lists = pa.array(column.array)
    lengths, values = pc.fill_null(pc.list_value_length(lists), 0), pc.list_flatten(lists)
    return lengths.to_numpy(zero_copy_only=False), values.to_numpy(zero_copy_only=False)


def _last(rows: pd.DataFrame, column: str) -> pd.Series:
    if column not in rows:
        return pd.Series(np.nan, rows.index)
    lengths, values = _flat(rows[column])
    filled = lengths > 0
    last = values[np.cumsum(lengths)[filled] - 1]
    if filled.all():
        return pd.Series(last, rows.index)
    finals = np.full(len(rows), np.nan)
    finals[filled] = last
    return pd.Series(finals, rows.index)


def _curves(rows: pd.DataFrame, curve_columns: list[str]) -> pd.DataFrame:
    lengths = rows["record_steps"].str.len().to_numpy(int)
    runs = np.repeat(np.arange(len(rows)), lengths)
    long = {name: rows[name].array.take(runs) for name in ("run_id", *RUN_KEYS)}
    long["step"] = np.concatenate([np.empty(0, int), *rows["record_steps"]]).astype(int)
    for name in curve_columns:
        own_lengths, values = _flat(rows[name])
        curve = np.full(len(runs), np.nan)
        curve[np.repeat(own_lengths > 0, lengths)] = values
        long[name.removeprefix("curve:")] = curve
    return pd.DataFrame(long)
