"""Do the lab's own statistics keep what they promise? Sweeps whose truth is known, judged by `sharplab.transfer`.

Paper: none's claim but this lab's own, on which its verdicts on others' stand.

No training: losses are drawn from formulas (`sharplab.analysis.simulation`) with a known optimum at each of 2 to 4
widths, known noise of seeds, of their optima and of single losses, a cliff of divergence and a grid of learning rates
that is refined as the lab's plan refines it. And seeds are drawn anew (`sharplab.analysis.resampling`) from a real
sweep, figure1_seeds.csv: the ConvNet of the figure `transfer` at widths 8 to 64, twelve seeds, late train loss. There
losses near the cliff are heavy-tailed as no formula is, and what all seeds say is the truth.

Above: in how many of these sweeps the 95 % intervals of optimum, edge of stability, shift, regret and its
fraction of the benefit of tuning cover the truth, for each kind of sweep, at 3 and at 5 seeds per width; bars are 95 %
intervals (Clopper and Pearson) of the share. Below: how often the verdict is "transfers", "shifts" or "inconclusive",
against the true shift; then with one width's optimum, any of the four, an octave off; last in sweeps drawn from the
real one under muP, its learning rates moved to each true shift. Dashed: the tolerance.

Rule of the verdict: a coverage is short if it is below 90 %; a verdict errs if it is "shifts" at a true shift within
the tolerance or "transfers" at one outside (at the tolerance, either). "holds" if each coverage is at least 90 %, and
each rate of error at most 5 %, with a one-sided confidence of 95 % (all at once, so that none needs correction);
"fails" if some coverage is below 90 % or some rate above 5 %, with a one-sided confidence of 95 % after Bonferroni's
correction for their number; else "inconclusive".

Cost: two minutes on two cores. Expected: coverages of 93 to 100 %; errors of at most 3 %. Found at full, with 1,000
sweeps of each kind: 95.5 % or more; errors of at most 1.8 %.

    make figure-calibration
"""

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import beta, binomtest

from sharplab.analysis.resampling import ResampledSweep
from sharplab.analysis.simulation import KINDS, SimulatedSweep, Sweep, calibrate
from sharplab.core.evidence import measured
from sharplab.gallery.finding import Finding, Verdict
from sharplab.plotting import house_style

CLAIM = (
    "The lab's 95 % intervals cover the truth in at least 90 % of sweeps, simulated and drawn from real seeds, "
    "and its verdicts on transfer err in at most 5 %."
)
COVERAGE, ERRORS, CONFIDENCE = 0.90, 0.05, 0.95
TOLERANCE = 0.25  # octaves per doubling, as `sharplab.transfer` has it
DRAWS: Mapping[str, int] = {"smoke": 6, "quick": 400, "full": 1000, "paper": 4000}
SEEDS = (3, 5)
TABLE, METRIC = Path(__file__).with_name("figure1_seeds.csv"), "late_train_loss"
REAL: Mapping[str, str] = {"mup": "muP", "ntk": "NTK"}
SHIFTS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
QUANTITIES: Mapping[str, tuple[str, str, str]] = {  # name: what it is called, colour, marker
    "optimum": ("optimum", "#0072B2", "o"),
    "edge": ("edge of stability", "#999999", "s"),
    "shift": ("shift", "#D55E00", "D"),
    "regret": ("regret", "#009E73", "^"),
    "regret_fraction": ("regret / benefit of tuning", "#CC79A7", "v"),
}
VERDICTS: Mapping[str, tuple[str, str]] = {
    "transfers": ("#0072B2", "o"),
    "shifts": ("#D55E00", "s"),
    "inconclusive": ("#999999", "^"),
}


def find(preset: str, store: Path) -> Finding:
    """Simulate sweeps, count coverage and verdicts, draw the figure, and judge the claim; nothing is trained."""
    draws = DRAWS[preset]
    rates = measured("rates", lambda: pd.concat([coverages(draws), verdict_rates(draws)], ignore_index=True))
    verdict = judge(rates)
    return Finding(draw(rates), rates, CLAIM, verdict, numbers(rates))


