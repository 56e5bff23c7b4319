"""The benchmark for the eye: tables, and one picture."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from rich import box
from rich.table import Table

from sharplab.plotting import house_style

AIMS: Mapping[str, float] = {
    "products_over_oracle": 1.3,
    "seconds_of_best_peer": 2.0,
    "warm_products_over_oracle": 0.6,
    "hessian_over_gradient": 2.2,
    "gauss_newton_over_gradient": 1.5,
    "memory_bytes": 20e9,
}
AIM_TOLERANCE = 1e-3
GAUSS_NEWTON_AIM_KIND = "gpt"  # the kind of network that the aim for its products speaks of
COLOURS = dict(
    zip(
        ("sharplab", "matfree", "scipy", "curvlinops", "pyhessian", "eigenthings lanczos", "eigenthings power"),
        ("#000000", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00"),
        strict=True,
    )
)
PAIR = ("#0072b2", "#e69f00")


def tables(parts: Mapping[str, Any]) -> list[Table]:
    """Those of the parts that there are."""
    makers = {
        "contest": _contest_tables,
        "costs": _costs_table,
        "memory": _memory_table,
        "warm": _warm_table,
        "calibration": _calibration_table,
    }
    return [table for part, maker in makers.items() if part in parts for table in maker(parts[part]["found"])]


def contest_rows(problem: Mapping[str, Any], k: int, tol: float, stopping: str) -> dict[str, Any]:
    """By contestant: its row."""
    return {
        name: row
        for name, found in problem["contestants"].items()
        for row in found.get("rows", ())
        if (row["k"], row["tol"], row["stopping"]) == (k, tol, stopping)
    }


def oracle_median(problem: Mapping[str, Any], k: int, tol: float) -> float:
    """Products that a cold Lanczos run needs; NaN where it had too few."""
    counts = problem["oracle"][str(k)][f"{tol:g}"]
    return float(np.median([np.nan if count is None else count for count in counts]))


def _contest_tables(found: Mapping[str, Any]) -> Iterable[Table]:
    for name, problem in found.items():
        yield _contest_table(name, problem)
        failures = {peer: entry["failed"] for peer, entry in problem["contestants"].items() if "failed" in entry}
        if failures:
            table = _table(f"{name}: did not take part", ("", "because"), left=(0, 1))
            for peer, reason in failures.items():
                table.add_row(peer, reason)
            yield table
    yield _speed_table(found)


def _speed_table(found: Mapping[str, Any]) -> Table:
    table = _table(
        "one product as a call of its own, in gradients of the library with the fastest one",
        ("", "gradient", *COLOURS),
    )
    for name, problem in found.items():
        timed = {peer: entry for peer, entry in problem["contestants"].items() if "gradient_seconds" in entry}
        unit = min((entry["gradient_seconds"] for entry in timed.values()), default=float("nan"))
        ratios = {peer: f"{entry['product_seconds'] / unit:.1f}" for peer, entry in timed.items()}
        table.add_row(name, f"{1e3 * unit:.2f} ms", *(ratios.get(peer, "–") for peer in COLOURS))
    return table


def _contest_table(name: str, problem: Mapping[str, Any]) -> Table:
    title = f"{name} ({problem['parameters']:,} parameters): products, seconds and true error at each stopping"
    table = _table(title, ("k", "tol", "", "own rule", "s", "error", "oracle's", "s"), left=(2,))
    for k in map(int, problem["oracle"]):
        for tol in map(float, problem["oracle"][str(k)]):
            own, oracle = (contest_rows(problem, k, tol, stopping) for stopping in ("own", "oracle"))
            best = oracle_median(problem, k, tol)
            table.add_row(str(k), f"{tol:.0e}", "plain Lanczos, cold", "", "", "", f"{best:.0f}", "", style="dim")
            for peer in [p for p in problem["contestants"] if p in own or p in oracle]:
                table.add_row(
                    *("", "", peer),
                    *_cells(own.get(peer), tol, ("products", "seconds", "errors")),
                    *_cells(oracle.get(peer), tol, ("products", "seconds")),
                )
    return table


def _cells(row: Mapping[str, Any] | None, tol: float, names: Sequence[str]) -> list[str]:
    if row is None:
        return ["–"] * len(names)
    if not row["finished"]:
        return ["too long", *[""] * (len(names) - 1)]
    cells = []
    for name in names:
        median = float(np.median(row[name]))
        if name == "errors":
            cells.append(_marked(f"{median:.0e}", median <= tol))
        else:
            cells.append(f"{median:.0f}" if name == "products" else f"{median:.3g}")
    return cells


def _costs_table(found: Mapping[str, Any]) -> Iterable[Table]:
    heads = ("", "gradient", "÷ arithmetic", "Hessian ÷ gradient", "alone", "Gauss-Newton ÷ gradient", "alone")
    table = _table("products in gradients, of one's own time and of a matrix product's rate", heads)
    for name, row in found.items():
        hessian, ggn = row["hessian"], row["gauss_newton"]
        gpt = name.startswith(GAUSS_NEWTON_AIM_KIND)
        table.add_row(
            name,
            f"{1e3 * row['gradient_seconds']['median']:.1f} ms",
            f"{row['gradient_over_arithmetic']:.2f}",
            _judged(hessian["over_gradient"]["median"], AIMS["hessian_over_gradient"]),
            f"{hessian['alone_over_gradient']['median']:.2f}",
            _judged(ggn["over_gradient"]["median"], AIMS["gauss_newton_over_gradient"] if gpt else None),
            f"{ggn['alone_over_gradient']['median']:.2f}",
        )
    yield table


def _memory_table(found: Mapping[str, Any]) -> Iterable[Table]:
    heads = ("", "parameters", "peak GB", "bytes / parameter", "products", "seconds")
    table = _table("λ₁ of one small batch, in a process of its own", heads)
    for name, rows in found.items():
        for row in rows:
            if "failed" in row:
                table.add_row(name, f"{row['parameters']:,}", row["failed"], "", "", "")
                continue
            peak = row["peak_bytes"]
            seconds = row.get("solve_seconds", row.get("gradient_seconds"))
            table.add_row(
                name,
                f"{row['parameters']:,}",
                _marked(f"{peak / 1e9:.2f}", peak <= AIMS["memory_bytes"]),
                f"{peak / row['parameters']:.0f}",
                str(row.get("products", "–")),
                f"{seconds:.3g}",
            )
    yield table


def _warm_table(found: Sequence[Mapping[str, Any]]) -> Iterable[Table]:
    heads = ("", "k", "warm", "warm oracle", "cold oracle", "ratio", "of the oracles", "largest error")
    table = _table("along training: products per record, started warm", heads)
    for row in found:
        table.add_row(
            row["problem"],
            str(row["k"]),
            f"{np.mean(row['products'][1:]):.1f}",
            f"{np.mean(row['warm_oracle'][1:]):.1f}",
            f"{np.mean(row['oracle'][1:]):.1f}",
            _judged(row["ratio"], AIMS["warm_products_over_oracle"]),
            f"{row['warm_oracle_ratio']:.2f}",
            f"{max(row['errors']):.1e}",
        )
    yield table


def _calibration_table(found: Mapping[str, Any]) -> Iterable[Table]:
    heads = ("", "eigenvalues", "error ≤ errors", "error ≤ tol", "within residuals", "converged", "errors ÷ error")
    table = _table(f"calibration: {found['problems']} random matrices", heads)
    for name, row in found.items():
        if name != "problems":
            shares = ("within_errors", "within_tolerance", "bounded_by_residuals", "converged")
            table.add_row(
                name, str(row["eigenvalues"]), *(f"{row[s]:.1%}" for s in shares), f"{row['median_ratio']:.1f}"
            )
    yield table


def _table(title: str, heads: Sequence[str], left: tuple[int, ...] = (0,)) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i in left else "right", no_wrap=i not in left)
    return table


def _judged(value: float, most: float | None) -> str:
    return f"{value:.2f}" if most is None else _marked(f"{value:.2f}", value <= most)


def _marked(text: str, reached: bool) -> str:
    return f"[green]{text} ✓[/]" if reached else f"[red]{text} ✗[/]"


def picture(parts: Mapping[str, Any]) -> Figure:
    """Contest above (true error against seconds), the other parts below."""
    problems = parts["contest"]["found"] if "contest" in parts else {}
    counts = sorted({int(k) for problem in problems.values() for k in problem["oracle"]})
    columns = max(len(problems), 4)
    with house_style():
        figure = plt.figure(figsize=(2.7 * columns, 2.6 * (len(counts) + 1)))
        above, below = figure.subfigures(2, 1, height_ratios=(max(len(counts), 0.1), 1))
        if counts:
            grid = above.subplots(len(counts), len(problems), squeeze=False, sharey="row")
            for k, row in zip(counts, grid, strict=True):
                for ax, (name, problem) in zip(row, problems.items(), strict=True):
                    _draw_contest(ax, problem, k)
                    ax.set_title(f"{name}, top {k}")
                row[0].set_ylabel("true relative error")
        lower = {"costs": _draw_costs, "memory": _draw_memory, "warm": _draw_warm, "calibration": _draw_calibration}
        for ax, (part, draw) in zip(below.subplots(1, len(lower)), lower.items(), strict=True):
            if part in parts:
                draw(ax, parts[part]["found"])
            else:
                ax.set_axis_off()
        handles = [plt.Line2D([], [], color=colour, marker="o", lw=1) for colour in COLOURS.values()]
        labels = list(COLOURS)
        handles += [plt.Line2D([], [], color="0.4", marker=m, ls="", mfc=f) for m, f in (("o", "0.4"), ("o", "none"))]
        above.legend(handles, [*labels, "own stopping", "oracle's"], loc="outside upper center", ncols=9)
    return figure


def _draw_contest(ax: Axes, problem: Mapping[str, Any], k: int) -> None:
    for stopping, face, line in (("own", None, "-"), ("oracle", "none", ":")):
        for peer, colour in COLOURS.items():
            rows = [contest_rows(problem, k, tol, stopping).get(peer) for tol in map(float, problem["oracle"][str(k)])]
            rows = [row for row in rows if row is not None and row["finished"]]
            seconds = [np.median(row["seconds"]) for row in rows]
            errors = [np.median(row["errors"]) for row in rows]
            ax.plot(seconds, errors, line, color=colour, marker="o", ms=4, mfc=face or colour, lw=0.8)
    for tol in map(float, problem["oracle"][str(k)]):
        ax.axhline(tol, color="0.6", lw=0.6, ls="--", zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="seconds")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _draw_costs(ax: Axes, found: Mapping[str, Any]) -> None:
    kinds = {"Hessian": "hessian", "Gauss-Newton": "gauss_newton"}
    for limit, colour in zip((2.0, 4 / 3), PAIR, strict=True):
        ax.axhline(limit, color=colour, ls="--", lw=0.8)
    values = {label: [row[kind]["over_gradient"]["median"] for row in found.values()] for label, kind in kinds.items()}
    _draw_pairs(ax, list(found), values)
    ax.set(title="product ÷ gradient\n(dashed: of arithmetic)")


def _draw_pairs(ax: Axes, names: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
    """Two bars for each name, one of each label's values."""
    place = np.arange(len(names))
    for shift, colour, (label, heights) in zip((-0.2, 0.2), PAIR, values.items(), strict=True):
        ax.bar(place + shift, heights, 0.36, color=colour, label=label)
    ax.set_xticks(place, names, rotation=30, ha="right")
    ax.set_ylim(top=1.45 * ax.get_ylim()[1])  # room for the legend
    ax.legend(loc="upper left")


