"""Checks of the arguments that the analyses share."""

import pandas as pd

from sharplab.records import Records, join_rates, require_one_setting


def check_confidence(confidence: float) -> None:
    """Raise a ValueError unless the confidence lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, as 0.95, not {confidence!r}.")


def check_test(over: str, tolerance: float, confidence: float) -> None:
    """Raise a ValueError that names the argument of an equivalence test that is out of range."""
    check_over(over)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a positive number of octaves, not {tolerance!r}.")
    check_confidence(confidence)


def check_over(over: str) -> None:
    """Raise a ValueError unless `over` is a size."""
    if over not in ("width", "depth"):
        raise ValueError(f"over must be 'width' or 'depth', not {over!r}.")


def curves_by_name(records: Records, quantity: str, over: str) -> list[tuple[str, pd.DataFrame]]:
    """The curves of each parameterization, of one setting apart from the size `over`, rounded learning rates joined.

    Raises:
        ValueError: for missing curves or columns, and mixed settings or optimizers.
    """
    curves = records.curves
    if curves is None or quantity not in curves:
        raise ValueError(f"the records have no curves of {quantity!r}: record it as an observable.")
    check_over(over)
    if over not in curves:
        raise ValueError(f"the curves have no column {over!r}; they have {', '.join(curves)}.")
    require_one_setting(records.runs, apart_from=[over], also=["optimizer"])
    curves = join_rates(curves)
    names = curves["parameterization"] if "parameterization" in curves else pd.Series("runs", curves.index)
    return [(str(name), table) for name, table in curves.groupby(names, sort=False)]
