"""Tables and pictures of eigenvalue solvers' costs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report import PAIR, draw_pairs, draw_panels, marked, plain_ticks, table
from rich.table import Table

from sharplab.plotting import house_style
from spectra.contest import LIBRARIES
from spectra.costs import LIMITS

TARGETS: Mapping[str, float] = {
    "products_over_oracle": 1.3,
    "seconds_of_best_peer": 2.0,
    "warm_products_over_oracle": 0.6,
    "hessian_over_gradient": 2.2,
    "gauss_newton_over_gradient": 1.5,
    "memory_bytes": 20e9,
}
TARGET_TOLERANCE = 1e-3
GAUSS_NEWTON_TARGET_KIND = "gpt"  # the kind of network that the target for its products speaks of
COLOURS = dict(
    zip(LIBRARIES, ("#000000", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00"), strict=True)
)

Found = Mapping[str, Any]
Rows = Sequence[Found]


def contest_rows(problem: Found, k: int, tol: float, stopping: str) -> dict[str, Any]:
    """The rows of the contestants, by name."""
    return {
        name: row
        for name, found in problem["contestants"].items()
        for row in found.get("rows", ())
        if (row["k"], row["tol"], row["stopping"]) == (k, tol, stopping)
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
            rows = contest_rows(problem, k, TARGET_TOLERANCE, "own")
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
    makers = {
        "contest": _contest_tables,
        "costs": _costs_table,
        "memory": _memory_table,
        "first": _first_table,
        "warm": _warm_table,
    }
    for part, maker in makers.items():
        if part in found:
            yield from maker(found[part])


def _contest_tables(found: Found) -> Iterator[Table]:
    for name, problem in found.items():
        yield _contest_table(name, problem)
        failures = [(peer, entry["failed"]) for peer, entry in problem["contestants"].items() if "failed" in entry]
        if failures:
            yield table(f"{name}: did not take part", ("", "because"), failures, left=(0, 1))
    yield _speed_table(found)
    rows = (
        (name, f"{row['products_over_oracle']:.2f}", row["best_peer"] or "–", f"{row['seconds_of_best_peer'] or 0:.2f}")
        for name, row in headline(found).items()
    )
    yield table("at 1e-3", ("", "products ÷ oracle's", "best peer", "its seconds ÷ sharplab's"), rows)


def _first_table(found: Found) -> Iterator[Table]:
    unit = next(iter(found.values()))["median"]
    rows = [(name, f"{row['median']:.2f}", f"{row['median'] / unit:.1f}") for name, row in found.items()]
    yield table("first call", ("", "seconds", "÷ by hand"), rows)


def _speed_table(found: Found) -> Table:
    rows = []
    for name, problem in found.items():
        timed = {peer: entry for peer, entry in problem["contestants"].items() if "gradient_seconds" in entry}
        unit = min((entry["gradient_seconds"] for entry in timed.values()), default=float("nan"))
        ratios = {peer: f"{entry['product_seconds'] / unit:.1f}" for peer, entry in timed.items()}
        rows.append((name, f"{1e3 * unit:.2f} ms", *(ratios.get(peer, "–") for peer in COLOURS)))
    title = "one product as a call of its own, in gradients of the library with the fastest one"
    return table(title, ("", "gradient", *COLOURS), rows)


def _contest_table(name: str, problem: Found) -> Table:
    rows = []
    for k in map(int, problem["oracle"]):
        for tol in map(float, problem["oracle"][str(k)]):
            own, oracle = (contest_rows(problem, k, tol, stopping) for stopping in ("own", "oracle"))
            best = oracle_median(problem, k, tol)
            rows.append((str(k), f"{tol:.0e}", "plain Lanczos, cold", "", "", "", f"{best:.0f}", ""))
            rows += [
                ("", "", peer, *_solved(own.get(peer), tol), *_solved(oracle.get(peer), tol)[:2])
                for peer in problem["contestants"]
                if peer in own or peer in oracle
            ]
    title = f"{name} ({problem['parameters']:,} parameters): products, seconds and true error at each stopping"
    return table(title, ("k", "tol", "", "own rule", "s", "error", "oracle's", "s"), rows, left=(2,))


def _solved(row: Found | None, tol: float) -> tuple[str, str, str]:
    """Products, seconds and error of a row."""
    if row is None:
        return "–", "–", "–"
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


def _memory_table(found: Found) -> Iterator[Table]:
    def cells(row: Found) -> tuple[str, str, str, str]:
        if "failed" in row:
            return row["failed"], "", "", ""
        peak, seconds = row["peak_bytes"], row.get("solve_seconds", row.get("gradient_seconds"))
        gigabytes = marked(f"{peak / 1e9:.2f}", peak <= TARGETS["memory_bytes"])
        return gigabytes, f"{peak / row['parameters']:.0f}", str(row.get("products", "–")), f"{seconds:.3g}"

    rows = ((name, f"{row['parameters']:,}", *cells(row)) for name, own in found.items() for row in own)
    heads = ("", "parameters", "peak GB", "bytes / parameter", "products", "seconds")
    yield table("λ₁ of one small batch, in a process of its own", heads, rows)


def _warm_table(found: Rows) -> Iterator[Table]:
    rows = (
        (
            row["problem"],
            str(row["k"]),
            *(f"{np.mean(row[name][1:]):.1f}" for name in ("products", "warm_oracle", "oracle")),
            marked(f"{row['ratio']:.2f}", row["ratio"] <= TARGETS["warm_products_over_oracle"]),
            f"{row['warm_oracle_ratio']:.2f}",
            f"{max(row['errors']):.1e}",
        )
        for row in found
    )
    heads = ("", "k", "warm", "warm oracle", "cold oracle", "ratio", "of the oracles", "largest error")
    yield table("along training: products per record, started warm", heads, rows)


def picture(found: Found) -> Figure:
    """Contest above (true error against seconds), the other parts below."""
    problems = found.get("contest", {})
    counts = sorted({int(k) for problem in problems.values() for k in problem["oracle"]})
    lower = {"costs": _draw_costs, "memory": _draw_memory, "warm": _draw_warm}
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
        draw_panels(below.subplots(1, len(lower)), lower, found)
        handles = [plt.Line2D([], [], color=colour, marker="o", lw=1) for colour in COLOURS.values()]
        handles += [plt.Line2D([], [], color="0.4", marker="o", ls="", mfc=face) for face in ("0.4", "none")]
        above.legend(handles, [*COLOURS, "own stopping", "oracle's"], loc="outside upper center", ncols=9)
    return figure


def _draw_contest(ax: Axes, problem: Found, k: int) -> None:
    tolerances = [float(tol) for tol in problem["oracle"][str(k)]]
    for stopping, face, line in (("own", None, "-"), ("oracle", "none", ":")):
        for peer, colour in COLOURS.items():
            rows = [contest_rows(problem, k, tol, stopping).get(peer) for tol in tolerances]
            rows = [row for row in rows if row is not None and row["finished"]]
            seconds, errors = ([np.median(row[name]) for row in rows] for name in ("seconds", "errors"))
            ax.plot(seconds, errors, line, color=colour, marker="o", ms=4, mfc=face or colour, lw=0.8)
    for tol in tolerances:
        ax.axhline(tol, color="0.6", lw=0.6, ls="--", zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="seconds")
    plain_ticks(ax.xaxis, "g")


def _draw_costs(ax: Axes, found: Found) -> None:
    for limit, colour in zip(LIMITS.values(), PAIR, strict=True):
        ax.axhline(limit, color=colour, ls="--", lw=0.8)
    kinds = {"Hessian": "hessian", "Gauss-Newton": "gauss_newton"}
    values = {label: [row[kind]["over_gradient"]["median"] for row in found.values()] for label, kind in kinds.items()}
    draw_pairs(ax, list(found), values)
    ax.set(title="product ÷ gradient\n(dashed: of arithmetic)")


def _draw_memory(ax: Axes, found: Found) -> None:
    for name, rows in found.items():
        done = [row for row in rows if "peak_bytes" in row]
        sizes, peaks = [row["parameters"] for row in done], [row["peak_bytes"] / 1e9 for row in done]
        ax.plot(sizes, peaks, "o-", color=COLOURS.get(name, "0.5"), label=name, ms=4)
    ax.axhline(TARGETS["memory_bytes"] / 1e9, color="0.6", ls="--", lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="parameters", title="peak memory\nof λ₁, GB")
    ax.legend()


def _draw_warm(ax: Axes, found: Rows) -> None:
    ax.axhline(TARGETS["warm_products_over_oracle"], color="0.6", ls="--", lw=0.8)
    ratios = {"sharplab": "ratio", "warm oracle": "warm_oracle_ratio"}
    names = [f"{row['problem']}, top {row['k']}" for row in found]
    draw_pairs(ax, names, {label: [row[ratio] for row in found] for label, ratio in ratios.items()})
    ax.set(title="products of a warm start\n÷ cold oracle's (dashed: target)")
