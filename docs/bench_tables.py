"""The tables of benchmarks.md, of the JSON files that the benchmarks leave: no number of that page is typed."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PLACE = re.compile(r"^<!-- benchmark: ([a-z ]+) -->$", re.MULTILINE)


def fill(markdown: str, folder: Path) -> str:
    """The page with a table in each place that names one, from the reports in a folder.

    Raises:
        KeyError: for a table that there is not, or a report without what its table shows.
    """
    return PLACE.sub(lambda place: TABLES[place[1]](folder), markdown)


def _eigenvalues(folder: Path) -> str:
    made = _read(folder, "spectrum")
    heads = ("network, eigenvalues", "products, times the least possible", "the fastest other", "times as fast as that")
    rows = (
        (name, f"{row['products_over_oracle']:.2f}", row["best_peer"], f"{row['seconds_of_best_peer']:.1f}")
        for name, row in made["headline"].items()
    )
    return _table(heads, rows) + _made(made, "contest")


def _products(folder: Path) -> str:
    made = _read(folder, "spectrum")
    heads = ("network", "parameters", "gradient, ms", "Hessian product, in gradients", "Gauss-Newton, in gradients")
    rows = (
        (
            name,
            f"{row['parameters']:,}",
            _range(row["gradient_seconds"], scale=1000),
            *(_range(row[kind]["over_gradient"], ".2f") for kind in ("hessian", "gauss_newton")),
        )
        for name, row in made["parts"]["costs"]["found"].items()
    )
    return _table(heads, rows) + _made(made, "costs")


def _records(folder: Path) -> str:
    made = _read(folder, "spectrum")
    heads = ("network", "record", "losses or products", "in gradients")
    rows = (
        (name, kind, str(row["calls"]), _range(row["over_gradient"], ".1f"))
        for name, kinds in made["parts"]["records"]["found"].items()
        for kind, row in kinds.items()
    )
    return _table(heads, rows) + _made(made, "records")


SHARES = ("within_errors", "within_tolerance", "bounded_by_residuals")


def _errors(folder: Path) -> str:
    made = _read(folder, "spectrum")
    found = {name: row for name, row in made["parts"]["calibration"]["found"].items() if isinstance(row, dict)}
    heads = ("spectrum", "eigenvalues", "within the error", "within the tolerance", "one within the residual")
    rows = ((name, row["eigenvalues"], *(f"{row[share]:.1%}" for share in SHARES)) for name, row in found.items())
    return _table(heads, rows) + _made(made, "calibration")


def _first_calls(folder: Path) -> str:
    made = _read(folder, "spectrum")
    rows = ((name, _range(seconds, ".2f")) for name, seconds in made["parts"]["first"]["found"].items())
    return _table(("first call", "seconds, compilation included"), rows) + _made(made, "first")


def _memory(folder: Path) -> str:
    made = _read(folder, "memory")
    heads = (
        "basis",
        "parameters",
        "products",
        "peak above the start, in vectors",
        "relative error",
        "so that 80 GB hold networks of",
    )
    rows = (
        (
            row["basis"] or "not given",
            f"{row['parameters']:,}",
            row["products"],
            f"{row['vectors']:.0f}",
            f"{row['error']:.1e}",
            f"{80 / (4 * (1 + row['vectors'])):.2g} billion",  # in 32 bits, themselves and those vectors
        )
        for row in made["parts"]["memory"]["found"]
    )
    return _table(heads, rows) + _made(made, "memory")


def _training(folder: Path) -> str:
    made = _read(folder, "training_speed")
    heads = ("network", "width", "plain loop of", "steps, times as fast", "records, times as fast")
    rows = (
        (row["model"], row["width"], row["against"], _range(row["steps_ratio"], ".2f"), _range(row["records_ratio"]))
        for row in made["parts"]["training"]["found"]
    )
    return _table(heads, rows) + _made(made, "training")


def _sweeps(folder: Path) -> str:
    made = _read(folder, "sweep_speed")
    heads = ("runs stored", "planning, s", "the same again, s", "loading, s", "memory to load, MB")
    rows = (
        (
            f"{row['runs']:,}",
            *(_range(row[f"{what}_seconds"], ".2f") for what in ("planning", "again", "load")),
            f"{row['load_peak_bytes']['median'] / 1e6:.0f}",
        )
        for row in made["parts"]["growth"]["found"]
    )
    return _table(heads, rows) + _made(made, "growth")


def _study(folder: Path) -> str:
    made = _read(folder, "figure1")
    heads = ("the paper's first figure", "seconds", "times as fast as the plain port")
    rows = (
        (name, _range(row["seconds"], ".0f"), _range(row["times_as_fast"]))
        for name, row in made["parts"]["study"]["found"]["comparison"]["times"].items()
    )
    return _table(heads, rows) + _made(made, "study")


def _waits(folder: Path) -> str:
    made = _read(folder, "waits")
    parts = [part["found"] for part in made["parts"].values()]
    columns = {"before": ".2f", "here": ".2f", "times_as_fast": ".1f"}
    rows = (
        (name, *(_range(row[column], spec) for column, spec in columns.items()))
        for part in parts
        for name, row in part["rows"].items()
    )
    heads = ("wait", f"at commit {parts[0]['before']}, s", "now, s", "times as fast")
    return _table(heads, rows) + _made(made, "waits")


def _targets(folder: Path) -> str:
    rows = [
        (name, _plain(target["target"]), _plain(target["measured"]), "yes" if target["met"] else "**no**")
        for report in ("sweep_speed", "figure1")
        for name, target in _read(folder, report)["targets"].items()
    ]
    return _table(("target", "wanted", "measured", "met"), rows)


TABLES = {
    "eigenvalues": _eigenvalues,
    "products": _products,
    "records": _records,
    "errors": _errors,
    "first calls": _first_calls,
    "memory": _memory,
    "training": _training,
    "sweeps": _sweeps,
    "study": _study,
    "waits": _waits,
    "targets": _targets,
}


def _read(folder: Path, report: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / f"{report}.json").read_text(encoding="utf-8"))
    return made


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _made(made: Mapping[str, Any], part: str) -> str:
    """On what it was measured, in a line below its table."""
    on, versions = made["parts"][part]["hardware"], made["parts"][part]["versions"]
    return (
        f"\nPreset {made['preset']}, {on['cpu']}, {on['cores']} cores, jax {versions['jax']} on the {on['device']}; "
        f"load average before it {on['load_average_before']:.1f}.\n"
    )


def _range(values: Mapping[str, float], spec: str = ".1f", scale: float = 1.0) -> str:
    middle, least, most = (f"{scale * values[name]:{spec}}" for name in ("median", "min", "max"))
    return middle if least == most else f"{middle} ({least}–{most})"


def _plain(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.3g}"
