"""The records of a sweep as two tables: its runs, and their curves along training."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sharplab.core.arguments import of
from sharplab.core.settings import TrainingSettings, declarations

if TYPE_CHECKING:
    import xarray

# Learning rates within this of each other, relatively, are one that was rounded: to float32, or in a text. The finest
# grids have ratios of 1.01.
RATE_DISTANCE = 1e-3
SAME = 1e-12  # relative distance that arithmetic leaves, of which nothing is said
RUN_KEYS = ("parameterization", "width", "depth", "learning_rate", "seed")
# What must be alike in runs that are compared, unless it is what they are compared over. Optimizers are told apart.
SETTINGS = (
    "width",
    "depth",
    *(
        name
        for name, declared in declarations(TrainingSettings).items()
        if not declared.observation and name != "optimizer"
    ),
)
# Of these, the ones whose values are names: a column of numbers called so, as many call theirs of losses, is none.
NAMED = frozenset(name for name, declared in declarations(TrainingSettings).items() if declared.kind.table)
SHOWN = 12  # values of a column in an error


a_table = of(pd.DataFrame, "of pandas, with a row per run or record")


@dataclass(frozen=True)
class Records:
    """Runs and their curves, the lab's own or anyone's.

    Attributes:
        runs: one row per run: parameterization, width, depth, learning_rate, seed, further settings, the final
            value of each observable (train_loss, eval_loss, …), and diverged. Only learning_rate and seed are
            always needed; an analysis names what else it lacks. A diverged run has a loss of nan or inf, or
            `diverged` True.
        curves: one row per run and record, or None: the run's keys (and run_id, where runs share them), step, and
            a column per observable.

    Raises:
        ValueError: if a table lacks learning_rate or seed (curves: or step), has no rows, a column twice, or seeds of
            which only some are texts.

    >>> table = pd.DataFrame({"width": [8, 8], "learning_rate": [0.1, 0.2], "seed": 0, "eval_loss": [1.0, 0.9]})
    >>> len(Records(table).select(learning_rate=0.2).runs)
    1
    """

    runs: pd.DataFrame
    curves: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        a_table("runs", self.runs)
        _check("runs", self.runs, ("learning_rate", "seed"))
        if self.curves is not None:
            a_table("curves", self.curves)
            _check("curves", self.curves, ("learning_rate", "seed", "step"))

    def select(self, **columns: Any) -> "Records":
        """The runs whose columns have these values (one value or several), with their curves.

        A learning rate stands for all that lie within 0.001 of it, relatively.

        Raises:
            ValueError: for an unknown column, values that no run has, or curves that cannot be told apart.
        """
        kept = pd.Series(True, index=self.runs.index)
        for column, wanted in columns.items():
            if column not in self.runs:
                raise ValueError(f"there is no column {column!r} to select by; there are {', '.join(self.runs)}.")
            several = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
            matches = self.runs[column].isin(several)
            if column == "learning_rate" and pd.api.types.is_numeric_dtype(self.runs[column]):
                matches |= np.isclose(self.runs[[column]], np.array(several, float), RATE_DISTANCE, 0.0).any(axis=1)
            if not (kept & matches).any():
                known = self.runs[column][kept].drop_duplicates().tolist()
                raise ValueError(f"no run has {column} = {wanted}; there are {listed(known)}.")
            kept &= matches
        return Records(self.runs[kept], None if self.curves is None else self._curves_of(kept))

    def _curves_of(self, kept: pd.Series) -> pd.DataFrame:
        assert self.curves is not None
        keys = [key for key in ("run_id", *RUN_KEYS) if key in self.runs and key in self.curves]
        keys = keys[:1] if keys[0] == "run_id" else keys
        own, others = (pd.MultiIndex.from_frame(self.runs.loc[rows, keys]) for rows in (kept, ~kept))
        if own.isin(others).any():
            raise ValueError("the curves of some runs differ in no column: give runs and curves a run_id to select by.")
        return self.curves[pd.MultiIndex.from_frame(self.curves[keys]).isin(own)]

    def to_xarray(self) -> "xarray.Dataset":
        """The curves as arrays over (run keys…, step), NaN where there was no run.

        Raises:
            ImportError: where xarray is not installed.
            ValueError: without curves, or if two runs have the same keys.
        """
        try:
            import xarray  # noqa: F401
        except ImportError as error:
            raise ImportError("to_xarray needs xarray: install it, as by `pip install xarray`.") from error
        if self.curves is None:
            raise ValueError("these records have no curves to make arrays of: give Records(runs, curves).")
        keys = [key for key in (*RUN_KEYS, "step") if key in self.curves]
        if self.curves.duplicated(keys).any():
            raise ValueError(f"some curves share {', '.join(keys)}: select one setting first, as by select(steps=256).")
        return self.curves.set_index(keys).select_dtypes("number").to_xarray()


some_records = of(Records, "as sharplab.load gives them or sharplab.Records(table) makes them")


def join_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The runs or curves with learning rates that differ by rounding, as from seed to seed, made one.

    Ascending, each rate is joined to the lowest before it that lies within `RATE_DISTANCE`, and a group takes the value
    that has the shortest text. A UserWarning says so, unless arithmetic alone parted them; a table without such rates
    is returned as it is.

    >>> with warnings.catch_warnings(action="ignore"):
    ...     join_rates(pd.DataFrame({"learning_rate": [0.1, 0.1000001, 0.2]}))["learning_rate"].tolist()
    [0.1, 0.1, 0.2]
    """
    if not pd.api.types.is_numeric_dtype(table["learning_rate"]):
        return table
    every = table["learning_rate"].astype(float)
    groups: list[list[float]] = []
    for rate in np.unique(every[(every > 0) & (every < np.inf)]).tolist():
        if groups and rate <= groups[-1][0] * (1 + RATE_DISTANCE):
            groups[-1].append(rate)
        else:
            groups.append([rate])
    shortest = [min(group, key=lambda rate: (len(repr(rate)), rate)) for group in groups]
    joined = {rate: one for group, one in zip(groups, shortest, strict=True) for rate in group if rate != one}
    if not joined:
        return table
    table = table.assign(learning_rate=every.replace(joined))
    told = [(rate, one) for rate, one in joined.items() if abs(rate - one) > SAME * one]
    if not told:
        return table
    rate, one = told[0]
    warnings.warn(
        f"learning_rate: {len(told)} of {every.nunique()} values lie within {RATE_DISTANCE:g}, relatively, of "
        f"another, as {rate!r} of {one!r}: they count as one.",
        stacklevel=4,
    )
    return table


