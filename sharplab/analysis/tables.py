"""Tables of sweeps made elsewhere, read as `Records`: CSV, Parquet, JSON lines, and exports of Weights & Biases."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from sharplab.analysis.table_files import read_table
from sharplab.core.arguments import checked
from sharplab.core.arguments import path as a_path
from sharplab.core.text import printable
from sharplab.records import NAMED, RUN_KEYS, Records, has_diverged, join_rates

PREFIXES = ("config.", "summary.", "summary_metrics.")  # where W&B keeps what a run was given, and what it gave
MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "<na>"))
TEXTS = {*NAMED, "parameterization", "seed"}  # columns that may hold names
OUTCOMES = ("loss", "accuracy", "error", "perplexity")  # words in the names of what a run gave, and of some settings
OWN_OUTCOMES = ("train_loss", "eval_loss")  # names under which the lab knows what a run gave
# What is of a run and no setting, whatever its values: when and how long it ran. Whole names: a max_duration is given.
_TIMES = "runtime duration seconds timestamp created created_at updated updated_at started start_time end_time"
CIRCUMSTANCES = frozenset(f"{_TIMES} datetime_start datetime_complete".split())
STATE_COLUMNS = ("state", "_state", "status", "_status", "attributes.status")  # in letters of any case
# What W&B, MLflow, Optuna, Ray Tune and Slurm call them.
UNFINISHED = frozenset(("running", "pending", "preempting", "preempted", "scheduled", "waiting", "paused", "queued"))
BROKEN = frozenset(
    ("crashed", "failed", "fail", "killed", "pruned", "error", "timeout", "out_of_memory", "cancelled", "canceled")
)
STATES = UNFINISHED | BROKEN | {"finished", "complete", "completed", "success", "succeeded", "terminated", "done", "ok"}
SORTED_PAIRS = 5  # so many neighbouring repeats in order of their losses, and none against it, are no chance


@checked(path=a_path)
def read_sweep(path: str | Path, **columns: str) -> Records:
    """The runs of a table made elsewhere, for `transfer` and `learning_rate_law`.

    The file is CSV (.csv, .tsv), Parquet (.parquet) or JSON lines (.jsonl, .ndjson), or one of these with .gz behind.
    `columns` say what is called otherwise there: `learning_rate="lr", width="d_model", eval_loss="final loss"`. Columns
    that are not named keep their names. Every run needs a learning_rate. Without a column seed, rows that are alike in
    all settings count as seeds 0, 1, …, by chance (with a warning) if they are sorted by their losses; rows that are
    alike in their losses too are refused. A loss that is empty, NaN or infinite is that of a run that diverged, as is
    one marked in a column diverged, of truths or 0 and 1.

    In an export of the runs table of Weights & Biases, "config.lr" is "lr" too. A column state or status, in the words
    of W&B, MLflow, Optuna, Ray Tune or Slurm, says which runs have ended: those still running are left out, and those
    that crashed, failed, or were killed or pruned count as diverged, each with a warning.

    All settings that differ among the runs are to be told apart by who analyses them: `sharplab transfer` does, and
    `sharplab.transfer` knows of the settings of `sharplab.Experiment` alone.

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
    table = read_table(file)
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
    runs = join_rates(_by_state(file, runs, table.places))
    outcomes = [name for name in runs.select_dtypes("number") if name not in RUN_KEYS]
    if not outcomes:
        raise ValueError(f"{file} has no column of losses; it has {_listed(table.columns)}.")
    if "seed" not in runs:
        runs = _with_seeds(file, runs, table.places)
    return Records(runs.reset_index(drop=True))


def _called(name: str, columns: Mapping[str, str]) -> str:
    """A column by both of its names."""
    return f"column {columns[name]!r} ({name})" if columns.get(name, name) != name else f"column {name!r}"


def _listed(table: pd.DataFrame, most: int = 30) -> str:
    return printable(", ".join(map(str, table.columns[:most])) + ", …" * (len(table.columns) > most))


def _renamed(file: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, pd.Series]:
    """The columns under the names they are to have."""
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
    alike = Counter(map(_short, table.columns))
    for name in RUN_KEYS:
        if name not in found and alike[name] > 1:
            both = sorted(column for column in table.columns if _short(column) == name)  # config first: what was given
            raise ValueError(
                f"{file}: {name} may be {' or '.join(map(repr, both))}: say which, as by {name}={both[0]!r}; what a "
                "run was given is in its config."
            )
    named = {name: table[column] for name, column in found.items()}
    for column in table.columns:
        if column not in found.values():
            short = _short(column)
            named[column if short in named or alike[short] > 1 else short] = table[column]
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
        truths = lower.eq("true")
        return truths if name == "diverged" or not missing.any() else truths.astype(object).mask(missing, None)
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


