"""Curves to zoom, from any figure's table: the role of a column follows from its name and from how it varies.

A table's `part` column splits it into plots. In each, the horizontal axis is the step where rows differ in nothing
else, else the learning rate, else another of `AXES`; a line is a width, depth or the like; whatever else tells rows
apart gets a panel of its own; rows that differ in the seed alone are averaged; and other columns of numbers are the
quantities to choose from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.colors import to_hex
from pandas.api.types import is_numeric_dtype

from sharplab.gallery.numbers import label
from sharplab.plotting import size_colours

AXES = ("products", "eigenvalue", "width", "depth", "batch_size", "gamma")
LOGARITHMIC = ("learning_rate", "products", "width", "depth", "batch_size", "gamma")
LINES = ("method", "width", "depth", "batch_size", "gamma", "rank")
SETTINGS = (*LINES, "learning_rate", "step", "seed")
BOOKKEEPING = ("diverged", "identity", "budget")
ERRORS = ("_error", "_stderr")
ABOUT_ANOTHER = (*ERRORS, "_residual", "_matvecs", "_identity", "_low", "_high")
MOST_PANELS = 12
MOST_MARKED = 40  # points of a line, for each to be drawn
MOST_POINTS = 600  # of a line, about as many as a panel has pixels
# Okabe and Ito's colours, which colour-blind readers can tell apart, without black and yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Plot:
    """A part of a table as curves."""

    title: str  # which part, "" where the table has one alone
    quantities: tuple[str, ...]  # what the vertical axis may show; the first is shown first
    panels: tuple[tuple[str, go.Figure], ...]  # (title, figure), with all quantities' traces, by `meta["quantity"]`


@dataclass(frozen=True)
class Shape:
    """The roles of a part's columns: horizontal axis, line, panels, and quantities to show."""

    x: str
    line: str | None
    panels: tuple[str, ...]
    quantities: tuple[str, ...]


def plots(table: pd.DataFrame) -> list[Plot]:
    """The parts of a table that have the shape of curves."""
    parts = table.groupby("part", sort=False) if "part" in table else [("", table)]
    found = []
    for title, part in parts:
        part = part.drop(columns="part", errors="ignore").dropna(axis=1, how="all")
        shape = find_shape(part)
        panels = () if shape is None else tuple(_panels(part, shape))
        if shape is not None and 0 < len(panels) <= MOST_PANELS:
            found.append(Plot(label(str(title)), shape.quantities, panels))
    return found


def find_shape(part: pd.DataFrame) -> Shape | None:
    """The roles of the columns of a part, None where there is no axis or no quantity.

    >>> find_shape(pd.DataFrame({"width": [8, 8, 16, 16], "seed": 0, "step": [0, 9, 0, 9], "loss": [2, 1, 2, 0]}))
    Shape(x='step', line='width', panels=(), quantities=('loss',))
    """
    words = [c for c in part if not is_numeric_dtype(part[c]) and c not in BOOKKEEPING]
    words.sort(key=lambda c: c != "column")
    settings = [c for c in SETTINGS if c in part and c not in words]
    others = [c for c in (*words, *settings) if c != "step"]
    along = "step" in part and (part.duplicated(others).any() if others else True)
    candidates = ("step",) if along else ("learning_rate", *AXES)
    x = next((c for c in candidates if c in part and is_numeric_dtype(part[c]) and part[c].nunique() > 1), None)
    kept: list[str] = []
    for key in dict.fromkeys((*words, *(c for c in settings if c not in (x, "seed", "step")))):
        groups = part.groupby(kept)[key] if kept else part[key]
        if np.max(groups.nunique()) > 1:  # else what is kept already determines it
            kept.append(key)
    quantities = [
        c
        for c in part
        if is_numeric_dtype(part[c])
        and c not in (x, "stderr", *SETTINGS, *AXES, *BOOKKEEPING)
        and not c.endswith(ABOUT_ANOTHER)
        and part[c].nunique() > 1
    ]
    if x is None or not quantities:
        return None
    # Along training, what is special comes before the losses.
    quantities.sort(key=lambda c: x == "step" and c.endswith("loss"))
    line = next((c for c in (*LINES, *reversed(kept)) if c in kept), None)
    return Shape(x, line, tuple(c for c in kept if c != line), tuple(quantities))


def _panels(part: pd.DataFrame, shape: Shape) -> Iterator[tuple[str, go.Figure]]:
    colours = _colours(part[shape.line].unique()) if shape.line else {}
    scales = {q: "log" if _spans_decades(part[q]) else "linear" for q in shape.quantities}
    for key, rows in part.groupby(list(shape.panels), sort=False) if shape.panels else [((), part)]:
        traces = []
        lines = list(rows.groupby(shape.line)) if shape.line else [("", rows)]
        for quantity in shape.quantities:
            for value, line in lines:
                points = thin(average(line, shape.x, quantity))
                if len(points):
                    traces.append(_trace(points, quantity, scales[quantity], shape, value, colours.get(value)))
        if traces:
            figure = go.Figure(traces, _layout(rows[shape.x], shape, scales))
            yield ", ".join(_setting(c, v) for c, v in zip(shape.panels, key, strict=True)), figure


