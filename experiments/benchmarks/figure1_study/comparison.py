"""Times, and how far apart the contestants' curves are beside what rounding and power iteration explain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from harness import spread
from report import judged

from figure1_study.study import Network, Study

TARGET = 10.0  # times the plain port
START = 1e-5  # by which losses at step 0 may differ, relative: there the runs are the same but for rounding
SMALL = 1e-3  # relative: curves so near are on top of each other whatever rounding does
ROUNDINGS = 10.0  # as far as rounding alone takes a trajectory, two that differ by rounding may be apart


def compare(study: Study, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison of all answers: lists of `plain`, `here` and `processes`, and `converged` and `rounding`."""
    networks = {network.label: _compared(network, study, answers) for network in study.networks}
    return {
        "times": times(answers),
        "largest": _largest(networks),
        "on_top": all(row["loss_on_top"] and row["sharpness_on_top"] for row in networks.values()),
        "same_best_rates": all(row["best_rate"]["plain"] == row["best_rate"]["here"] for row in networks.values()),
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
    agreement = {"curves on top of each other": "on_top", "same best learning rates": "same_best_rates"}
    return speeds | {name: judged(True, comparison[key]) for name, key in agreement.items()}


def require_same_start(study: Study, answers: Mapping[str, Any]) -> None:
    """ValueError unless all begin with the same losses: a comparison of speed is worth nothing if the runs differ."""
    for network in study.networks:
        plain, lab = (answers[name][0]["trajectories"][network.label]["loss"][0] for name in ("plain", "here"))
        if not abs(lab / plain - 1) <= START:
            raise ValueError(f"the lab and the plain port begin {network.label} with losses {lab} and {plain}.")


def _compared(network: Network, study: Study, answers: Mapping[str, Any]) -> dict[str, Any]:
    plain, lab = (_arrays(answers[name][0]["trajectories"][network.label]) for name in ("plain", "here"))
    exact, moved = (_arrays(answers[name][network.label]) for name in ("converged", "rounding"))
    loss = np.abs(lab["loss"] / plain["loss"] - 1)
    loss_rounding = _so_far(moved["loss"] / lab["loss"] - 1)
    sharpness = np.abs(lab["sharpness"] - plain["sharpness"]) / exact["values"]
    sharpness_rounding = _so_far((moved["sharpness"] - lab["sharpness"]) / exact["values"])
    power_error = np.abs(plain["sharpness"] / exact["values"] - 1)
    stated = lab["stated_error"] / exact["values"]
    bound = power_error + stated + np.maximum(SMALL, ROUNDINGS * sharpness_rounding)
    trajectory = {
        "loss_difference": loss,
        "loss_rounding": loss_rounding,
        "sharpness_difference": sharpness,
        "sharpness_rounding": sharpness_rounding,
        "sharpness_bound": bound,
        "power_error": power_error,
        "tracked_error": np.abs(exact["tracked"] / exact["values"] - 1),
        "tracked_stated_error": exact["stated_error"] / exact["values"],
        "converged_error": exact["errors"] / exact["values"],
    }
    finals = {name: np.array(answers[name][0]["finals"][network.label], float) for name in ("plain", "here")}
    sound = np.isfinite(finals["plain"]) & np.isfinite(finals["here"])
    rates = study.rates_of(network)
    return {name: values.tolist() for name, values in trajectory.items()} | {
        "loss_on_top": bool((loss <= np.maximum(SMALL, ROUNDINGS * loss_rounding)).all()),
        "sharpness_on_top": bool((sharpness <= bound).all()),
        "negative_end_larger": int((-exact["lowest"] > exact["values"]).sum()),
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


def _arrays(trajectory: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    return {name: np.array(values, float) for name, values in trajectory.items()}


def _so_far(difference: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(np.abs(difference))


def _largest(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    names = ("loss_difference", "sharpness_difference", "power_error", "tracked_error", "tracked_stated_error")
    rows = networks.values()
    found = {name: max(max(row[name]) for row in rows) for name in names}
    early = {f"first_{name}": max(row[name][0] for row in rows) for name in names[:2]}
    medians = {f"median_{name}": float(np.median([row[name] for row in rows])) for name in names[2:4]}
    final = max(x for row in rows for x in row["final_difference"] if x is not None)
    return found | early | medians | {"final_difference": final}