def _draw_memory(ax: Axes, found: Mapping[str, Any]) -> None:
    for name, rows in found.items():
        done = [row for row in rows if "peak_bytes" in row]
        sizes, peaks = [row["parameters"] for row in done], [row["peak_bytes"] / 1e9 for row in done]
        ax.plot(sizes, peaks, "o-", color=COLOURS.get(name, "0.5"), label=name, ms=4)
    ax.axhline(AIMS["memory_bytes"] / 1e9, color="0.6", ls="--", lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="parameters", title="peak memory\nof λ₁, GB")
    ax.legend()


def _draw_warm(ax: Axes, found: Sequence[Mapping[str, Any]]) -> None:
    ax.axhline(AIMS["warm_products_over_oracle"], color="0.6", ls="--", lw=0.8)
    names = [f"{row['problem']}, top {row['k']}" for row in found]
    ratios = {"sharplab": "ratio", "warm oracle": "warm_oracle_ratio"}
    _draw_pairs(ax, names, {label: [row[ratio] for row in found] for label, ratio in ratios.items()})
    ax.set(title="products of a warm start\n÷ cold oracle's (dashed: aim)")


def _draw_calibration(ax: Axes, found: Mapping[str, Any]) -> None:
    names = [name for name in found if name != "problems"]
    shares = [100 * found[name]["within_errors"] for name in names]
    ax.barh(names, shares, color="#009e73")
    for i, name in enumerate(names):
        ax.text(1, i, f"×{found[name]['median_ratio']:.1f}", va="center", color="white", fontsize=7)
    ax.set(xlim=(0, 100), title="true error ≤ errors, %\n(× median ratio)")
    ax.invert_yaxis()
