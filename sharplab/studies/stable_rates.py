"""The largest learning rate at which a network still trains, by bisection, for one setting after another."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sharplab.analysis.edges import Edges, mean_edges
from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, positive
from sharplab.records import Records, has_diverged
from sharplab.sweep.experiment import Experiment
from sharplab.sweep.runner import run

ROUNDS = 24  # beyond which a bracket stays as wide as it is
STRIDE = 4.0  # by which a grid is extended where all of it trains, or none


@dataclass(frozen=True)
class StableRates:
    """The largest stable learning rate of each value of a setting.

    Attributes:
        over: the setting, as "batch_size".
        brackets: a row per value of it and seed: low, the largest learning rate below the first that does not train,
            and high, that one; 0 or inf where none was found.
        confidence: of the intervals.
    """

    over: str
    brackets: pd.DataFrame
    confidence: float

    def table(self) -> pd.DataFrame:
        """The mean over seeds for each value, with the interval of bracket and seeds: columns edge, edge_low, …"""
        values, found = self._found(self.brackets)
        rows = [
            {self.over: value} | Measured(*(2.0**x for x in (edge.value, edge.low, edge.high))).columns("edge")
            for value, edge in zip(values, found.edges, strict=True)
        ]
        return pd.DataFrame(rows)

    def slope(self, values: Iterable[float] | None = None) -> Measured:
        """The slope of its log₂ against that of the setting, over some of the values or all; nan of fewer than two."""
        chosen = self.brackets if values is None else self.brackets[self.brackets[self.over].isin(list(values))]
        return self._found(chosen)[1].trend.measured(self.confidence)

    def _found(self, brackets: pd.DataFrame) -> tuple[list[float], Edges]:
        groups = dict(iter(brackets.groupby(self.over)))
        with np.errstate(divide="ignore"):
            logs = [np.log2(group[["low", "high"]].to_numpy(float)) for group in groups.values()]
        return list(groups), mean_edges(list(groups), logs, self.confidence)


@checked(octaves=positive)
def largest_stable_rates(
    experiments: Sequence[Experiment],
    store: Path | str,
    *,
    over: str = "batch_size",
    octaves: float = 0.25,
    executor: Executor | str | None = None,
    confidence: float = 0.95,
) -> StableRates:
    """The largest learning rate at which each seed of each experiment trains, between two that lie `octaves` apart.

    A run trains if it does not diverge, and its last train loss is below its first. Rounds of runs, beside each other
    as in any sweep, halve every seed's bracket, from the experiments' own learning rates on; their grids are extended
    where all of them train, or none. Where several learning rates divide those that train from those that do not, it is
    the least.

    Args:
        experiments: each of one width, depth and parameterization, with "train_loss" among the observables; they differ
            by the setting `over`, one value each.
        store, executor: as of `sharplab.run`.

    Raises:
        ValueError: for experiments that are not so.
    """
    for each in experiments:
        if max(len(each.widths), len(each.depths), len(each.parameterizations)) > 1:
            raise ValueError("experiments must each have one width, depth and parameterization.")
        if "train_loss" not in each.observables:
            raise ValueError("experiments must record 'train_loss': add it to their observables.")
    values = [getattr(each, over) for each in experiments]
    if len(set(values)) < len(values):
        raise ValueError(f"experiments must have one value of {over} each, not {values}.")
    rates = {
        value: set(each.rates_of(each.parameterizations[0])) for value, each in zip(values, experiments, strict=True)
    }
    table = pd.DataFrame()
    for _ in range(ROUNDS):
        wanted = [
            replace(each, learning_rates=tuple(rates[value]), refine=False)
            for value, each in zip(values, experiments, strict=True)
            if rates[value]
        ]
        if not wanted:
            break
        table = pd.concat([table, _trains(run(wanted, store, executor=executor), over)], ignore_index=True)
        found = brackets_of(table, over)
        rates = {value: next_rates(found[found[over] == value], octaves) for value in values}
        tried = dict(iter(table.groupby(over)["learning_rate"]))
        rates = {value: each - set(tried[value]) for value, each in rates.items()}
    return StableRates(over, found, confidence)


def _trains(records: Records, over: str) -> pd.DataFrame:
    """The runs, and whether each trains."""
    assert records.curves is not None
    first = records.curves.sort_values("step").groupby("run_id")["train_loss"].first()
    runs = records.runs
    trains = ~has_diverged(runs) & (runs["train_loss"] < runs["run_id"].map(first))
    return runs[[over, "seed", "learning_rate"]].assign(trains=trains)


def brackets_of(runs: pd.DataFrame, over: str) -> pd.DataFrame:
    """The bracket of each value and seed, from the columns `over`, seed, learning_rate and trains."""
    rows = []
    for (value, seed), group in runs.groupby([over, "seed"]):
        ordered = group.sort_values("learning_rate")
        tried = np.concatenate([[0.0], ordered["learning_rate"], [np.inf]])
        first = int(np.append(~ordered["trains"].to_numpy(bool), True).argmax())
        rows.append({over: value, "seed": seed, "low": tried[first], "high": tried[first + 1]})
    return pd.DataFrame(rows)


def next_rates(brackets: pd.DataFrame, octaves: float) -> set[float]:
    """The learning rates that the next round tries, from brackets of one value: none where all are narrow."""
    rates = set()
    for low, high in brackets[["low", "high"]].to_numpy():
        if low == 0:
            rates.add(high / STRIDE)
        elif high == np.inf:
            rates.add(low * STRIDE)
        elif np.log2(high / low) > octaves * (1 + 1e-9):
            rates.add(float(np.sqrt(low * high)))
    return {float(f"{rate:.12g}") for rate in rates}  # as experiments keep them
