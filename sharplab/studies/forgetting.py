"""What runs through sequences of tasks say: which switches forget, what accumulates, where the best rate lies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sharplab.analysis.prediction import group_interval, roc_area
from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, share
from sharplab.core.statistics import mean_interval
from sharplab.records import Records
from sharplab.studies.task_sequence import TaskRuns

SCORES = ("old_over_threshold", "new_over_threshold", "over_critical", "over_relative", "slope", "learning_rate")
RIVAL = "learning_rate"
CELLS = ("learning_rate", "shared")


def slopes(accuracy: np.ndarray) -> np.ndarray:
    """The least-squares slopes of accuracies per task, the last axis being tasks + 1 with that before the first task.

    That one is left out.
    """
    accuracy = np.asarray(accuracy, float)
    if accuracy.ndim < 1 or accuracy.shape[-1] < 3:
        raise ValueError(f"accuracy must have a last axis of tasks + 1, of two tasks or more, not {accuracy.shape}.")
    tasks = np.arange(1, accuracy.shape[-1]) - accuracy.shape[-1] / 2
    slope: np.ndarray = accuracy[..., 1:] @ tasks / np.sum(tasks**2)
    return slope


def accumulation(accuracy: np.ndarray, confidence: float = 0.95) -> Measured:
    """The mean over seeds of the slopes of accuracies, (seeds, tasks + 1), with its t interval, open for one seed.

    >>> print(f"{accumulation(np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.4, 0.6]])):.2f}")
    0.15 [-0.49, 0.79]
    """
    value, interval = mean_interval(slopes(accuracy), confidence)
    return Measured(value, *interval)


@checked(lost=share)
def told(
    switches: pd.DataFrame, scores: Sequence[str] = SCORES, *, cells: Sequence[str] = CELLS, lost: float = 0.5
) -> pd.DataFrame:
    """How well scores of a switch tell whether the old task is forgotten during the next, a row per score.

    Forgotten: of the accuracy on the old task's classes a share of `lost` or more goes. The columns are area, under the
    ROC curve of that; less_rate, the area less that of the learning rate itself; and within, the correlation of ranks
    of score and rise of the old loss among switches alike in `cells`; each with _low and _high, the ends of the 95 %
    interval of seeds drawn anew, infinite with fewer than 5 seeds. Runs that have diverged before a switch are left
    out, and those that diverge in it have forgotten all. A score that is NaN at one that has not counts as infinite.

    Args:
        switches: as of `sharplab.studies.task_sequence.TaskRuns`, of several widths too.
        scores: columns of it.
        cells: columns of it.
        lost: share of the accuracy, between 0 and 1.

    Raises:
        ValueError: for columns that are missing, and where every run has diverged.
    """
    missing = {*scores, *cells, RIVAL, "seed"} - set(switches)
    if missing:
        raise ValueError(f"switches must have the columns {', '.join(sorted(missing))}.")
    rows = switches[np.isfinite(switches["old_loss"])].reset_index(drop=True)
    if rows.empty:
        raise ValueError("switches must have a row of a run that has not diverged.")
    # What diverges in the switch has lost all.
    after = {"old_accuracy_after": 0.0, "old_loss_after": np.inf}
    rows = rows.fillna(dict.fromkeys((*scores, RIVAL), np.inf) | after)
    forgotten = (rows["old_accuracy_after"] <= (1 - lost) * rows["old_accuracy"]).to_numpy()
    rise = rows["old_loss_after"] - rows["old_loss"]
    cell = rows.assign(rise=rise).groupby(list(cells))[["rise", *scores]]
    ranks = (cell.rank() - 0.5) / cell.transform("size").to_numpy()[:, None]  # of mean ½ in each cell, small or large
    values = {name: rows[name].to_numpy(float) for name in (*scores, RIVAL)}
    ranks = {name: ranks[name].to_numpy() for name in ("rise", *scores)}

    def statistic(drawn: np.ndarray) -> np.ndarray:
        rival = roc_area(values[RIVAL][drawn], forgotten[drawn])
        areas = np.array([roc_area(values[name][drawn], forgotten[drawn]) for name in scores])
        within = [_correlation(ranks[name][drawn], ranks["rise"][drawn]) for name in scores]
        return np.stack([areas, areas - rival, within])

    value, (low, high) = statistic(np.arange(len(rows))), group_interval(statistic, rows["seed"].to_numpy())
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(("area", "less_rate", "within")):
        columns |= {name: value[i], f"{name}_low": low[i], f"{name}_high": high[i]}
    return pd.DataFrame(columns, index=pd.Index(scores, name="score"))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else np.nan


def records_after(runs: Mapping[int, TaskRuns], first: int, last: int) -> Records:
    """The runs of each width as records, judged after the tasks `first` … `last`, counted from 1, by means over these.

    The columns are eval_loss and eval_accuracy, on all classes, and current_loss, on those of the task that has just
    been trained on. `sharplab.transfer` tells from them whether the best learning rate is that of other widths.

    Args:
        runs: by width.

    Raises:
        ValueError: for tasks that there are not.
    """
    fewest = min(each.tasks.shape[1] for each in runs.values())
    if not 1 <= first <= last <= fewest:
        raise ValueError(f"first and last must be tasks from 1 to {fewest}, not {first} and {last}.")
    tables = []
    for width, each in runs.items():
        rate, seed = np.meshgrid(each.learning_rates, np.arange(each.tasks.shape[0]), indexing="ij")
        quantities = {
            "eval_loss": each.losses.mean(axis=-1)[..., 1:],
            "eval_accuracy": each.accuracy[..., 1:],
            "current_loss": each.current_loss,
        }
        means = {name: values[..., first - 1 : last].mean(axis=-1).ravel() for name, values in quantities.items()}
        keys = {"width": width, "learning_rate": rate.ravel(), "seed": seed.ravel()}
        tables.append(pd.DataFrame(keys | means))
    return Records(pd.concat(tables, ignore_index=True))
