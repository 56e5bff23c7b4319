"""Sentences about slopes that fail or cannot be told: the modules, the size of the slope, and the likely cause."""

import pandas as pd

from sharplab.checks.recording import WHOLE

# In the order in which they are said: what is wrong at the start explains what comes later.
_CAUSES = {
    "init": "the standard deviation of their weights, or of those before them, does not go as 1/√fan-in",
    "readout at the start": "the readout lacks a factor 1/width: a multiplier is forgotten, or its initialisation does "
    "not shrink",
    "rising": "the learning rates of their parameters, or of those before them, do not fall with width as they should, "
    "as under a plain optimizer instead of the scaled one",
    "falling": "the learning rates of their parameters, or of those before them, fall too fast with width or do not "
    "rise as they should, or the gradient fades on its way there",
    "aligned": "queries and keys align in training, so that qᵀk grows as the size d of a head: divide attention logits "
    "by d rather than √d",
    "readout": "all that leads there keeps its size: the readout lacks a factor 1/width in a multiplier, its "
    "initialisation or its learning rate",
    "fading": "all that leads there keeps its size: the readout's multiplier, initialisation or learning rate falls "
    "too fast with width",
}
_NAMED = 4  # modules in a sentence


def likely_causes(failing: pd.DataFrame, slopes: pd.DataFrame) -> tuple[str, ...]:
    """A sentence per likely cause of the failing slopes, out of all `slopes`."""
    hidden_sound = not (failing["kind"] == "hidden").any()
    causes = failing.apply(lambda row: _cause(row, hidden_sound), axis=1)
    said = {cause: _described(rows) for cause, rows in failing.groupby(causes)}
    output = slopes[(slopes["module"] == WHOLE) & (slopes["quantity"] == "size") & (slopes["kind"] == "output")]
    if "rising" in said and len(output) and output["low"].iloc[0] > -0.25:
        # At the start a sound readout's output shrinks; one that does not spoils all gradients behind it.
        said.setdefault("readout at the start", _described(output))
    return tuple(f"{said[cause]}: {explanation}." for cause, explanation in _CAUSES.items() if cause in said)


def _cause(row: pd.Series, hidden_sound: bool) -> str:
    if row["quantity"] == "size":
        return "readout at the start" if row["kind"] == "output" else "init"
    if row["kind"] == "logits":
        return "aligned"
    if row["kind"] == "output" and hidden_sound:
        return "readout" if row["slope"] > 0 else "fading"
    return "rising" if row["slope"] > 0 else "falling"


def _described(rows: pd.DataFrame) -> str:
    ranked = rows.sort_values("slope", key=lambda slope: -slope.abs())
    names = ", ".join(ranked["module"].iloc[:_NAMED])
    more = f" and {len(ranked) - _NAMED} more" if len(ranked) > _NAMED else ""
    first = ranked.iloc[0]
    what = "size at the start" if first["quantity"] == "size" else f"change after step {first['step']}"
    slopes = f"{first['slope']:+.2f} ({first['low']:+.2f} to {first['high']:+.2f})"
    if len(ranked) > 1:
        slopes += f" at the first, {ranked['slope'].iloc[-1]:+.2f} at the last"
    return f"{names}{more}: the slope of the {what} per doubling of width is {slopes}"


def undecided(rows: pd.DataFrame) -> tuple[str, ...]:
    """The number of slopes whose intervals are too wide, with the widest, as one sentence."""
    wide = rows["high"] - rows["low"]
    widest = rows.loc[wide.idxmax()]
    quantity = "size at the start" if widest["quantity"] == "size" else f"change after step {widest['step']}"
    return (
        f"{len(rows)} slopes may be flat or not, as {widest['module']}: that of the {quantity} lies between "
        f"{widest['low']:+.2f} and {widest['high']:+.2f}; more seeds or wider networks would tell.",
    )
