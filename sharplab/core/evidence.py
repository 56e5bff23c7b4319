"""What a figure is drawn from: the runs that it asked a store for, and the tables that it computed besides.

Kept beside the figure, they draw it again, with the same numbers and verdict, without training.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evidence:
    """The runs and tables that were asked for so far.

    Attributes:
        run_ids: the identities of the runs.
        tables: what was computed, by name.
        complete: whether nothing may be added, as where a figure is drawn again.
    """

    run_ids: set[str] = field(default_factory=set)
    tables: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    complete: bool = False


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
