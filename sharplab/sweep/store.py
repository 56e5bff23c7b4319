"""Where runs are kept: a directory of group files, each written whole or not at all.

A group file is a Parquet table with one row per run, curves as lists, and carries the digest of its own bytes
in its name: a file that was cut or altered is known as such, set aside and its runs trained again.
"""

import hashlib
import io
import json
import os
import uuid
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sharplab.provenance import versions
from sharplab.records import RUN_KEYS, Records
from sharplab.sweep.identity import LATER_SETTINGS, run_id, settings
from sharplab.training import LaneResult, Task

SCHEMA = 1
MARKER = "store.json"
COLUMNS = ("run_id", "train_loss", "diverged", "observables", "record_steps")  # known of an empty store


class StoreWarning(UserWarning):
    """Something in a store was not as it was written, and has been set aside."""


def open_store(path: Path | str) -> Path:
    """The store's directory, ready to be written, made where there is none.

    Raises:
        ValueError: for a directory that holds something else, a store of another schema, or one that cannot
            be written.
    """
    folder = Path(path)
    marker = folder / MARKER
    try:
        if not marker.exists():
            if folder.exists() and any(folder.iterdir()):
                raise ValueError(f"store {folder} holds other files and no {MARKER}: give a new or empty directory.")
            (folder / "groups").mkdir(parents=True, exist_ok=True)
            _write_whole(marker, json.dumps({"sharplab_store": SCHEMA}).encode())
    except OSError as error:
        raise ValueError(f"store {folder} cannot be made: {error.strerror}; give another directory.") from error
    _check_schema(folder)
    if not os.access(folder / "groups", os.W_OK | os.X_OK):
        raise ValueError(f"store {folder} cannot be written: change the permissions of {folder / 'groups'}.")
    return folder


def _check_schema(folder: Path) -> None:
    marker = folder / MARKER
    try:
        schema = json.loads(marker.read_text()).get("sharplab_store")
    except OSError as error:
        raise ValueError(f"store {folder} cannot be read: {error.strerror} ({marker}).") from error
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{marker} is damaged: restore it, or give a new directory as store.") from error
    if schema != SCHEMA:
        raise ValueError(f"store {folder} has schema {schema}, this version reads {SCHEMA}: give a new directory.")


def _write_whole(path: Path, content: bytes) -> None:
    """Under its name there is the whole content or nothing, whenever the machine stops."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def add_group(store: Path, task: Task, results: Sequence[LaneResult]) -> Path:
    """Write the results of lanes of one task as a group file.

    Raises:
        ValueError: if the directory cannot be written.
    """
    provenance = {"versions": json.dumps(versions()), "written": datetime.now(UTC).isoformat()}
    rows = [_row(task, result) | provenance for result in results]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    content = buffer.getvalue()
    path = store / "groups" / f"{task.parameterization}-w{task.width}-d{task.depth}-{_digest(content)}.parquet"
    try:
        _write_whole(path, content)
    except OSError as error:
        raise ValueError(f"store {store} cannot be written: {error.strerror}; what it held is safe.") from error
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _row(task: Task, result: LaneResult) -> dict[str, Any]:
    measured = {name: values.tolist() for name, values in result.curves.items() if name != "step"}
    return {
        "run_id": run_id(task, result.lane),
        **settings(task, result.lane),
        "observables": list(task.observables),
        "record_steps": list(task.record_steps),
        "diverged": result.diverged,
        "diverged_step": result.diverged_step,
        "matvecs": int(sum(np.sum(values) for name, values in result.curves.items() if name.endswith("_matvecs"))),
        "seconds": result.seconds,
        **result.setting,
        **{f"curve:{name}": values for name, values in measured.items()},
    }


def group_files(store: Path) -> frozenset[Path]:
    """The group files that there are now."""
    return frozenset((store / "groups").glob("*.parquet"))


def _read_group(path: Path) -> pd.DataFrame | None:
    """The file's rows, or None (and the file set aside) where it is not what was written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"store file {path} cannot be read: {error.strerror}; change its permissions.") from error
    if path.stem.rpartition("-")[2] == _digest(content):
        return pq.read_table(io.BytesIO(content)).to_pandas()
    warnings.warn(
        f"{path} is not as it was written (cut or altered): {_set_aside(path)}; its runs count as not yet trained.",
        StoreWarning,
        stacklevel=4,
    )
    return None