def average(rows: pd.DataFrame, x: str, quantity: str) -> pd.DataFrame:
    """The mean over rows with the same x, with columns x, mean, spread, count.

    The spread is the standard deviation of several rows, of a single one its own error where a column states it.
    An x at which any row diverged or is not finite is left out, as are rows without the quantity at every x.
    """
    own = (*(quantity + ending for ending in ERRORS), "stderr")
    stated = next((c for c in own if c in rows and is_numeric_dtype(rows[c])), None)
    rows = rows[rows[x].notna()]
    values = rows[quantity].to_numpy(float)
    sound = np.isfinite(values)
    if "diverged" in rows:
        sound &= (rows["diverged"].astype(str) != "True").to_numpy()
    # By hand: a page has ten thousand lines, each of which pandas would group for milliseconds.
    at, first, place, count = np.unique(rows[x].to_numpy(), return_index=True, return_inverse=True, return_counts=True)
    values = np.where(sound, values, 0.0)
    off = values - values[first][place]  # from one of them, so that equal ones have no spread
    mean_off = np.bincount(place, off, len(at)) / count
    squares = np.bincount(place, (off - mean_off[place]) ** 2, len(at))
    alone = rows[stated].to_numpy(float)[first] if stated is not None else np.full(len(at), np.nan)
    spread = np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), alone)
    whole = np.bincount(place, sound, len(at)) == count
    mean = values[first] + mean_off
    return pd.DataFrame({x: at, "mean": mean, "spread": spread, "count": count})[whole].reset_index(drop=True)


def thin(points: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """At most so many rows of an average: the ends, and the lowest and highest of stretches of equally many rows."""
    if len(points) <= most:
        return points
    mean = points["mean"].to_numpy()
    kept = {0, len(points) - 1}
    for stretch in np.array_split(np.arange(len(points)), (most - 2) // 2):
        kept |= {stretch[mean[stretch].argmin()], stretch[mean[stretch].argmax()]}
    return points.iloc[sorted(kept)]


def _trace(
    points: pd.DataFrame, quantity: str, scale: str, shape: Shape, value: Any, colour: str | None
) -> dict[str, Any]:
    # What plotly draws may hold a little HTML of its own.
    name = escape(_setting(shape.line, value)) if shape.line else _shown(quantity)
    colour = colour or COLOURS[0]
    few = len(points) <= MOST_MARKED
    return {
        "type": "scatter",
        "x": points[shape.x].tolist(),
        "y": points["mean"].tolist(),
        "error_y": {"array": points["spread"].fillna(0.0).tolist(), "thickness": 1, "width": 2, "color": colour}
        if few and points["spread"].notna().any()
        else None,
        "name": name,
        "mode": "lines+markers" if few else "lines",
        "line": {"color": colour, "width": 2},
        "marker": {"size": 5},
        "visible": quantity == shape.quantities[0],
        "meta": {"quantity": quantity, "title": _shown(quantity), "scale": scale},
        "hovertemplate": f"{name}<br>{_shown(shape.x)} %{{x}}<br>{_shown(quantity)} %{{y:.4g}}<extra></extra>",
    }


def _layout(x: pd.Series, shape: Shape, scales: dict[str, str]) -> dict[str, Any]:
    first = shape.quantities[0]
    x_axis: dict[str, Any] = {"title": {"text": _shown(shape.x)}}
    if shape.x in LOGARITHMIC and ((x > 0) & np.isfinite(x)).all():
        x_axis |= {"type": "log"} | _powers_of_two(x, small=shape.x == "learning_rate")
    return {
        "template": "none",  # the page has one for all
        "font": {"size": 12, "family": "system-ui, sans-serif"},
        "margin": {"l": 60, "r": 12, "t": 28, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
        "showlegend": True,
        "hovermode": "closest",
        "xaxis": x_axis,
        "yaxis": {
            "title": {"text": _shown(first)},
            "type": scales[first],
            "exponentformat": "power",
            "nticks": 5,
        },
    }


def _powers_of_two(x: pd.Series, *, small: bool) -> dict[str, Any]:
    """Ticks at about seven powers of two at most, written as powers where they may be `small`."""
    first, last = np.floor(np.log2(x.min())), np.ceil(np.log2(x.max()))
    powers = np.arange(first, last + 1, max(1, np.ceil((last - first) / 7)))
    texts = [f"2<sup>{power:.0f}</sup>" if small else f"{2**power:.0f}" for power in powers]
    return {"tickvals": (2.0**powers).tolist(), "ticktext": texts}


def _colours(values: Sequence[Any]) -> dict[Any, str]:
    if all(isinstance(value, int | float | np.number) for value in values):
        return {value: to_hex(colour) for value, colour in size_colours(values).items()}
    return {value: COLOURS[i % len(COLOURS)] for i, value in enumerate(values)}


def _shown(column: str) -> str:
    return escape(label(column))


def _setting(column: str, value: Any) -> str:
    """A column's value as a reader would write it, with the column's name where it is a number."""
    if not isinstance(value, int | float | np.number):
        return label(str(value))
    return f"{label(column)} {value:g}".replace("inf", "∞")


def _spans_decades(values: pd.Series) -> bool:
    finite = values[np.isfinite(values.astype(float))]
    return bool(len(finite)) and finite.min() > 0 and finite.max() / finite.min() > 100
