"""The curves of records, as the analyses take them."""

from collections.abc import Iterable

import pandas as pd

from sharplab.records import Records, join_rates, require_one_setting


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
