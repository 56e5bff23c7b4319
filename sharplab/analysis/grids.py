"""The final losses of runs as grids over learning rates and seeds, and checks of tables of runs."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from sharplab.analysis.valley import Losses
from sharplab.records import has_diverged, require_one_setting


def check_runs(runs: pd.DataFrame, columns: Sequence[str], metric: str, *, also: Iterable[str] = ()) -> None:
    """Refuse runs that lack a column, mix settings (those of `also` among them) or have sizes that are not positive.

    Raises:
        ValueError: naming the column.
    """
    for column in (*columns, metric):
        if column not in runs:
            raise ValueError(f"the runs have no column {column!r}; they have {', '.join(runs)}.")
    if not pd.api.types.is_numeric_dtype(runs[metric]):
        raise ValueError(f"metric {metric!r} is no column of numbers: give one of final losses, as 'eval_loss'.")
    for column in (*columns, "learning_rate"):
        if texts := [value for value in runs[column].unique() if isinstance(value, str)]:
            raise ValueError(f"{column} must be a number in every run, not {texts[0]!r}.")
        if isinstance(runs[column].dtype, pd.CategoricalDtype):
            raise ValueError(f"{column} must be numbers, not categories: give runs[{column!r}].astype(float).")
        known = ((runs[column] > 0) & (runs[column] < np.inf)).fillna(False).astype(bool)
        wrong = runs[column][~known]
        if len(wrong):
            raise ValueError(f"{column} must be positive and finite in every run, not {wrong.iloc[0]}: drop such runs.")
    require_one_setting(runs, apart_from=columns, also=also)


def refuse_repeats(name: str, runs: pd.DataFrame, over: Sequence[str]) -> None:
    """Refuse two runs of the same sizes `over`, learning rate and seed.

    Raises:
        ValueError: naming the first.
    """
    duplicated = runs.duplicated([*over, "learning_rate", "seed"])
    if duplicated.any():
        row = runs[duplicated].iloc[0]
        sizes = ", ".join(f"{column} {row[column]}" for column in over)
        raise ValueError(
            f"{name} has two runs at {sizes}, learning_rate {row['learning_rate']:g}, seed {row['seed']}: "
            f"keep one, as by records.select(...) on the column in which they differ."
        )


def final_losses(runs: pd.DataFrame, metric: str) -> np.ndarray:
    """The final loss of each run, (runs,): inf where it diverged."""
    losses = runs[metric].to_numpy(float)
    return np.where(~np.isfinite(losses) | has_diverged(runs).to_numpy(), np.inf, losses)


def grid_of(runs: pd.DataFrame, metric: str) -> Losses:
    """The losses of the runs of one size, no two of them of the same learning rate and seed."""
    rates, rows = np.unique(np.log2(runs["learning_rate"].to_numpy(float)), return_inverse=True)
    seeds, columns = np.unique(runs["seed"].to_numpy(), return_inverse=True)
    values = np.full((len(rates), len(seeds)), np.nan)
    values[rows, columns] = final_losses(runs, metric)
    return Losses(rates, values)


def grids_over(name: str, runs: pd.DataFrame, over: str, metric: str) -> tuple[tuple[float, ...], list[Losses]]:
    """The sizes, ascending, and the losses of each: inf where diverged, NaN where a seed was not run."""
    refuse_repeats(name, runs, [over])
    parts = list(runs.groupby(over))
    sizes = [float(size) for size, _ in parts]
    return tuple(int(size) if size.is_integer() else size for size in sizes), [
        grid_of(part, metric) for _, part in parts
    ]


def runs_by_name(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each parameterization, and optimizer where there are several, by the name of its `Transfer`."""
    keys = ["parameterization"] if "parameterization" in runs else []
    if "optimizer" in runs and runs["optimizer"].nunique() > 1:
        keys.append("optimizer")
    if not keys:
        yield "runs", runs
        return
    for values, table in runs.groupby(keys, sort=False, dropna=False):
        yield "/".join(map(str, values)), table