def _check(name: str, table: pd.DataFrame, needed: Iterable[str]) -> None:
    missing = [key for key in needed if key not in table]
    if missing:
        columns = f"the column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}"
        raise ValueError(f"{name} lacks {columns}: each run needs its own; it has {', '.join(map(str, table))}.")
    if table.empty:
        raise ValueError(f"{name} has no rows: give at least one run.")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"{name} has the column {twice!r} twice: rename one.")
    seeds = table["seed"]  # their order pairs the seeds of sizes
    if not pd.api.types.is_numeric_dtype(seeds) and seeds.map(lambda seed: isinstance(seed, str)).nunique() > 1:
        raise ValueError(f"{name}: seed must be a number in every run, or a text in every run: give each run its own.")


def has_diverged(runs: pd.DataFrame) -> pd.Series:
    """Whether each run is marked as diverged, by `diverged` True or 1; a missing entry, or column, marks none.

    Raises:
        ValueError: for other values, as texts: whichever way they were taken, some runs would count for the opposite.

    >>> has_diverged(pd.DataFrame({"diverged": [True, None, 0]})).tolist()
    [True, False, False]
    """
    if "diverged" not in runs:
        return pd.Series(False, index=runs.index)
    marks = runs["diverged"]
    wrong = [mark for mark in marks[marks.notna()] if mark not in (True, False)]
    if wrong:
        raise ValueError(
            f"diverged must be True or False, 1 or 0, or missing in every run, not {wrong[0]!r}: make truth values of "
            "it, as by runs['diverged'].eq('yes')."
        )
    return marks.isin([True]).astype(bool)


def mixed_setting(runs: pd.DataFrame, *, apart_from: Sequence[str], also: Iterable[str] = ()) -> str | None:
    """The first setting, those of `also` among them, in which runs differ that are to be compared; None if in none."""
    for column in (*SETTINGS, *also):
        if column not in runs or column in apart_from or runs[column].nunique(dropna=False) <= 1:
            continue
        if column not in NAMED or not pd.api.types.is_numeric_dtype(runs[column]):
            return column
    return None


def sorted_values(column: pd.Series) -> list[Any]:
    """The different values of a column, numbers before texts."""
    return sorted(column.drop_duplicates().tolist(), key=lambda value: (isinstance(value, str), value != value, value))


def listed(values: Sequence[Any]) -> str:
    """The values in a line, the first of them where they are many."""
    return ", ".join(map(str, values[:SHOWN])) + ", …" * (len(values) > SHOWN)


def require_one_setting(runs: pd.DataFrame, *, apart_from: Iterable[str], also: Iterable[str] = ()) -> None:
    """Refuse runs that mix settings, those of `also` among them: they do not compare.

    Raises:
        ValueError: naming the column, its values and how to choose one.
    """
    column = mixed_setting(runs, apart_from=tuple(apart_from), also=also)
    if column is not None:
        values = sorted_values(runs[column])
        raise ValueError(
            f"the records mix {column} = {listed(values)}: choose one, as in records.select({column}={values[0]!r})."
        )
