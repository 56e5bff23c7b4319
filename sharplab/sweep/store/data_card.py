"""The data card of exported tables: what they hold, in which units, from what, and how to read them."""

import json
from collections.abc import Iterable

import pandas as pd

from sharplab.core.text import code, prose
from sharplab.data import LICENCES
from sharplab.records import Records
from sharplab.sweep.store.columns import SETTINGS, Column, describe

TITLE = "# Runs trained with sharplab"
MOST_LISTED = 12  # values of one setting
_READING = """\
```python
import pandas as pd                        # pandas
runs, curves = pd.read_parquet("runs.parquet"), pd.read_parquet("curves.parquet")

import sharplab as sl                      # sharplab: the analysis, and arrays over the keys
records = sl.Records(runs, curves)
arrays = records.to_xarray()               # one setting at a time: records.select(steps=256).to_xarray()

import polars                              # polars
runs = polars.read_parquet("runs.parquet")
```

```r
runs <- arrow::read_parquet("runs.parquet")       # R, with the package arrow
curves <- arrow::read_parquet("curves.parquet")
```"""


def data_card(records: Records) -> str:
    """The data card of records, in Markdown."""
    runs, curves = records.runs, records.curves
    assert curves is not None
    diverged = int(runs["diverged"].sum())
    sections = (
        TITLE,
        f"{len(runs):,} training runs, {diverged:,} of them diverged, with {len(curves):,} records along the way, "
        f"stored between {prose(runs['written'].min())} and {prose(runs['written'].max())}.\n\n"
        "- `runs.parquet`: one row per run, its settings and the value of each observable at its last record\n"
        "- `curves.parquet`: one row per run and record\n\n"
        "A run is one network trained with one learning rate and one seed. Rows of the two tables belong together by "
        "`run_id`.",
        f"## Settings\n\n{_settings(runs)}",
        f"## Runs\n\n{_counts(runs)}",
        f"## Columns of runs.parquet\n\n{_columns(runs)}",
        f"## Columns of curves.parquet\n\n{_columns(curves)}\n\n"
        "An observable that a run was not asked for is null there; NaN and ±inf are measured values, of runs that "
        "diverged. Pandas shows null as NaN too.",
        f"## Reading them\n\n{_READING}",
        f"## Versions\n\n{_versions(runs['versions'])}",
        f"## Data and licences\n\nThe tables hold measurements alone, no examples of the data sets.\n\n{_data(runs)}",
    )
    return "\n\n".join(sections) + "\n"


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines: list[Iterable[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(prose(entry).replace("|", "\\|") for entry in line) + " |" for line in lines)


def _settings(runs: pd.DataFrame) -> str:
    return _table(("setting", "values"), ((code(name), _values(runs[name])) for name in SETTINGS if name in runs))


def _values(column: pd.Series) -> str:
    distinct = sorted(column.drop_duplicates(), key=lambda value: (isinstance(value, str), value))
    if len(distinct) <= MOST_LISTED:
        return ", ".join(map(_plain, distinct))
    return f"{len(distinct)} from {_plain(distinct[0])} to {_plain(distinct[-1])}"


def _plain(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _counts(runs: pd.DataFrame) -> str:
    keys = ["parameterization", "width", "depth"]
    counted = runs.groupby(keys)["diverged"].agg(["size", "sum"]).reset_index()
    return _table([*keys, "runs", "diverged"], counted.itertuples(index=False))


def _columns(table: pd.DataFrame) -> str:
    unknown = Column("", "not known to this version of sharplab")
    described = ((name, str(table[name].dtype), describe(str(name)) or unknown) for name in table)
    kinds = {"object": "list", "str": "text", "bool": "yes or no"}
    return _table(
        ("column", "type", "unit", "meaning"),
        ((code(name), kinds.get(kind, kind), column.unit, column.meaning) for name, kind, column in described),
    )


def _versions(versions: pd.Series) -> str:
    found: dict[str, set[str]] = {}
    for text in versions.drop_duplicates():
        for library, version in json.loads(text).items():
            found.setdefault(library, set()).add(version)
    return _table(("library", "versions"), ((name, ", ".join(sorted(several))) for name, several in found.items()))


def _data(runs: pd.DataFrame) -> str:
    names = sorted(runs["data"].drop_duplicates())
    return _table(
        ("data set", "licence"), ((code(name), LICENCES.get(name, "not known to sharplab")) for name in names)
    )
