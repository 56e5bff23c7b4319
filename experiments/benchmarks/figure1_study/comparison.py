"""Times, and how far apart the contestants' curves are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from harness import spread
from report import judged

from figure1_study.study import Network, Study

TARGET = 10.0  # times the plain port
START = 1e-5  # by which losses at step 0 may differ, relative: there the runs are the same but for rounding


def compare(study: Study, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison of all answers: lists of `plain`, `here` and `processes`."""
    networks = {network.label: _compared(network, study, answers) for network in study.networks}
    return {
        "times": times(answers),
        "largest": _largest(networks),
        # Those of the lab differ by rounding alone, which moves the ends of runs near the cliff.
        "same_best_rates": all(
            row["best_rate"]["plain"] in (row["best_rate"]["here"], row["best_rate"]["processes"])
            for row in networks.values()
        ),
        "networks": networks,
    }


def times(answers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Seconds of each contestant, and of the lab how many times as fast it is as the plain port."""
    plain = float(np.median([answer["seconds"] for answer in answers["plain"]]))
    found = {}
    for name in ("plain", "here", "processes"):
        seconds = np.array([answer["seconds"] for answer in answers[name]])
        found[name] = {"seconds": spread(seconds), "times_as_fast": spread(plain / seconds)}
        if "compile_seconds" in answers[name][0]:
            found[name]["compile_seconds"] = spread([sum(a["compile_seconds"].values()) for a in answers[name]])
    return found


def targets(study: Study, comparison: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The targets and whether they were met; speed is judged where the study is the paper's."""
    speeds = {
        f"times the plain port, {name}": judged(TARGET, comparison["times"][name]["times_as_fast"]["median"])
        for name in (("here", "processes") if study == Study() else ())
    }
    return speeds | {"same best learning rates": judged(True, comparison["same_best_rates"])}


def require_same_start(study: Study, answers: Mapping[str, Any]) -> None:
    """ValueError unless all begin with the same losses: a comparison of speed is worth nothing if the runs differ."""
    for network in study.networks:
        plain, lab = (answers[name][0]["trajectories"][network.label]["loss"][0] for name in ("plain", "here"))
        if not abs(lab / plain - 1) <= START:
            raise ValueError(f"the lab and the plain port begin {network.label} with losses {lab} and {plain}.")


def _compared(network: Network, study: Study, answers: Mapping[str, Any]) -> dict[str, Any]:
    plain, lab = (answers[name][0]["trajectories"][network.label] for name in ("plain", "here"))
    apart = {name: np.abs(np.array(lab[name]) / np.array(plain[name]) - 1) for name in ("loss", "sharpness")}
    finals = {name: np.array(answers[name][0]["finals"][network.label], float) for name in answers}
    sound = np.isfinite(finals["plain"]) & np.isfinite(finals["here"])
    rates = study.rates_of(network)
    return {f"{name}_difference": values.tolist() for name, values in apart.items()} | {
        "final_difference": [
            abs(found / wanted - 1) if both else None
            for found, wanted, both in zip(finals["here"], finals["plain"], sound.tolist(), strict=True)
        ],
        "best_rate": {name: rates[int(np.nanargmin(losses))] for name, losses in finals.items()},
        "diverged_rates": {
            name: [rate for rate, loss in zip(rates, losses, strict=True) if not np.isfinite(loss)]
            for name, losses in finals.items()
        },
    }


def _largest(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    names, rows = ("loss_difference", "sharpness_difference"), networks.values()
    found = {name: max(max(row[name]) for row in rows) for name in names}
    early = {f"first_{name}": max(row[name][0] for row in rows) for name in names}
    final = max(x for row in rows for x in row["final_difference"] if x is not None)
    return found | early | {"final_difference": final}
