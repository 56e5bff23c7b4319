"""What a figure is drawn from: the runs that it asked a store for, and the tables that it computed besides.

Kept beside the figure, they draw it again, with the same numbers and verdict, without training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


Tables = Sequence["pd.DataFrame | None"]
Compute = Callable[[], Tables]


def at_once(parts: Mapping[str, Compute]) -> list[Tables]:
    """What the parts give, one after another."""
    return [compute() for compute in parts.values()]


@dataclass(frozen=True)
class Evidence:
    """The runs and tables that were asked for so far.

    Attributes:
        run_ids: the identities of the runs.
        tables: what was computed, by name.
        complete: whether nothing may be added, as where a figure is drawn again.
        compute: how the parts of a long computation are gone through.
    """

    run_ids: set[str] = field(default_factory=set)
    tables: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    complete: bool = False
    compute: Callable[[Mapping[str, Compute]], list[Tables]] = at_once


_CURRENT: ContextVar[Evidence | None] = ContextVar("evidence", default=None)


@contextmanager
def gathering(evidence: Evidence) -> Iterator[Evidence]:
    """A block in which what is asked for is noted in `evidence`, or comes from there where that is complete."""
    token = _CURRENT.set(evidence)
    try:
        yield evidence
    finally:
        _CURRENT.reset(token)


def note_runs(run_ids: "pd.Series[str]") -> None:
    """Note that these runs were asked for."""
    if evidence := _CURRENT.get():
        evidence.run_ids.update(run_ids)


def may_train() -> bool:
    """Whether runs that a store lacks may be trained."""
    evidence = _CURRENT.get()
    return evidence is None or not evidence.complete


def measured(name: str, compute: "Callable[[], pd.DataFrame]") -> "pd.DataFrame":
    """The table of this name: what `compute` gives, or where a figure is drawn again what it gave the first time.

    Raises:
        ValueError: where a figure is drawn again that had no such table.
    """
    evidence = _CURRENT.get()
    if evidence is not None and evidence.complete:
        if name not in evidence.tables:
            raise ValueError(f"the figure was drawn without the table {name!r}: make it anew.")
        return evidence.tables[name]
    table = compute()
    if evidence is not None:
        evidence.tables[name] = table
    return table


def measured_parts(names: Sequence[str], parts: Mapping[str, Compute]) -> "list[pd.DataFrame]":
    """The tables of these names, as `measured` gives them, put together of parts that are computed one by one.

    Where a figure is made by a command, each part is kept as soon as it is there, so that one that was interrupted goes
    on, and a line a minute says how far it is.

    Args:
        names: of the tables.
        parts: by a title that tells them apart, what gives a part of each table; None where it has none.
    """
    import pandas as pd

    @cache
    def tables() -> "list[pd.DataFrame]":
        evidence = _CURRENT.get()
        compute = at_once if evidence is None else evidence.compute
        found = compute({f"{', '.join(names)}: {title}": part for title, part in parts.items()})
        columns = zip(*found, strict=True)
        return [pd.concat([part for part in column if part is not None], ignore_index=True) for column in columns]

    def one(i: int) -> "pd.DataFrame":
        return tables()[i]

    return [measured(name, partial(one, i)) for i, name in enumerate(names)]
