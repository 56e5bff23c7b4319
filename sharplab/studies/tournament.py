"""Learning-rate schedules against each other over workloads and budgets, each at its own best peak."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharplab.core.arguments import checked, several, text
from sharplab.core.statistics import OPEN, Interval, half_width, with_unseen
from sharplab.records import Records, has_diverged, some_records

FEWEST_SEEDS = 3  # two choose the learning rate of the third


@dataclass(frozen=True)
class Ranking:
    """Schedules by their losses, with 95 % intervals over seeds.

    Attributes:
        ranks: per schedule, the best first: rank, low, high; the mean over cells and seeds of the rank that a run has
            among those of the same cell and seed.
        differences: per pair of schedules (first, second): difference of their ranks, low, high. The intervals of one
            first hold together.
        losses: per pair: the mean over cells of log(loss of the first / loss of the second), low, high, likewise.
        regrets: per schedule and cell: log(loss / loss of the best schedule), low, high, where the best of a seed's
            runs is chosen on the other seeds. The intervals of one schedule hold together.
        cells: per cell, schedule and seed: the learning rate that the other seeds choose, the loss there, whether that
            run diverged, its rank.
    """

    ranks: pd.DataFrame
    differences: pd.DataFrame
    losses: pd.DataFrame
    regrets: pd.DataFrame
    cells: pd.DataFrame


@checked(records=some_records, cells=several, metric=text)
def rank_schedules(
    records: Records, *, cells: Sequence[str] = ("model", "steps"), metric: str = "train_loss"
) -> Ranking:
    """The ranks of the schedules of anyone's runs, each at the peak learning rate that is its own best.

    The learning rate of a seed's run is chosen by the mean loss of the other seeds, so that no run is judged by what
    chose it; none is chosen at which one of them diverged. A run that diverges itself has the last rank, and counts as
    the worst loss that any run of its cell ended with. Runs of one seed are compared with each other; intervals are
    Student's over seeds, between which the choices are shared. Those of ranks hold too what an event would make of them
    that is so rare that no run shows it, as a few seeds often rank alike by chance. They cover in 95 % or more
    (tests/studies/test_tournament.py).

    Args:
        records: with the columns schedule, learning_rate, seed, `cells` and the metric, and maybe diverged.
        cells: the columns that tell one comparison from another, such as workload and budget.
        metric: a loss, positive.

    Raises:
        ValueError: for a missing column, losses that are not positive, fewer than three seeds or two schedules,
            schedules that a cell or seed lacks, and where no learning rate of one can be chosen for a seed.

    >>> steps, names = (50, 100), {"constant": 1.1, "linear": 1.0}
    >>> runs = pd.DataFrame([
    ...     {"model": "mlp", "steps": n, "schedule": s, "learning_rate": 0.1 * i, "seed": k,
    ...      "train_loss": worse * (1 + abs(i - 2)) * (2 + k % 2) / n}
    ...     for n in steps for s, worse in names.items() for i in (1, 2, 3) for k in range(4)
    ... ])
    >>> rank_schedules(Records(runs)).ranks["rank"].to_dict()
    {'linear': 1.0, 'constant': 2.0}
    """
    table = chosen_losses(records, cells=cells, metric=metric)
    keys = list(cells)
    judged = table.assign(loss=table["loss"].where(~table["diverged"], np.inf))
    ranked = table.assign(rank=judged.groupby([*keys, "seed"])["loss"].rank(method="average"))
    by_seed = ranked.pivot_table(index="seed", columns="schedule", values="rank", aggfunc="mean")
    logs = np.log(table["loss"]).groupby([table["seed"], table["schedule"]]).mean().unstack()
    count, runs = len(by_seed.columns), len(by_seed) * len(table[keys].drop_duplicates())
    ranks = _stated(by_seed, "rank", 0.95, (1.0, count), runs).sort_values("rank", kind="stable")
    ranks.index.name = "schedule"
    differences = _pairs(by_seed, "difference", (1.0 - count, count - 1.0), runs)
    return Ranking(ranks, differences, _pairs(logs, "log_ratio"), _regrets(table, keys), ranked)


def chosen_losses(records: Records, *, cells: Sequence[str], metric: str = "train_loss") -> pd.DataFrame:
    """The loss of each schedule, cell and seed at the learning rate that the other seeds choose.

    Columns are `cells`, schedule, seed, learning_rate, loss and diverged, where the loss is the worst of the cell. Only
    learning rates that all seeds have are chosen.
    """
    runs = _read(records.runs, list(cells), metric)
    finite = runs.assign(worst=runs["loss"].where(np.isfinite(runs["loss"])))
    runs["worst"] = finite.groupby(list(cells))["worst"].transform("max")
    rows = []
    for key, part in runs.groupby([*cells, "schedule"], sort=False):
        losses = part.pivot(index="seed", columns="learning_rate", values="loss").dropna(axis=1)
        values, seeds = losses.to_numpy(), losses.index
        if not values.shape[1] or len(seeds) < FEWEST_SEEDS:
            raise ValueError(
                f"records must have {FEWEST_SEEDS} seeds or more at one learning rate at least, for each schedule and "
                f"cell: {', '.join(map(str, key))} has {len(seeds)} seeds."
            )
        for i, seed in enumerate(seeds):
            means = np.delete(values, i, axis=0).mean(axis=0)
            if not np.isfinite(means).any():
                raise ValueError(
                    f"records must have a learning rate, for each schedule and cell, at which no seed diverged: of "
                    f"{', '.join(map(str, key))} none can be chosen for seed {seed}. Give lower ones."
                )
            best = int(means.argmin())
            named = dict(zip([*cells, "schedule"], key, strict=True))
            diverged = not np.isfinite(values[i, best])
            loss = part["worst"].iloc[0] if diverged else values[i, best]
            at = {"seed": seed, "learning_rate": losses.columns[best]}
            rows.append(named | at | {"loss": loss, "diverged": diverged})
    table = pd.DataFrame(rows)
    complete = table.groupby([*cells, "seed"])["schedule"].nunique()
    wanted = table["schedule"].nunique()
    if (
        wanted < 2
        or (complete != wanted).any()
        or len(complete) != len(table[list(cells)].drop_duplicates()) * (table["seed"].nunique())
    ):
        raise ValueError("records must have the same two schedules or more, and the same seeds, in each cell.")
    return table


def _read(runs: pd.DataFrame, cells: list[str], metric: str) -> pd.DataFrame:
    keys = [*cells, "schedule", "learning_rate", "seed"]
    if not cells:
        raise ValueError("cells must name a column at least, such as 'steps'.")
    if missing := [column for column in (*keys, metric) if column not in runs]:
        raise ValueError(f"records lack the column {', '.join(missing)}: add it, or name other cells or metric.")
    loss = runs[metric].to_numpy(float)
    diverged = ~np.isfinite(loss) | has_diverged(runs).to_numpy()
    if (loss[~diverged] <= 0).any():
        raise ValueError(f"metric {metric!r} must be a positive loss, whose logarithms are compared.")
    if runs.duplicated(keys).any():
        raise ValueError(f"records have several runs of one {', '.join(keys)}: name what tells them apart in cells.")
    return runs[keys].assign(loss=np.where(diverged, np.inf, loss))


def _stated(values: pd.DataFrame, name: str, confidence: float, bounds: Interval = OPEN, runs: int = 1) -> pd.DataFrame:
    """The mean of each column and its t interval over rows, with what so many bounded values may not have shown."""
    given = values.to_numpy(float).T
    mean, half = given.mean(axis=1), half_width(given, confidence)
    low, high = mean - half, mean + half
    if bounds != OPEN:
        low, high = with_unseen(mean, (low, high), bounds, runs, confidence)
    return pd.DataFrame({name: mean, "low": low, "high": high}, index=values.columns)


def _pairs(by_seed: pd.DataFrame, name: str, bounds: Interval = OPEN, runs: int = 1) -> pd.DataFrame:
    """Differences between each schedule and each other one, of values per seed (seeds, schedules)."""
    less = {first: by_seed.drop(columns=first).rsub(by_seed[first], axis=0) for first in by_seed}
    confidence = 1 - 0.05 / (len(by_seed.columns) - 1)
    parts = {first: _stated(table, name, confidence, bounds, runs) for first, table in less.items()}
    return pd.concat(parts, names=["first", "second"])


def _regrets(table: pd.DataFrame, cells: list[str]) -> pd.DataFrame:
    """What each schedule loses on the one that the other seeds find best, in each cell."""
    parts = []
    count = len(table[cells].drop_duplicates())
    for key, part in table.groupby(cells, sort=False):
        losses = part.pivot(index="seed", columns="schedule", values="loss")
        logs = np.log(losses.to_numpy())
        best = [int(np.delete(logs, i, axis=0).mean(axis=0).argmin()) for i in range(len(logs))]
        regret = logs - logs[np.arange(len(logs)), best][:, None]
        stated = _stated(pd.DataFrame(regret, columns=losses.columns), "regret", 1 - 0.05 / count)
        parts.append(stated.rename_axis("schedule").reset_index().assign(**dict(zip(cells, key, strict=True))))
    return pd.concat(parts, ignore_index=True).set_index(["schedule", *cells])