def coverages(draws: int) -> pd.DataFrame:
    """The number of draws that each interval covered, a row per kind of sweep, seeds and quantity."""
    settings = {(kind, seeds): sweep.with_seeds(seeds) for kind, sweep in KINDS.items() for seeds in SEEDS}
    settings |= {(f"drawn from a real one, {REAL[name]}", n): drawn(name, n) for name in REAL for n in SEEDS}
    rows = []
    for (kind, seeds), found in zip(settings, simulate(list(settings.values()), draws), strict=True):
        row = {"part": "coverage", "kind": kind, "seeds": seeds, "draws": draws}
        rows += [row | {"of": name, "hits": int(found[name].sum())} for name in QUANTITIES if name in found]
    return pd.DataFrame(rows)


def drawn(name: str, seeds: int, shift: float | None = None) -> ResampledSweep:
    """Sweeps drawn from the real one of a parameterization."""
    table = pd.read_csv(TABLE)
    return ResampledSweep(table[table["parameterization"] == name], METRIC, seeds, shift)


def verdict_rates(draws: int) -> pd.DataFrame:
    """The number of times that each verdict was given, a row per panel, true shift and verdict."""
    settings: dict[tuple[str, int, float], Sweep] = {
        (kind, seeds, shift): replace(SimulatedSweep(optimum_sd=0.1), shift=shift, outlier=off).with_seeds(seeds)
        for kind, seeds, off in (("none off", 3, 0.0), ("none off", 5, 0.0), ("one off", 5, 1.0))
        for shift in SHIFTS
    }
    settings |= {("real", 5, shift): drawn("mup", 5, shift) for shift in SHIFTS}
    rows = []
    for (kind, seeds, shift), found in zip(settings, simulate(list(settings.values()), draws), strict=True):
        row = {"part": "verdict", "kind": kind, "seeds": seeds, "shift": shift, "draws": draws}
        rows += [row | {"of": name, "hits": int((found["verdict"] == name).sum())} for name in VERDICTS]
    return pd.DataFrame(rows)


def simulate(sweeps: Sequence[Sweep], draws: int) -> list[pd.DataFrame]:
    """The draws of each sweep by `calibrate`, on all cores."""
    metrics = [METRIC if isinstance(sweep, ResampledSweep) else "eval_loss" for sweep in sweeps]
    # Forking is unsound once JAX has started its threads.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(calibrate, sweeps, [draws] * len(sweeps), range(len(sweeps)), metrics))


def errs(rates: pd.DataFrame) -> pd.Series:
    """The mask of rows that count erroneous verdicts."""
    shifts, transfers = (rates["of"] == verdict for verdict in ("shifts", "transfers"))
    distance = rates["shift"].abs()
    return (rates["part"] == "verdict") & (shifts & (distance <= TOLERANCE) | transfers & (distance >= TOLERANCE))


def judge(rates: pd.DataFrame) -> Verdict:
    """The verdict on the claim, by the rule in the docstring of this module."""
    covered, erred = rates[rates["part"] == "coverage"], rates[errs(rates)]
    corrected = 1 - (1 - CONFIDENCE) / (len(covered) + len(erred))
    if (upper(covered, corrected) < COVERAGE).any() or (lower(erred, corrected) > ERRORS).any():
        return "fails"
    sound = (lower(covered, CONFIDENCE) >= COVERAGE).all() and (upper(erred, CONFIDENCE) <= ERRORS).all()
    return "holds" if sound else "inconclusive"


def lower(rates: pd.DataFrame, confidence: float) -> np.ndarray:
    """The one-sided lower bound of each share of hits (Clopper and Pearson)."""
    hits, draws = rates["hits"].to_numpy(), rates["draws"].to_numpy()
    return np.nan_to_num(beta.ppf(1 - confidence, hits, draws - hits + 1), nan=0.0)


def upper(rates: pd.DataFrame, confidence: float) -> np.ndarray:
    """The one-sided upper bound of each share of hits (Clopper and Pearson)."""
    hits, draws = rates["hits"].to_numpy(), rates["draws"].to_numpy()
    return np.nan_to_num(beta.ppf(confidence, hits + 1, draws - hits), nan=1.0)


