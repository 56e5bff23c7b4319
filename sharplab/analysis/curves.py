"""The curves of records, as the analyses take them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sharplab.analysis.grids import final_losses
from sharplab.records import RUN_KEYS, SETTINGS, Records, join_rates, require_one_setting

LATE = "late_"  # begins the name of a metric that is a mean over the end of training
LATE_FROM = 0.75  # of a run's last step: where its last quarter begins


def with_metric(records: Records, metric: str) -> Records:
    """The records with `metric` in a column of the runs.

    A metric "late_X" that is no column of theirs is the mean of X over a run's records in the last quarter of its
    training: near the edge of stability, where optima lie, single steps differ widely. Runs of one length are averaged
    over the steps that all of them recorded, lest losses differ by where they were taken. It is NaN where the run
    diverged, by `diverged` or its own X among the runs, or where X is not finite there.

    Raises:
        ValueError: where it needs curves of X that are missing, or runs that cannot be told apart; where curves end
            long before others of their sweep, which neither divergence nor `steps` explains.
    """
    runs, curves, quantity = records.runs, records.curves, metric.removeprefix(LATE)
    if metric in runs or metric == quantity:
        return records
    if curves is None or quantity not in curves:
        raise ValueError(f"metric {metric!r} needs curves of {quantity!r}: give Records(runs, curves) that have them.")
    keys = [key for key in dict.fromkeys((*RUN_KEYS, *SETTINGS, "optimizer")) if key in runs and key in curves]
    keys = ["run_id"] if "run_id" in runs and "run_id" in curves else keys
    if runs.duplicated(keys).any():
        raise ValueError(f"metric {metric!r}: some runs differ in no column of the curves, give both a run_id.")
    last = curves.groupby(keys, dropna=False)["step"].transform("max")
    together = [last, curves["step"]]
    runs_at = curves.groupby(together)["step"].transform("size")
    shared = runs_at == runs_at.groupby(last).transform("max")  # each run has its last step
    late = curves[shared & (curves["step"] >= LATE_FROM * last)]
    known = late[quantity].where(np.isfinite(late[quantity]), np.inf)  # a mean would leave NaN out
    means = known.groupby([late[key] for key in keys], dropna=False).mean().rename(metric)
    joined = runs.join(means, on=keys)
    if joined[metric].isna().any():
        raise ValueError(f"metric {metric!r}: {joined[metric].isna().sum()} of the runs have no curve.")
    sound = np.isfinite(final_losses(joined, metric))
    if quantity in runs:  # a loop may record nothing more once its loss is no number
        sound &= np.isfinite(final_losses(runs, quantity))
    ends = joined[keys].join(curves.groupby(keys, dropna=False)["step"].max(), on=keys)["step"]
    _require_alike_ends(metric, runs[sound], ends[sound])
    return Records(joined.assign(**{metric: joined[metric].where(sound)}), curves)


def _require_alike_ends(metric: str, runs: pd.DataFrame, ends: pd.Series) -> None:
    """Refuse curves that end before the last quarter of another of their setting: the run may have diverged there."""
    setting = [
        key for key in (*RUN_KEYS, *SETTINGS, "optimizer") if key in runs and key not in ("learning_rate", "seed")
    ]
    longest = ends.groupby([np.zeros(len(runs)), *(runs[key] for key in setting)], dropna=False).transform("max")
    short = ends < LATE_FROM * longest
    if short.any():
        raise ValueError(
            f"metric {metric!r}: {short.sum()} curves end long before others of their setting, the first at step "
            f"{ends[short].iloc[0]:g} of {longest[short].iloc[0]:g}: give the runs a column diverged if they diverged, "
            "or steps if they were to be shorter."
        )


def curves_by_name(
    records: Records, quantity: str, over: str, *, apart_from: Iterable[str] = ()
) -> list[tuple[str, pd.DataFrame]]:
    """The curves of each parameterization, of one setting apart from the size `over`, rounded learning rates joined.

    `apart_from` names further settings that may differ.

    Raises:
        ValueError: for missing curves or columns, and mixed settings or optimizers.
    """
    curves = records.curves
    if curves is None or quantity not in curves:
        raise ValueError(f"the records have no curves of {quantity!r}: record it as an observable.")
    if over not in curves:
        raise ValueError(f"the curves have no column {over!r}; they have {', '.join(curves)}.")
    require_one_setting(records.runs, apart_from=[over, *apart_from], also=["optimizer"])
    curves = join_rates(curves)
    names = curves["parameterization"] if "parameterization" in curves else pd.Series("runs", curves.index)
    return [(str(name), table) for name, table in curves.groupby(names, sort=False)]
