"""The benchmark's parts, each of which asks workers, and what they come to."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from spectra.contest import Terms
from spectra.problems import find
from spectra.report import AIM_TOLERANCE, contest_rows, oracle_median

TOP = 10
LENIENCE = 3  # how many times as long as sharplab's longest solve a peer's may take
MODULES: Mapping[str, str] = MappingProxyType(
    {
        "sharplab": "sharplab",
        "matfree": "matfree",
        "scipy": "scipy",
        "curvlinops": "curvlinops",
        "pyhessian": "pyhessian",
        "eigenthings lanczos": "hessian_eigenthings",
        "eigenthings power": "hessian_eigenthings",
    }
)


@dataclass(frozen=True)
class Preset:
    """How much is measured."""

    problems: tuple[str, ...]
    warm_problems: tuple[str, ...]
    ladder: tuple[str, ...]
    peer_ladder: tuple[str, ...]  # sizes that peers are measured at too
    terms: Terms
    counts: tuple[int, ...] = (1, TOP)
    memory_peers: tuple[str, ...] = ("curvlinops", "pyhessian")
    memory_patience: float = 3600.0
    records: int = 21
    most: int = 256  # steps of a plain Lanczos run
    repetitions: int = 7
    random_problems: int = 200


class WorkerFailed(Exception):
    """A measurement ended without an answer."""


def ask(job: str, *, double: bool = False, **settings: Any) -> Any:
    """The answer of `spectra.worker` in a process of its own."""
    here = str(Path(__file__).parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "JAX_ENABLE_X64": str(int(double))}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "spectra.worker", json.dumps({"job": job} | settings), str(answer)]
        process = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"ended with status {process.returncode}"]
            raise WorkerFailed(lines[-1])
        return json.loads(answer.read_text())


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What `path` holds, or what `make` makes, which it then holds."""
    if not path.exists():
        path.write_text(json.dumps(make(), indent=1))
    return json.loads(path.read_text())


def contestants() -> dict[str, bool]:
    """Whether each is installed."""
    return {name: find_spec(module) is not None for name, module in MODULES.items()}


def contest(preset: Preset, names: tuple[str, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """Every contestant on every problem."""
    return {name: _contest(preset, name, say) for name in names}


def _contest(preset: Preset, name: str, say: Callable[[str], None]) -> dict[str, Any]:
    say(f"{name}: weights, truth, oracle")
    made = ask("make", problem=name)
    path = Path(made["path"])
    truth = kept(path.with_suffix(".truth.json"), lambda: ask("truth", double=True, problem=name, count=TOP))
    settings = {
        "counts": preset.counts,
        "tolerances": preset.terms.tolerances,
        "starts": preset.terms.starts,
        "most": preset.most,
    }
    mark = "-".join(f"{tol:g}" for tol in preset.terms.tolerances) + f"-{preset.terms.starts}"
    oracle = kept(
        path.with_suffix(f".oracle-{mark}.json"), lambda: ask("oracle", problem=name, truth=truth["LA"], **settings)
    )
    found: dict[str, Any] = {}
    for peer, installed in contestants().items():
        limit = solve_limit(preset.terms, found.get("sharplab", {}))
        if not installed:
            found[peer] = {"failed": "not installed"}
            continue
        say(f"{name}: {peer}")
        asked = {"counts": preset.counts, "terms": asdict(preset.terms)}
        try:
            found[peer] = ask("contest", contestant=peer, **made, truth=truth, **asked, seconds=limit)
        except WorkerFailed as failure:
            found[peer] = {"failed": str(failure)}
    answer = {"parameters": truth["parameters"], "truth": truth, "oracle": oracle}
    return answer | {"limit_seconds": limit, "contestants": found}


def solve_limit(terms: Terms, ours: Mapping[str, Any]) -> float:
    """Seconds after which a solve is given up: the terms' patience, or thrice the longest of `ours` that came first."""
    longest = max((max(row["seconds"]) for row in ours.get("rows", ()) if row["finished"]), default=0.0)
    return max(terms.patience, LENIENCE * longest)


def costs(preset: Preset, names: tuple[str, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """Products of every problem."""
    found = {}
    for name in names:
        say(f"{name}: costs of products")
        ask("make", problem=name)
        found[name] = ask("costs", problem=name, repetitions=preset.repetitions)
    return found


def memory(preset: Preset, names: tuple[str, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """Peak memory by size, of a gradient, of sharplab's λ₁ and of peers'."""
    peers = [peer for peer in preset.memory_peers if contestants()[peer]]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("gradient", "sharplab", *peers)}
    for name in names:
        say(f"{name}: weights")
        made = ask("make", problem=name)
        for contestant, rows in found.items():
            if contestant in peers and name not in preset.peer_ladder:
                continue
            say(f"{name}: memory of {contestant}")
            try:
                row = ask("memory", contestant=contestant, **made, tol=AIM_TOLERANCE, seconds=preset.memory_patience)
            except WorkerFailed as failure:
                row = {"failed": str(failure)}
            rows.append({"problem": name, "parameters": find(name).parameters} | row)
    return found


def warm(preset: Preset, names: tuple[str, ...], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Along the training of some problems."""
    rows = []
    for name in names:
        say(f"{name}: along its training")
        rows += ask(
            "warm",
            problem=name,
            counts=preset.counts,
            tol=AIM_TOLERANCE,
            records=preset.records,
            starts=3,
            most=preset.most,
        )
    return rows


def calibration(preset: Preset, names: tuple[str, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """On random matrices."""
    say(f"calibration on {preset.random_problems} random matrices")
    return ask("calibration", problems=preset.random_problems)


PARTS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {part.__name__: part for part in (contest, costs, memory, warm, calibration)}
)


def headline(found: Mapping[str, Any]) -> dict[str, Any]:
    """By problem and k, at the tolerance of the aims: products over the oracle's, seconds of the best peer over ours.

    The best peer is the fastest by its own rule whose true error is within the tolerance.
    """
    numbers: dict[str, Any] = {}
    for name, problem in found.items():
        for k in map(int, problem["oracle"]):
            rows = contest_rows(problem, k, AIM_TOLERANCE, "own")
            ours = rows.get("sharplab")
            if ours is None or not ours["finished"]:
                continue
            peers = {
                peer: float(np.median(row["seconds"]))
                for peer, row in rows.items()
                if peer != "sharplab" and row["finished"] and np.median(row["errors"]) <= AIM_TOLERANCE
            }
            best = min(peers, key=peers.__getitem__, default=None)
            numbers[f"{name}, top {k}"] = {
                "products_over_oracle": float(np.median(ours["products"])) / oracle_median(problem, k, AIM_TOLERANCE),
                "best_peer": best,
                "seconds_of_best_peer": peers[best] / float(np.median(ours["seconds"])) if best else None,
            }
    return numbers


def merged(before: Any, found: Any) -> Any:
    """A part's earlier answer, with what was measured again in place of the same problems' rows."""
    if isinstance(found, list):
        again = {row["problem"] for row in found}
        return [row for row in before if row["problem"] not in again] + found
    lists = {key: merged(before[key], rows) for key, rows in found.items() if isinstance(rows, list) and key in before}
    return before | found | lists