def _by_state(file: Path, runs: pd.DataFrame, places: Sequence[str]) -> pd.DataFrame:
    """The runs that have ended, those that broke off marked as diverged; all where no column says so."""
    column = next((name for name in runs if str(name).lower() in STATE_COLUMNS), None)
    if column is None:
        return runs
    # Optuna's are "TrialState.COMPLETE", Slurm's "CANCELLED by 0".
    texts = runs[column].fillna("").astype(str)
    states = texts.str.lower().str.removeprefix("trialstate.").str.partition(" ")[0]
    known = states.isin(STATES)
    if not known.any():
        return runs
    if not known.all():
        first = int(np.flatnonzero(~known)[0])
        raise ValueError(
            f"{file}: column {column!r} has {printable(texts.iloc[first])!r} in {places[first]}, which is "
            "no state of a run: give finished, running or failed, or call the column otherwise if it says no states."
        )
    unfinished, broken = states.isin(UNFINISHED), states.isin(BROKEN)
    if unfinished.any():
        warnings.warn(f"{file}: {unfinished.sum()} runs have not ended, and are left out.", stacklevel=4)
    if broken.any():
        warnings.warn(f"{file}: {broken.sum()} runs broke off ({column}), and count as diverged.", stacklevel=4)
        runs = runs.assign(diverged=broken | has_diverged(runs))
    return runs[~unfinished].drop(columns=column)  # once it has marked them it tells no two runs apart


def _with_seeds(file: Path, runs: pd.DataFrame, places: Sequence[str]) -> pd.DataFrame:
    """The runs with the repeats of each setting numbered as seeds, in their order unless their losses gave it.

    Raises:
        ValueError: where a run stands in the table twice, lest it pass for two seeds.
    """
    settings = settings_of(runs)
    outcomes = [name for name in runs.select_dtypes("number") if _may_be_outcome(str(name))]
    _refuse_copies(file, runs, settings, outcomes, places)
    cells = runs.groupby(settings, dropna=False)
    by = next((name for name in outcomes if name not in settings and _in_order(cells[name].diff())), None)
    if by is None:
        return runs.assign(seed=cells.cumcount())
    # The best of each setting would be one seed, its worst another, and both would seem to hold all along the grid.
    warnings.warn(
        f"{file}: the rows are sorted by {by}, so that repeats of a run count as seeds by chance.", stacklevel=3
    )
    mixed = runs.iloc[np.random.default_rng(0).permutation(len(runs))]
    return runs.assign(seed=mixed.groupby(settings, dropna=False).cumcount())


def _in_order(steps: pd.Series) -> bool:
    """Whether steps from one repeat to the next go one way, and are too many for chance."""
    signs = np.sign(steps[np.isfinite(steps) & (steps != 0)])
    return len(signs) >= SORTED_PAIRS and abs(signs.sum()) == len(signs)


def _refuse_copies(
    file: Path, runs: pd.DataFrame, settings: list[str], outcomes: list[str], places: Sequence[str]
) -> None:
    """Refuse rows alike in what they were given and gave, whatever an index or a name says; all that diverged may be.

    Where no column is called as an outcome, rows must be alike in all columns, and have a number that is no setting.
    """
    once = runs.drop_duplicates()  # where all runs stand there twice, no loss is different in most rows
    gave = outcomes or once.select_dtypes("number").columns.difference(settings_of(once))
    copies = runs.duplicated([*settings, *outcomes] if outcomes else None)
    copies &= np.isfinite(runs[gave]).any(axis=1) & ~has_diverged(runs)
    if copies.any():
        raise ValueError(
            f"{file}: {places[copies.idxmax()]} repeats an earlier one in all that it was given and gave, as where a "
            "run was exported twice: leave it out, or give a column seed."
        )


def settings_of(runs: pd.DataFrame) -> list[str]:
    """The columns in which repeats of a run are alike: none that it gave, nor one that is different in most rows.

    W&B's own, which begin with an underscore, are none either, as _step and _wandb.
    """
    return [
        name
        for name, column in runs.items()
        if name in RUN_KEYS or not (_is_outcome(str(name), column) or column.astype(str).nunique() > len(runs) / 2)
    ]


def _is_outcome(name: str, column: pd.Series) -> bool:
    """Whether a run gave what is in a column: settings may be called alike, as z_loss is, but have few values."""
    lower = _short(name).lower()
    if name in OWN_OUTCOMES or "diverged" in lower or lower.startswith("_"):
        return True
    if lower.replace(" ", "_") in CIRCUMSTANCES:
        return True
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if not numeric or not _may_be_outcome(name):
        return False
    known = column[np.isfinite(column)]
    return known.nunique() > len(known) / 2


def _may_be_outcome(name: str) -> bool:
    return any(word in name.lower() for word in OUTCOMES)
