"""What a sweep has measured, as two tables."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import xarray

RUN_KEYS = ("parameterization", "width", "depth", "learning_rate", "seed")
# What must be alike in runs that are compared, unless it is what they are compared over.
SETTINGS = (
    "model",
    "base_width",
    "alpha",
    "gamma",
    "loss",
    "data",
    "steps",
    "batch_size",
    "probe_size",
)


@dataclass(frozen=True)
class Records:
    """Runs and their curves, the lab's own or anyone's.

    Attributes:
        runs: one row per run: parameterization, width, depth, learning_rate, seed, further settings, the final
            value of each observable (train_loss, eval_loss, …), and diverged. A diverged run has a loss of nan
            or inf, or `diverged` True.
        curves: one row per run and record, or None: the run's keys, step, and a column per observable.

    Raises:
        ValueError: if a table lacks learning_rate or seed, or has no rows.

    >>> table = pd.DataFrame({"width": [8, 8], "learning_rate": [0.1, 0.2], "seed": 0, "eval_loss": [1.0, 0.9]})
    >>> len(Records(table).select(learning_rate=0.2).runs)
    1
    """

    runs: pd.DataFrame
    curves: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        for name, table in (("runs", self.runs), ("curves", self.curves)):
            if table is None:
                continue
            missing = [key for key in ("learning_rate", "seed") if key not in table]
            if missing:
                raise ValueError(f"{name} lacks the column {missing[0]!r}: each run needs its learning_rate and seed.")

    def select(self, **columns: Any) -> "Records":
        """The runs whose columns have these values (one value or several), with their curves."""
        tables: list[pd.DataFrame | None] = []
        for table in (self.runs, self.curves):
            if table is None:
                tables.append(None)
                continue
            for column, wanted in columns.items():
                if column not in self.runs:
                    raise ValueError(f"there is no column {column!r} to select by; there are {', '.join(self.runs)}.")
                if column in table:
                    values = wanted if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
                    table = table[table[column].isin(list(values))]
            tables.append(table)
        runs, curves = tables
        assert runs is not None
        return Records(runs, curves)

    def to_xarray(self) -> "xarray.Dataset":
        """The curves as an array over (run keys…, step), where xarray is installed."""
        if self.curves is None:
            raise ValueError("these records have no curves.")
        keys = [key for key in (*RUN_KEYS, "step") if key in self.curves]
        return self.curves.set_index(keys).select_dtypes("number").to_xarray()


def require_one_setting(runs: pd.DataFrame, *, apart_from: Iterable[str]) -> None:
    """Refuse runs that mix settings: their losses do not compare.

    Raises:
        ValueError: naming the column, its values and how to choose one.
    """
    for column in (*SETTINGS, "width", "depth"):
        if column in runs and column not in apart_from and runs[column].nunique() > 1:
            values = sorted(runs[column].unique().tolist())
            raise ValueError(
                f"the records mix {column} = {', '.join(map(str, values))}: choose one, "
                f"as in records.select({column}={values[0]!r})."
            )
