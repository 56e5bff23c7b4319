"""Tables and pictures of eigenvalue solvers' costs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report import marked, plain_ticks, table
from rich.table import Table

from sharplab.plotting import house_style
from spectra.contest import LIBRARIES
from spectra.costs import LIMITS

TARGETS: Mapping[str, float] = {
    "products_over_oracle": 1.3,
    "seconds_of_best_peer": 2.0,
    "hessian_over_gradient": 2.2,
    "gauss_newton_over_gradient": 1.5,
}
TARGET_TOLERANCE = 1e-3
PAIR = ("#0072b2", "#e69f00")  # of the Hessian and the Gauss-Newton matrix
GAUSS_NEWTON_TARGET_KIND = "gpt"  # the kind of network that the target for its products speaks of
COLOURS = dict(zip(LIBRARIES, ("#000000", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00"), strict=True))

Found = Mapping[str, Any]
Rows = Sequence[Found]


def contest_rows(problem: Found, k: int, tol: float) -> dict[str, Any]:
    """The rows of the contestants, by name; earlier reports also hold others than by a library's own rule."""
    return {
        name: row
        for name, found in problem["contestants"].items()
        for row in found.get("rows", ())
        if (row["k"], row["tol"], row["stopping"]) == (k, tol, "own")
    }


def oracle_median(problem: Found, k: int, tol: float) -> float:
    """Products that a cold Lanczos run needs; NaN where it had too few."""
    counts = problem["oracle"][str(k)][f"{tol:g}"]
    return float(np.median([np.nan if count is None else count for count in counts]))


def headline(found: Found) -> dict[str, Any]:
    """Products over the oracle's and seconds of the best peer over sharplab's, by problem and k, at 1e-3.

    The best peer is the fastest by its own rule whose true error is within the tolerance.
    """
    numbers: dict[str, Any] = {}
    for name, problem in found.items():
        for k in map(int, problem["oracle"]):
            rows = contest_rows(problem, k, TARGET_TOLERANCE)
            ours = rows.pop("sharplab", None)
            if ours is None or not ours["finished"]:
                continue
            peers = {
                peer: float(np.median(row["seconds"]))
                for peer, row in rows.items()
                if row["finished"] and np.median(row["errors"]) <= TARGET_TOLERANCE
            }
            best = min(peers, key=peers.__getitem__, default=None)
            numbers[f"{name}, top {k}"] = {
                "products_over_oracle": float(np.median(ours["products"]))
                / oracle_median(problem, k, TARGET_TOLERANCE),
                "best_peer": best,
                "seconds_of_best_peer": peers[best] / float(np.median(ours["seconds"])) if best else None,
            }
    return numbers


def tables(found: Found) -> Iterator[Table]:
    """Those of the parts that were measured."""
    makers = {"contest": _contest_tables, "costs": _costs_table, "records": _records_table, "first": _first_table}
    for part, maker in makers.items():
        if part in found:
            yield from maker(found[part])


def _contest_tables(found: Found) -> Iterator[Table]:
    for name, problem in found.items():
        yield _contest_table(name, problem)
        failures = [(peer, entry["failed"]) for peer, entry in problem["contestants"].items() if "failed" in entry]
        if failures:
            yield table(f"{name}: did not take part", ("", "because"), failures, left=(0, 1))
    rows = (
        (name, f"{row['products_over_oracle']:.2f}", row["best_peer"] or "–", f"{row['seconds_of_best_peer'] or 0:.2f}")
        for name, row in headline(found).items()
    )
    yield table("at 1e-3", ("", "products ÷ oracle's", "best peer", "its seconds ÷ sharplab's"), rows)


def _first_table(found: Found) -> Iterator[Table]:
    unit = next(iter(found.values()))["median"]
    rows = [(name, f"{row['median']:.2f}", f"{row['median'] / unit:.1f}") for name, row in found.items()]
    yield table("first call", ("", "seconds", "÷ by hand"), rows)


def _contest_table(name: str, problem: Found) -> Table:
    rows = []
    for k in map(int, problem["oracle"]):
        for tol in map(float, problem["oracle"][str(k)]):
            best = oracle_median(problem, k, tol)
            rows.append((str(k), f"{tol:.0e}", "plain Lanczos, cold", f"{best:.0f}", "", ""))
            rows += [("", "", peer, *_solved(row, tol)) for peer, row in contest_rows(problem, k, tol).items()]
    title = f"{name} ({problem['parameters']:,} parameters), each by its own rule"
    return table(title, ("k", "tol", "", "products", "seconds", "true error"), rows, left=(2,))


