"""What the sharpness of a short measurement tells of the best learning rate, and how surely.

Papers: Lewkowycz et al., arXiv 2003.02218, where wide networks train best between 2/λ and 4/λ of their start, catapults
bringing λ down; Cohen et al., arXiv 2103.00065, where λ rises to 2/η whatever η is, so that a plateau tells the rate
that was taken; Noci et al., arXiv 2402.17457, where optimum and sharpness stay together over widths. Here: every sweep
of this gallery with an optimum, and beside it the sharpness λ of runs with the same settings, in the optimizer's
metric, or in the norm of its steps. A reading is the learning rate whose threshold λ is (2/λ for SGD): before the first
step, at 10 % of the steps, and over their second half. Nothing is trained.

The rule: log₂ optimum = log₂ reading + an offset of the optimizer. Figures, not runs, are what is independent at best:
each is predicted from all others that have its optimizer, and an interval of 80 % is as wide as the errors of figures
left out say (`sharplab.analysis.trust_region`). Optima at an end of their grid are left out, and so is a cell that
another figure has with more seeds. The sharpness is of the recorded learning rate nearest to the optimum, which its
figure chose to be stable, as a rule two octaves below the optimum: as rivals stand that learning rate itself, and one
fixed learning rate.

Upper row: optimum against each reading; the line is the rule, the band its 80 % interval. Lower left: errors of figures
left out, at 10 % of the steps. Lower middle: root mean square errors of figures left out, of each reading and of the
rivals. Lower right: the shift of the optimum over sizes against the shift of the reading, one dot per sweep.

Rule of the verdict, for the reading at 10 % of the steps, the earliest that every optimizer has: "holds" if at least
80 % of the optima of figures left out lie within an octave of the prediction, by an interval of 95 % in which each
figure counts as one trial; "fails" if surely fewer do; else "inconclusive".

Cost: twenty seconds. Expected: for SGD within a factor of 2 to 4; for Adam, whose metric settles while it trains, no
better than one fixed learning rate. Found: so; of networks and losses that no other figure has, SGD is 1 to 2 octaves
off, and with Adam the batch size moves optimum and reading apart.

After it is made with other figures, `python experiments/trust_region.py` writes the rules that the package bundles.

    make figure-trust-region
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import sharplab as sl
from sharplab.analysis.readings import READINGS, readings
from sharplab.analysis.trust_region import (
    FIXED,
    LEVEL,
    SOURCES,
    WITHIN,
    Share,
    all_rules,
    fit_rules,
    left_out,
    share_interval,
    share_over_figures,
)
from sharplab.core.evidence import measured
from sharplab.core.files import write_whole
from sharplab.core.statistics import slope_per_doubling
from sharplab.gallery.finding import Finding, Verdict, plain
from sharplab.gallery.keeping import KEPT, TABLES, from_kept
from sharplab.plotting import NAMES, house_style
from sharplab.records import SETTINGS
from sharplab.studies.suggest_lr.rate_rules import BUNDLED

CLAIM = (
    "The optimal learning rate is the one whose stability threshold the sharpness at a tenth of training is, times a "
    "constant of the optimizer."
)
NAME = "trust-region"
FIGURES = Path(__file__).parents[1] / "figures"
JUDGED, HELD = "early", 0.8
MOST = 64  # figures, of which `figures_wanted` thinks
# Curvatures that have a threshold; the first is what the rule is of.
QUANTITIES = ("sharpness", "batch_sharpness", "directional_sharpness", "critical_sharpness")
PRESETS: Mapping[str, int | None] = {"smoke": 4, "quick": None, "full": None, "paper": None}  # how many figures
LABELS: Mapping[str, str] = {
    "init": "at the start",
    "early": "at 10 % of the steps",
    "late": "over the second half",
    "recorded_rate": "rate recorded at",
    "fixed": "a fixed rate",
}
COLOURS: Mapping[str, str] = {
    "sgd": "#2166ac",
    "momentum": "#67a9cf",
    "nesterov": "#01665e",
    "adam": "#b2182b",
    "adamw": "#ef8a62",
    "lion": "#e08214",
    "muon": "#5aae61",
}
OTHER = "0.5"
SHOWN = (  # columns of the table, a part of it for each optimizer
    *("part", "figure", "parameterization", "width", "depth", "batch_size", "seeds"),
    *("optimum", "optimum_low", "optimum_high", "recorded_rate", *READINGS, "error"),
)
MARKERS: Mapping[str, str] = {"mup": "o", "ntk": "s", "standard": "^", "mean_field": "D"}


def find(preset: str, store: Path) -> Finding:
    """Read the runs that are kept with the other figures, draw this one, and judge the claim."""
    table = measured("cases", lambda: gather(FIGURES, PRESETS[preset]))
    cases = distinct(table)
    errors = {source: left_out(cases, source) for source in SOURCES}
    share = right(errors[JUDGED])
    shown = errors[JUDGED].rename(columns={"optimizer": "part"})[list(SHOWN)]
    return Finding(draw(cases, errors), shown, CLAIM, judge(share), numbers(table, cases, errors))


def gather(folder: Path, most: int | None = None) -> pd.DataFrame:
    """The readings of every quantity from the runs kept with the figures of a folder, of `most` figures at most.

    A figure without a sweep that has them is one row, of its name alone; it does not count to `most`.
    """
    parts: list[pd.DataFrame] = []
    found = 0
    for name in sorted(path.parent.name for path in (folder / KEPT).glob("*/store.json") if path.parent.name != NAME):
        if found == most:
            break
        with from_kept(folder, name) as store:
            records = sl.load(store)
        known = records.curves is not None and "train_loss" in records.runs
        tables = [readings(records, quantity=one).assign(quantity=one) for one in QUANTITIES if known]
        tables = [one for one in tables if not one.empty] or [pd.DataFrame({"quantity": [None]})]
        found += "optimum" in tables[0]
        parts += [one.assign(figure=name) for one in tables]
    if not found:
        raise ValueError(f"{folder / KEPT} has no sweep with a recorded sharpness: make figures first.")
    return pd.concat(parts, ignore_index=True)


def distinct(table: pd.DataFrame, quantity: str = QUANTITIES[0]) -> pd.DataFrame:
    """The cases of one quantity that have an optimum and a reading, each setting once: where it has the most seeds."""
    cases = table[table["quantity"].eq(quantity) & table["optimum"].notna() & table["recorded_rate"].notna()]
    settings = [name for name in (*SETTINGS, "parameterization", "optimizer") if name in cases]
    first = cases.sort_values(["seeds", "figure"], ascending=[False, True], kind="stable")
    return first.drop_duplicates(settings).sort_index()


def right(errors: pd.DataFrame) -> Share:
    """The share of the optima of figures left out that lie within an octave of their prediction."""
    return share_over_figures((errors["error"].abs() <= WITHIN).where(errors["error"].notna()), errors["figure"])


def judge(share: Share) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    low, high = share.interval
    return "holds" if low >= HELD else "fails" if high < HELD else "inconclusive"


def figures_wanted(share: Share) -> int | None:
    """The number of figures that would decide, were the share as found; None where no number up to `MOST` would."""
    if not share.figures:
        return None
    sizes = range(share.figures, MOST + 1)
    shares = (replace(share, figures=n, interval=share_interval(share.value, n)) for n in sizes)
    return next((one.figures for one in shares if judge(one) != "inconclusive"), None)


def shifts(cases: pd.DataFrame) -> pd.DataFrame:
    """The octaves per doubling of size by which optimum and reading move in each sweep of three sizes or more."""
    rows = []
    for (figure, _), sweep in cases.dropna(subset=[JUDGED]).groupby(["figure", "sweep"]):
        if len(sweep) > 2:
            sizes = sweep[sweep["over"].iloc[0]].to_numpy(float)
            moved = {name: slope_per_doubling(sizes, sweep[name]) for name in ("optimum", JUDGED)}
            rows.append({"figure": figure, **sweep.iloc[0][["optimizer", "parameterization"]].to_dict(), **moved})
    return pd.DataFrame(rows, columns=["figure", "optimizer", "parameterization", "optimum", JUDGED])


def numbers(table: pd.DataFrame, cases: pd.DataFrame, errors: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The numbers of the JSON file."""
    names = sorted(table.loc[table["quantity"].notna(), "figure"].unique())
    judged = errors[JUDGED].dropna(subset=["error"])
    by_network = left_out(cases.assign(figure=cases["model"]), JUDGED)
    by_both = cases.assign(optimizer=cases["optimizer"] + ", " + cases["parameterization"])
    first = table[table["quantity"].eq(QUANTITIES[0])]
    have_optimum, have_reading = first["optimum"].notna(), first["recorded_rate"].notna()
    return {
        "judged_reading": LABELS[JUDGED],
        "right_in_figures_left_out": _share(right(errors[JUDGED])),
        "figures_that_would_decide": figures_wanted(right(errors[JUDGED])),
        "right_in_figures_left_out_by_optimizer": {
            name: _share(right(part)) for name, part in errors[JUDGED].groupby("optimizer")
        },
        "right_in_networks_left_out": _share(right(by_network)),
        "rules": {
            source: {name: vars(rule) | {"half_width": rule.half_width()} for name, rule in rules.items()}
            for source, rules in all_rules(cases).items()
        },
        "rules_by_parameterization_too": {
            source: {name: vars(rule) for name, rule in fit_rules(by_both, source).items()}
            for source in (JUDGED, FIXED)
        },
        "level_of_intervals": LEVEL,
        "covered_in_figures_left_out": {
            source: _share(share_over_figures(part["covered"], part["figure"])) for source, part in errors.items()
        },
        "shift_of_optimum_per_doubling": {
            name: {
                "sweeps": len(part),
                "root_mean_square": _rms(part["optimum"]),
                "root_mean_square_less_shift_of_reading": _rms(part["optimum"] - part[JUDGED]),
            }
            for name, part in shifts(cases).groupby("optimizer")
        },
        "errors_by_figure": {
            f"{figure}, {name}": {"cases": len(part), "mean": part["error"].mean(), "right": right(part).value}
            for (figure, name), part in judged.groupby(["figure", "optimizer"])
        },
        "figures": names,
        "figures_without_a_sweep_that_has_them": sorted(set(table["figure"]) - set(names)),
        "cases": {
            "used": len(cases),
            "without_an_optimum": int((~have_optimum).sum()),
            "without_a_reading": int((have_optimum & ~have_reading).sum()),
            "repeated_in_another_figure": int((have_optimum & have_reading).sum()) - len(cases),
        },
        "cases_by_quantity": {quantity: len(distinct(table, quantity)) for quantity in QUANTITIES},
    }