def _set_aside(path: Path) -> str:
    aside = path.parent / "set-aside"
    try:
        aside.mkdir(exist_ok=True)
        path.replace(aside / path.name)
    except OSError:  # a store may be read where it cannot be written
        return "ignored"
    return f"set aside in {aside}"


def read_rows(store: Path, *, apart_from: frozenset[Path] = frozenset()) -> pd.DataFrame:
    """Every row of a store, those of the group files in `apart_from` left out; one run may have several rows.

    Raises:
        ValueError: if a file cannot be read. A damaged one is a `StoreWarning`.
    """
    tables = [table for path in sorted(group_files(store) - apart_from) if (table := _read_group(path)) is not None]
    if not tables:
        return pd.DataFrame({name: [] for name in COLUMNS}).astype({"diverged": bool})
    rows = pd.concat(tables, ignore_index=True)
    for name, value in LATER_SETTINGS.items():
        # What a store from before the setting does not say.
        rows[name] = rows[name].fillna(value) if name in rows else value
    return rows.assign(train_loss=_last(rows, "curve:train_loss"))


def one_per_run(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each run the row with most observables × records, and of equal ones the latest."""
    if rows.empty:
        return rows
    amount = rows["observables"].str.len() * rows["record_steps"].str.len()
    order = rows.assign(_amount=amount).sort_values(["_amount", "written"], kind="stable").drop(columns="_amount")
    return order.drop_duplicates("run_id", keep="last").sort_values(list(RUN_KEYS), ignore_index=True)


def _last(rows: pd.DataFrame, column: str) -> pd.Series:
    if column not in rows:
        return pd.Series(np.nan, rows.index)
    return rows[column].map(lambda curve: curve[-1] if isinstance(curve, np.ndarray) else np.nan)


def as_records(rows: pd.DataFrame) -> Records:
    """Rows of a store as the two tables that people use."""
    curve_columns = [name for name in rows if name.startswith("curve:")]
    finals = {name.removeprefix("curve:"): _last(rows, name) for name in curve_columns}
    plain = rows.drop(columns=[*curve_columns, "train_loss"], errors="ignore")
    return Records(plain.assign(**finals), _curves(rows, curve_columns))


def _curves(rows: pd.DataFrame, curve_columns: list[str]) -> pd.DataFrame:
    lengths = rows["record_steps"].str.len().astype(int)
    long = rows[["run_id", *RUN_KEYS]].loc[rows.index.repeat(lengths)].reset_index(drop=True)
    long["step"] = np.concatenate(list(rows["record_steps"])).astype(int)
    for name in curve_columns:
        absent = (np.full(length, np.nan) for length in lengths)
        pieces = [
            curve if isinstance(curve, np.ndarray) else gap for curve, gap in zip(rows[name], absent, strict=True)
        ]
        long[name.removeprefix("curve:")] = np.concatenate(pieces).astype(float)
    return long


def load(store: Path | str) -> Records:
    """Everything that a store holds, as `Records` with `.runs` and `.curves`.

    Raises:
        ValueError: if there is no store of this schema at that place, or it holds no runs.
    """
    folder = Path(store)
    if not (folder / MARKER).exists():
        raise ValueError(f"there is no store at {folder}: give the directory that a sweep was written to.")
    _check_schema(folder)
    rows = one_per_run(read_rows(folder))
    if rows.empty:
        raise ValueError(f"the store {folder} holds no runs yet.")
    return as_records(rows)
