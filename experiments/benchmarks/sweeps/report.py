"""Tables and panels of sweeps' costs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report import draw_ranges, judged, name_sizes, plain_ticks, ranged, table, targets_table
from report import picture as side_by_side
from rich.table import Table

from sharplab.plotting import draw_threshold

NAMES: Mapping[str, str] = {
    "here": "sharplab, here",
    "processes": "sharplab, processes",
    "plain": "plain loop",
    "pool": "pool without runs",
}
HALF: Mapping[str, str] = {
    "cold": "from the start of the process, compilation included",
    "warm": "further runs of the same process",
}
COLOURS = dict(zip(NAMES, ("#000000", "#0072b2", "#e69f00", "#009e73"), strict=True))
COSTS: Mapping[str, tuple[str, str]] = {
    "run_seconds": ("whole run", "#000000"),
    "again_seconds": ("second call", "#0072b2"),
    "planning_seconds": ("planning", "#56b4e9"),
    "load_seconds": ("load", "#d55e00"),
}
TARGETS: Mapping[str, float] = {"matmul_share": 0.6, "over_plain_loop": 3.0, "load_seconds": 2.0}
SHARE_WIDTH, SPEED_WIDTH, LOAD_RUNS = 512, 64, 10_000  # that the targets speak of

Rows = Sequence[Mapping[str, Any]]


def targets(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The targets whose sizes were measured."""
    shares = {
        f"matmul share, width {SHARE_WIDTH}": judged(TARGETS["matmul_share"], row["share_made"]["median"])
        for row in found.get("arithmetic", ())
        if row["width"] == SHARE_WIDTH
    }
    speeds = {
        f"times the plain loop, width {SPEED_WIDTH}, {row['contestant']}, {half}": judged(
            TARGETS["over_plain_loop"], row[f"{half}_over_plain"]["median"]
        )
        for row in found.get("training", ())
        if row["width"] == SPEED_WIDTH and row["contestant"] in ("here", "processes")
        for half in HALF
    }
    most = TARGETS["load_seconds"]
    loads = {
        f"seconds to load {LOAD_RUNS:,} runs": judged(most, seconds := row["load_seconds"]["median"], seconds < most)
        for row in found.get("growth", ())
        if row["runs"] == LOAD_RUNS
    }
    return shares | speeds | loads


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Those of the parts that were measured, and the targets."""
    if "training" in found:
        yield from _training_tables(found["training"])
    if "arithmetic" in found:
        yield _arithmetic_table(found["arithmetic"])
    if "overhead" in found:
        yield _overhead_table(found["overhead"])
    if "growth" in found:
        yield _growth_table(found["growth"])
    if targets(found):
        yield targets_table(targets(found))


def _training_tables(rows: Rows) -> Iterator[Table]:
    heads = ("width", "", "runs", "per hour", "÷ plain loop", "÷ pool")
    for half, what in HALF.items():
        cells = (
            (
                str(row["width"]) if row["contestant"] == "here" else "",
                NAMES[row["contestant"]],
                str(row["runs"]),
                ranged(row[f"{half}_runs_per_hour"], ",.0f"),
                ranged(row[f"{half}_over_plain"], ".2f"),
                ranged(row[f"{half}_over_pool"], ".2f"),
            )
            for row in rows
        )
        yield table(f"runs of {rows[0]['steps']} steps per hour, {what}: median (range)", heads, cells, left=(1,))


def _arithmetic_table(rows: Rows) -> Table:
    heads = ("width", "weights", "steps per second", "matmul GF/s", "share", "plain loop")
    cells = (
        (
            str(row["width"]),
            f"{row['matrix_entries']:,}",
            ranged(row["steps_per_second"], ".0f"),
            ranged(row["matmul_flops_per_second"], ".0f", scale=1e-9),
            *(ranged(row[share], ".0%") for share in ("share_made", "plain_share_made")),
        )
        for row in rows
    )
    return table("arithmetic of training over the rate of a large float32 product: median (range)", heads, cells)


def _overhead_table(found: Mapping[str, Any]) -> Table:
    title = f"the engine's time per group, {found['groups']} groups of {found['runs']} runs that train at once"
    start = {"processes": f"{found['start_of_workers_seconds']:.1f}"}
    cells = (
        (NAMES[name], ranged(seconds, scale=1e3), start.get(name, ""))
        for name, seconds in found["seconds_per_group"].items()
    )
    return table(title, ("", "ms per group: median (range)", "start, s"), cells)


def _growth_table(rows: Rows) -> Table:
    heads = ("", *(f"{row['runs']:,} runs, {row['groups']} groups" for row in rows))
    seconds = {
        "start-up to the first group": "start_up_seconds",
        "of it planning": "planning_seconds",
        "whole run": "run_seconds",
        "second call": "again_seconds",
        "load": "load_seconds",
        "transfer over width at every depth": "transfer_seconds",
    }
    peaks = {
        "whole run": "run_peak_bytes",
        "second call": "again_peak_bytes",
        "load": "load_peak_bytes",
        "transfer": "transfer_peak_bytes",
        "imports alone": "before_load_bytes",
    }
    measured = set.intersection(*map(set, rows))  # earlier reports hold less
    cells = [
        (f"{name}, s", *(ranged(row[key], ".2f") for row in rows)) for name, key in seconds.items() if key in measured
    ]
    cells += [
        (f"peak memory, {name}, MB", *(f"{row[key]['median'] / 1e6:.0f}" for row in rows))
        for name, key in peaks.items()
        if key in measured
    ]
    return table("sweeps that train at once, 12 records of 4 observables: median (range)", heads, cells)


def picture(found: Mapping[str, Any]) -> Figure:
    """Runs per hour, share of the machine's rate, and cost of many runs."""
    return side_by_side({"training": _draw_training, "arithmetic": _draw_arithmetic, "growth": _draw_growth}, found)


def _draw_training(ax: Axes, rows: Rows) -> None:
    for name, colour in COLOURS.items():
        for half, line in (("warm", "-"), ("cold", ":")):
            points = [(row["width"], row[f"{half}_runs_per_hour"]) for row in rows if row["contestant"] == name]
            draw_ranges(ax, points, color=colour, linestyle=line, label=NAMES[name] if half == "warm" else None)
    name_sizes(ax, [row["width"] for row in rows])
    ax.set_yscale("log")
    plain_ticks(ax.yaxis, ",.0f")
    ax.set(xlabel="width", title="runs per hour (dotted: with compilation)")
    ax.legend()


def _draw_arithmetic(ax: Axes, rows: Rows) -> None:
    for name, key in {"here": "share_made", "plain": "plain_share_made"}.items():
        draw_ranges(ax, [(row["width"], row[key]) for row in rows], color=COLOURS[name], label=NAMES[name])
    draw_threshold(ax, TARGETS["matmul_share"], f"target at width {SHARE_WIDTH}")
    name_sizes(ax, [row["width"] for row in rows])
    ax.set(xlabel="width", ylim=(0, None), title="arithmetic ÷ rate of a large product")
    ax.legend()


def _draw_growth(ax: Axes, rows: Rows) -> None:
    for key, (label, colour) in COSTS.items():
        draw_ranges(ax, [(row["runs"], row[key]) for row in rows], color=colour, label=label)
    draw_threshold(ax, TARGETS["load_seconds"], "target of load")
    ax.set(xscale="log", yscale="log", xlabel="runs", title="seconds, training none")
    ax.legend()