def _share(share: Share) -> dict[str, Any]:
    return {"share": share.value, "interval": share.interval, "figures": share.figures}


def _rms(values: pd.Series) -> float:
    return float(np.sqrt((values**2).mean()))


def draw(cases: pd.DataFrame, errors: Mapping[str, pd.DataFrame]) -> Figure:
    """The figure: optima against readings above; errors of figures left out, and shifts over sizes, below."""
    with house_style():
        figure, axes = plt.subplots(2, 3, figsize=(11, 7.4))
        for ax, reading in zip(axes[0], READINGS, strict=True):
            _draw_reading(ax, cases, reading)
        axes[0, 0].set_ylabel("log₂ optimal learning rate")
        _draw_errors(axes[1, 0], errors[JUDGED])
        _draw_sources(axes[1, 1], cases)
        _draw_shifts(axes[1, 2], shifts(cases))
        handles = [
            Line2D([], [], color=COLOURS.get(name, OTHER), linewidth=3, label=name)
            for name in sorted(set(cases["optimizer"]))
        ]
        handles += [
            Line2D([], [], color="0.3", marker=marker, linestyle="none", markersize=5, label=NAMES[name])
            for name, marker in MARKERS.items()
            if name in set(cases["parameterization"])
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        plt.close(figure)
    return figure


def _dots(ax: Axes, table: pd.DataFrame, x: pd.Series, y: pd.Series) -> None:
    """A dot per row of the table: its optimizer's colour, its parameterization's marker."""
    for (optimizer, name), rows in table.groupby(["optimizer", "parameterization"]).groups.items():
        style = {"color": COLOURS.get(optimizer, OTHER), "marker": MARKERS.get(name, "x"), "linestyle": "none"}
        ax.plot(x[rows], y[rows], markersize=4, alpha=0.6, markeredgewidth=0, **style)


def _draw_reading(ax: Axes, cases: pd.DataFrame, reading: str) -> None:
    known = cases.dropna(subset=[reading])
    x, y = (np.log2(known[name].astype(float)) for name in (reading, "optimum"))
    _dots(ax, known, x, y)
    for name, rule in fit_rules(known, reading).items():
        own, half, colour = x[known["optimizer"] == name], rule.half_width(), COLOURS.get(name, OTHER)
        ends = np.array([own.min() - 0.5, own.max() + 0.5])
        line = ends + rule.offset
        ax.plot(ends, line, color=colour, linewidth=1.2, label=f"{name}: {rule.offset:+.1f} ± {half:.1f} octaves")
        ax.fill_between(ends, line - half, line + half, color=colour, alpha=0.12, linewidth=0)
    ax.set_title(f"reading {LABELS[reading]}")
    ax.set_xlabel("log₂ reading (rate whose threshold λ is)")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", title="optimum over reading")


def _draw_errors(ax: Axes, errors: pd.DataFrame) -> None:
    known = errors.dropna(subset=["error"])
    places = {place: i for i, place in enumerate(sorted(set(zip(known["optimizer"], known["figure"], strict=True))))}
    x = pd.Series(
        [places[place] for place in zip(known["optimizer"], known["figure"], strict=True)], known.index, float
    )
    x += np.linspace(-0.25, 0.25, 7)[np.arange(len(x)) % 7]  # so that dots do not hide each other
    ax.axhspan(-WITHIN, WITHIN, color="0.92", zorder=0)
    ax.axhline(0, color="0.4", linewidth=0.8)
    _dots(ax, known, x, known["error"])
    ax.set_xticks(list(places.values()), [figure for _, figure in places], rotation=60, ha="right")
    share = right(errors)
    low, high = share.interval
    ax.set_title(
        f"figures left out, {LABELS[JUDGED]}: {share.value:.0%} [{low:.0%}, {high:.0%}]\nwithin an octave (shaded)"
    )
    ax.set_ylabel("log₂ of optimum over its prediction")


def _draw_sources(ax: Axes, cases: pd.DataFrame) -> None:
    rules = all_rules(cases)
    names = sorted({name for of_source in rules.values() for name in of_source})
    width = 0.8 / max(len(names), 1)
    for place, source in enumerate(SOURCES):
        for name, rule in rules[source].items():
            beside = place + (names.index(name) - (len(names) - 1) / 2) * width
            ax.bar(beside, rule.error, width, color=COLOURS.get(name, OTHER))
    ax.set_xticks(range(len(SOURCES)), [LABELS[source] for source in SOURCES], rotation=30, ha="right")
    ax.set_title("error of figures left out\nby what predicts, root mean square")
    ax.set_ylabel("octaves")


def _draw_shifts(ax: Axes, moved: pd.DataFrame) -> None:
    _dots(ax, moved, moved[JUDGED], moved["optimum"])
    both = moved[["optimum", JUDGED]].to_numpy(float)
    ends = [both.min(initial=0) - 0.1, both.max(initial=0) + 0.1]
    ax.plot(ends, ends, color="0.4", linewidth=0.8, linestyle="--")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_title("shift over sizes, one dot per sweep\n(dashed: both move alike)")
    ax.set_xlabel("octaves of the reading per doubling")
    ax.set_ylabel("octaves of the optimum per doubling")


def bundle(folder: Path = FIGURES) -> bytes:
    """The rules of the kept figure, as the file that `sharplab suggest-lr --from-sharpness` takes them from."""
    rules = all_rules(distinct(pd.read_parquet(folder / KEPT / NAME / TABLES / "cases.parquet")))
    stated = {source: {name: vars(rule) for name, rule in of_source.items()} for source, of_source in rules.items()}
    return (json.dumps(plain(stated), indent=1) + "\n").encode()


if __name__ == "__main__":
    write_whole(BUNDLED, bundle())
