"""Where the optimum of each sweep lies, and which learning rate its runs' sharpness points to."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from sharplab.analysis.curves import LATE, with_metric
from sharplab.analysis.optima import transfer
from sharplab.analysis.stable_time import threshold_of
from sharplab.analysis.trend import Measured
from sharplab.core.arguments import checked, text
from sharplab.core.statistics import OPEN
from sharplab.records import SETTINGS, Records, has_diverged, some_records

EARLY = 0.1  # of the steps
NEAR = 2.0  # the factor within which a record counts as made there
FEWEST_RATES = 3  # of a sweep
READINGS = ("init", "early", "late")
OWN = ("schedule", "probe_size")  # settings of a sweep that the runs with a recorded sharpness need not share


@checked(records=some_records, loss=text)
def readings(records: Records, *, quantity: str = "sharpness", loss: str = "train_loss") -> pd.DataFrame:
    """The optimum of every sweep at each of its sizes, beside the readings of a sharpness along training.

    A reading is the learning rate whose stability threshold the recorded curvature is: 2/λ for SGD. Runs with a
    recorded curvature have the settings of the sweep, but for its schedule, theirs being constant; where they are of
    several learning rates, those nearest to the optimum are read. Near or above the edge of stability λ follows the
    learning rate it was recorded at, `recorded_rate`, which then is what is read.

    Args:
        records: with whatever settings, of the lab's own runs.
        quantity: a column of the curves that `sharplab.analysis.stable_time.threshold_of` knows a threshold of.
        loss: the final loss that is lowest at the optimum; where the learning rate is constant, its mean over the last
            quarter of training.

    Returns:
        One row per setting with three learning rates or more, and size, of the sweeps that have a recorded curvature at
        some size: the settings; sweep, a number that the sizes of one sweep share, and over, "width" or "depth";
        optimum, optimum_low and optimum_high, NaN where it lies at an end of the grid or has no interval, and seeds;
        recorded_rate and, as geometric means over seeds, the readings init (before the first step, where Adam has no
        metric), early (at 10 % of the steps, within a factor of 2) and late (over their second half), NaN where nothing
        is recorded.

    Raises:
        ValueError: for runs without the settings of an experiment, or without the loss.
    """
    runs = records.runs
    settings = [name for name in (*SETTINGS, "parameterization", "optimizer") if name in runs]
    for name in ("run_id", "width", "depth", "optimizer", "steps", "schedule", loss):
        if name not in runs:
            raise ValueError(f"the runs have no column {name!r}; they have {', '.join(runs)}.")
    curves = _recorded(records, quantity, settings)
    rows = []
    for number, (over, sweep) in enumerate(_sweeps(runs[runs[loss].notna() | has_diverged(runs)], settings)):
        cells = _cell(sweep, settings)
        if not cells.isin(curves["cell"]).any():
            continue
        metric = f"{LATE}{loss}" if sweep["schedule"].iloc[0] == "constant" else loss
        swept = with_metric(Records(sweep, records.curves), metric)
        (found,) = transfer(swept, over=over, metric=metric).values()
        for one in found.by_size:
            cell = sweep[sweep[over] == one.size]
            row = cell.iloc[0][settings].to_dict() | {"sweep": number, "over": over, "seeds": cell["seed"].nunique()}
            has_one = not one.at_grid_edge and one.optimum.low > 0 and one.optimum.high < np.inf
            row |= (one.optimum if has_one else Measured(np.nan, *OPEN)).columns("optimum")
            beside = curves[curves["cell"] == cells[cell.index[0]]]
            rows.append(row | _read(beside, quantity, row))
    return pd.DataFrame(rows)


def _sweeps(runs: pd.DataFrame, settings: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The size that each sweep is over, width or depth, and its runs."""
    fixed = [name for name in settings if name not in ("width", "depth")]
    for _, group in runs.groupby(fixed, dropna=False, sort=False):
        deeper = group["depth"].nunique() > group["width"].nunique()
        over, other = ("depth", "width") if deeper else ("width", "depth")
        for _, part in group.groupby(other):
            if part["learning_rate"].nunique() >= FEWEST_RATES:
                yield over, part


def _recorded(records: Records, quantity: str, settings: Sequence[str]) -> pd.DataFrame:
    """The records of the quantity at constant learning rates: cell, learning_rate, seed, step and the quantity."""
    columns = ["cell", "learning_rate", "seed", "step", quantity]
    if records.curves is None or quantity not in records.curves:
        return pd.DataFrame(columns=columns)
    cells = _cell(records.runs, settings)[records.runs["schedule"].eq("constant")]
    cells.index = pd.Index(records.runs.loc[cells.index, "run_id"])
    curves = records.curves[records.curves[quantity] > 0]
    return curves.assign(cell=curves["run_id"].map(cells)).dropna(subset=["cell"])[columns]


def _cell(runs: pd.DataFrame, settings: Sequence[str]) -> pd.Series:
    """What names the cell of each run, alike for a sweep's and for those with a recorded sharpness."""
    return runs[[name for name in settings if name not in OWN]].astype(str).agg("|".join, axis=1)


def _read(curves: pd.DataFrame, quantity: str, row: dict) -> dict[str, float]:
    """The readings of one cell, from the records nearest to its optimum."""
    threshold = _threshold(row["optimizer"], quantity)
    if curves.empty or threshold is None or not np.isfinite(row["optimum"]):
        return dict.fromkeys(("recorded_rate", *READINGS), np.nan)
    rates = curves["learning_rate"].to_numpy(float)
    rate = float(rates[np.abs(np.log2(rates / row["optimum"])).argmin()])
    curves = curves[curves["learning_rate"] == rate]
    share = curves["step"].to_numpy(float) / row["steps"]
    near = np.abs(np.log(np.where(share > 0, share, np.nan) / EARLY))
    parts = {
        "init": share == 0,
        "early": (near == np.nanmin(near, initial=np.inf)) & (near <= np.log(NEAR)),
        "late": share >= 0.5,
    }
    found = {"recorded_rate": rate}
    for name, part in parts.items():
        values = curves[quantity].to_numpy(float)[part]
        found[name] = rate * threshold(rate) / float(np.exp(np.log(values).mean())) if len(values) else np.nan
    return found


def _threshold(optimizer: str, quantity: str) -> Callable[[float], float] | None:
    try:
        return threshold_of(optimizer, quantity)
    except ValueError:
        return None