def _solved(row: Found, tol: float) -> tuple[str, str, str]:
    """Products, seconds and error of a row."""
    if not row["finished"]:
        return "too long", "", ""
    products, seconds, error = (float(np.median(row[name])) for name in ("products", "seconds", "errors"))
    return f"{products:.0f}", f"{seconds:.3g}", marked(f"{error:.0e}", error <= tol)


def _costs_table(found: Found) -> Iterator[Table]:
    def judged(row: Found, kind: str, applies: bool) -> tuple[str, str]:
        ratio = row[kind]["over_gradient"]["median"]
        text = marked(f"{ratio:.2f}", ratio <= TARGETS[f"{kind}_over_gradient"]) if applies else f"{ratio:.2f}"
        return text, f"{row[kind]['alone_over_gradient']['median']:.2f}"

    rows = (
        (
            name,
            f"{1e3 * row['gradient_seconds']['median']:.1f} ms",
            f"{row['gradient_over_arithmetic']:.2f}",
            *judged(row, "hessian", True),
            *judged(row, "gauss_newton", name.startswith(GAUSS_NEWTON_TARGET_KIND)),
        )
        for name, row in found.items()
    )
    heads = ("", "gradient", "÷ arithmetic", "Hessian ÷ gradient", "alone", "Gauss-Newton ÷ gradient", "alone")
    yield table("products in gradients, of one's own time and of a matrix product's rate", heads, rows)


def _records_table(found: Found) -> Iterator[Table]:
    rows = (
        (name, kind, f"{row['value']:.3g}", str(row["calls"]), f"{row['over_gradient']['median']:.1f}")
        for name, records in found.items()
        for kind, row in records.items()
    )
    yield table("records", ("", "", "value", "losses or products", "÷ gradient"), rows, left=(0, 1))


def picture(found: Found) -> Figure:
    """Contest above (true error against seconds), costs of products below."""
    problems = found.get("contest", {})
    counts = sorted({int(k) for problem in problems.values() for k in problem["oracle"]})
    with house_style():
        figure = plt.figure(figsize=(2.7 * max(len(problems), 4), 2.6 * (len(counts) + 1)))
        above, below = figure.subfigures(2, 1, height_ratios=(max(len(counts), 0.1), 1))
        if counts:
            grid = above.subplots(len(counts), len(problems), squeeze=False, sharey="row")
            for k, row in zip(counts, grid, strict=True):
                for ax, (name, problem) in zip(row, problems.items(), strict=True):
                    _draw_contest(ax, problem, k)
                    ax.set_title(f"{name}, top {k}")
                row[0].set_ylabel("true relative error")
        if "costs" in found:
            _draw_costs(below.subplots(), found["costs"])
        handles = [plt.Line2D([], [], color=colour, marker="o", lw=1) for colour in COLOURS.values()]
        above.legend(handles, COLOURS, loc="outside upper center", ncols=len(COLOURS))
    return figure


def _draw_contest(ax: Axes, problem: Found, k: int) -> None:
    tolerances = [float(tol) for tol in problem["oracle"][str(k)]]
    for peer, colour in COLOURS.items():
        rows = [contest_rows(problem, k, tol).get(peer) for tol in tolerances]
        rows = [row for row in rows if row is not None and row["finished"]]
        seconds, errors = ([np.median(row[name]) for row in rows] for name in ("seconds", "errors"))
        ax.plot(seconds, errors, color=colour, marker="o", ms=4, lw=0.8)
    for tol in tolerances:
        ax.axhline(tol, color="0.6", lw=0.6, ls="--", zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="seconds")
    plain_ticks(ax.xaxis, "g")


def _draw_costs(ax: Axes, found: Found) -> None:
    for limit, colour in zip(LIMITS.values(), PAIR, strict=True):
        ax.axhline(limit, color=colour, ls="--", lw=0.8)
    kinds = {"Hessian": "hessian", "Gauss-Newton": "gauss_newton"}
    place = np.arange(len(found))
    for shift, colour, (label, kind) in zip((-0.2, 0.2), PAIR, kinds.items(), strict=True):
        ratios = [row[kind]["over_gradient"]["median"] for row in found.values()]
        ax.bar(place + shift, ratios, 0.36, color=colour, label=label)
    ax.set_xticks(place, list(found), rotation=30, ha="right")
    ax.set_ylim(top=1.45 * ax.get_ylim()[1])  # room for the legend
    ax.legend(loc="upper left")
    ax.set(title="product ÷ gradient\n(dashed: of arithmetic)")