def numbers(rates: pd.DataFrame) -> dict:
    """The numbers of the JSON file: the lowest coverage of each quantity, the highest rate of each error."""
    share = rates.assign(share=rates["hits"] / rates["draws"])
    covered, erred = share[share["part"] == "coverage"], share[errs(share)]
    lowest = covered.loc[covered.groupby("of", sort=False)["share"].idxmin()]
    highest = erred.loc[erred.groupby("of", sort=False)["share"].idxmax()]
    return {
        "draws": int(rates["draws"].iloc[0]),
        "lowest_coverage": {row.of: _stated(row) for row in lowest.itertuples()},
        "highest_rate_of_error": {row.of: _stated(row) for row in highest.itertuples()},
        "transfers_at_no_shift": {
            f"{row.kind}, {row.seeds} seeds": row.share
            for row in share[(share["of"] == "transfers") & (share["shift"] == 0)].itertuples()
        },
    }


def _stated(row: Any) -> dict:
    interval = binomtest(row.hits, row.draws).proportion_ci()
    return {"share": row.share, "interval": (interval.low, interval.high), "kind": row.kind, "seeds": row.seeds}


def draw(rates: pd.DataFrame) -> Figure:
    """The figure: coverage above, verdicts below."""
    share = rates.assign(share=rates["hits"] / rates["draws"])
    wrong = errs(rates)
    with house_style():
        figure, axes = plt.subplot_mosaic("AAAABBBB;CCDDEEFF", figsize=(11.5, 8.8), height_ratios=[1.45, 1])
        for key, seeds in zip("AB", SEEDS, strict=True):
            covered = share[(share["part"] == "coverage") & (share["seeds"] == seeds)]
            draw_coverage(axes[key], covered)
            lowest = 100 * covered["share"].min()
            axes[key].set_title(f"{seeds} seeds per width: 95 % intervals cover in {lowest:.1f} % or more")
        left = min(axes[key].get_xlim()[0] for key in "AB")
        for key in "AB":
            axes[key].set_xlim(left, 1.005)
        axes["B"].set_yticklabels([])
        marks = axes["A"].get_legend_handles_labels()
        figure.legend(*marks, loc="outside upper center", ncols=len(QUANTITIES))
        panels = (
            ("C", 3, "none off", "per width"),
            ("D", 5, "none off", "per width"),
            ("E", 5, "one off", "and one optimum off"),
            ("F", 5, "real", "drawn from a real one"),
        )
        for key, seeds, kind, which in panels:
            chosen = (share["part"] == "verdict") & (share["seeds"] == seeds) & (share["kind"] == kind)
            draw_verdicts(axes[key], share[chosen])
            highest = 100 * share.loc[chosen & wrong, "share"].max()
            axes[key].set_title(f"{seeds} seeds {which}:\nverdicts err in {highest:.1f} % or less")
        axes["C"].set_ylabel("share of sweeps")
        axes["C"].legend(loc="center right")
        plt.close(figure)
    return figure


def draw_coverage(ax: Axes, rates: pd.DataFrame) -> None:
    """Draw coverages, a row per kind of sweep, a marker per quantity."""
    kinds = list(rates["kind"].unique())
    for i, (name, (label, colour, marker)) in enumerate(QUANTITIES.items()):
        table = rates[rates["of"] == name].set_index("kind").reindex(kinds)
        share, low, high = table["share"].to_numpy(), lower(table, 0.975), upper(table, 0.975)
        style = {"color": colour, "marker": marker, "markersize": 4, "linestyle": "", "elinewidth": 1}
        at = np.arange(len(kinds)) + 0.14 * (i - 2)
        ax.errorbar(share, at, xerr=(share - low, high - share), label=label, **style)
    ax.axvline(0.95, color="0.25", linestyle=":", linewidth=1)
    ax.axvline(COVERAGE, color="0.25", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.set_xlabel("share of sweeps whose interval covers the truth")


def draw_verdicts(ax: Axes, rates: pd.DataFrame) -> None:
    """Draw the frequency of each verdict against the true shift."""
    for name, (colour, marker) in VERDICTS.items():
        table = rates[rates["of"] == name]
        low, high = lower(table, 0.975), upper(table, 0.975)
        ax.plot(table["shift"], table["share"], color=colour, marker=marker, markersize=4, label=name)
        ax.fill_between(table["shift"], low, high, color=colour, alpha=0.2, linewidth=0)
    ax.axvline(TOLERANCE, color="0.25", linestyle="--", linewidth=1)
    ax.axhline(ERRORS, color="0.25", linestyle=":", linewidth=1)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("true shift (octaves per doubling)")
