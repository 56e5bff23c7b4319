"""What a group file must look like: its columns, their types, and how many values they hold."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sharplab.sweep.store.identity import LATER_SETTINGS, OBSERVATION
from sharplab.training.task import Run, Task

LARGEST = 2**27  # values of all columns, a gigabyte: a group is what one worker trains within an hour
CURVE = "curve:"

Check = Callable[[pa.DataType], bool]


class Unusable(Exception):
    """A file among the groups is not one that was written there."""


# Of these kinds any two files can be joined: unsigned numbers and text that may be long join with no others.
def _is_whole(kind: pa.DataType) -> bool:
    return pa.types.is_signed_integer(kind)


def _is_number(kind: pa.DataType) -> bool:
    return _is_whole(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)


def _list_of(check: Check) -> Check:
    return lambda kind: pa.types.is_list(kind) and (check(kind.value_type) or pa.types.is_null(kind.value_type))


CHECKS: Mapping[type, Check] = {
    str: pa.types.is_string,
    int: _is_whole,
    float: _is_number,
    bool: pa.types.is_boolean,
}


def _check_of(kind: Any) -> Check:
    return _list_of(CHECKS[get_args(kind)[0]]) if get_args(kind) else CHECKS[kind]


# The columns that every file has, and others whose types are known.
SETTINGS: Mapping[str, Check] = {field.name: _check_of(field.type) for cls in (Task, Run) for field in fields(cls)}
NEEDED: Mapping[str, Check] = {
    **{name: check for name, check in SETTINGS.items() if name not in LATER_SETTINGS},
    "run_id": pa.types.is_string,
    "diverged": pa.types.is_boolean,
    "written": pa.types.is_string,
}
KNOWN: Mapping[str, Check] = {
    **SETTINGS,
    **NEEDED,
    "diverged_step": _is_whole,
    "matvecs": _is_whole,
    "seconds": _is_number,
    **dict.fromkeys(("batching", "runs_per_device", "loop", "device", "versions"), pa.types.is_string),
}


def check_layout(file: pq.ParquetFile) -> None:
    """Check what the footer of a group file says, before its values are read.

    Raises:
        Unusable: naming the column that is missing or of another type, or if there is more than a group can be.
    """
    schema, metadata = file.schema_arrow, file.metadata
    if absent := [name for name in NEEDED if schema.names.count(name) != 1]:
        raise Unusable(f"holds no runs (it lacks {', '.join(absent)})")
    for field in schema:
        check = _curve_check(field.name) if field.name.startswith(CURVE) else KNOWN.get(field.name)
        if check is not None and not check(field.type):
            raise Unusable(f"holds a column {field.name} of {field.type}")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    if max(values, metadata.num_rows * len(schema)) > LARGEST:
        raise Unusable(f"claims to hold {values:,} values, more than any group")


def _curve_check(name: str) -> Check:
    """Curves are numbers, apart from those that say whether something was missed."""
    return _list_of(pa.types.is_boolean if name.endswith("_missed") else _is_number)


def check_rows(table: pa.Table) -> None:
    """Check what a group file holds.

    Raises:
        Unusable: for values that are missing, curves of another length than their steps, or a date that is none.
    """
    if missing := [name for name in NEEDED if table[name].null_count]:
        raise Unusable(f"lacks values of {', '.join(missing)}")
    if any(pc.list_flatten(table[name]).null_count for name in OBSERVATION):
        raise Unusable("lacks names of observables, or steps of records")
    records = pc.list_value_length(table["record_steps"])
    for name in table.schema.names:
        if name.startswith(CURVE):
            same = pc.equal(pc.list_value_length(table[name]), records)
            if not pc.all(same, min_count=0).as_py():
                raise Unusable(f"holds curves of {name.removeprefix(CURVE)} that do not fit their steps")
    try:
        for written in pc.unique(table["written"]).to_pylist():
            datetime.fromisoformat(written)
    except ValueError as error:
        raise Unusable("is dated by no date") from error
