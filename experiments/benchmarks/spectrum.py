"""Speed and accuracy of eigenvalue solvers: `sharplab.eigsh` beside every other library for it.

(contest) The top of the Hessian of networks trained for a few hundred steps, on one batch: time, products and true
relative error (against float64), for true errors of 1e-2, 1e-3 and 1e-5, top-1 and top-10. Each library ends its
solves twice: by its own rule, all else at its defaults, and at the cheapest setting of its budget that an oracle, who
knows the truth, would choose; one that takes more than 30 s (smoke: 5) and more than three times sharplab's longest on
that network is given up ("too long"). "plain Lanczos, cold" is how many products any method that starts at random
needs at least: a run that keeps all its vectors, stopped by the oracle. Every library works in a process of its own,
on the same weights and batch, its loss and gradient checked to 1e-5; peers that are not installed are left out and
named.
(costs) One product in gradients, eight of them sharing a linearisation as in a solve, and as calls of their own;
a gradient and products in units of their arithmetic at the rate of a large matrix product.
(memory) Peak memory and time of λ₁ of an untrained GPT on four sequences, by size, each in a process of its own.
(first) Seconds of the first call in a process, compilation included, on 1,732 parameters: a solve and a tracker's first
record beside ten steps of Lanczos written by hand, each in a process of its own, in turn.
(warm) Products to 1e-3 along a training run, each record starting from the last one's eigenvectors, beside what an
oracle would need from there ("warm oracle": no stopping rule can do with fewer) and from a random start.

Targets at 1e-3: at most 1.3 × the products of plain Lanczos, half the time of the best peer by its own rule whose true
error is within the tolerance; warm at most 0.6 × the cold oracle's products. A Hessian product at most 2.2 gradients,
a Gauss-Newton product on the GPT 1.5; λ₁ of 124 M parameters within 20 GB. A first solve at most 2.5 × the loop by
hand, a first record 3 ×. How often the true error is within
`errors` is counted in tests/spectrum/test_extremal.py; the report keeps an earlier count over five kinds of random
spectra as "calibration".

Trained weights, true eigenvalues and oracles' counts are kept under runs/bench. What --parts and --problems choose
replaces the same in the earlier report, the rest of which stays.
Cost: hours on two idle cores. Leaves figures/bench/spectrum.json and .png.

    make bench-spectrum
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness import Benchmark, JobFailed, Say, in_process, in_turn, main, spread
from spectra.contest import Terms, contest, installed, memory
from spectra.costs import product_costs
from spectra.first_call import FIRST_CALLS, first_call
from spectra.problems import LADDER, PROBLEMS, find, make
from spectra.report import TARGET_TOLERANCE, TARGETS, headline, picture, tables
from spectra.truth import oracle, truth
from spectra.warm import warm

TOP = 10
LENIENCE = 3  # how many times as long as sharplab's longest solve a peer's may take
MEMORY_PEERS = ("curvlinops", "pyhessian")
MEMORY_PATIENCE = 3600.0  # seconds


@dataclass(frozen=True)
class Preset:
    """The networks, sizes and repetitions that are measured."""

    problems: tuple[str, ...]
    warm_problems: tuple[str, ...]
    ladder: tuple[str, ...]
    peer_ladder: tuple[str, ...]  # sizes that peers are measured at too
    terms: Terms
    counts: tuple[int, ...] = (1, TOP)
    records: int = 21
    most: int = 256  # steps of a plain Lanczos run
    repetitions: int = 7

    def only(self, names: tuple[str, ...]) -> "Preset":
        """This preset on some networks alone."""
        networks = ("problems", "warm_problems", "ladder")
        return replace(self, **{each: tuple(n for n in getattr(self, each) if n in names) for each in networks})


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(
        problems=("mlp-17k", "gpt-26k"),
        warm_problems=("mlp-17k",),
        ladder=("ladder-1M",),
        peer_ladder=("ladder-1M",),
        terms=Terms(tolerances=(1e-2, TARGET_TOLERANCE), starts=1, patience=5.0),
        records=4,
        most=64,
        repetitions=2,
    ),
    "full": Preset(
        problems=("mlp-0.1M", "mlp-1M", "mlp-4M", "convnet", "gpt-1M", "gpt-10M"),
        warm_problems=("mlp-0.1M", "convnet", "gpt-1M"),
        ladder=tuple(LADDER),
        peer_ladder=("ladder-1M", "ladder-4M", "ladder-10M", "ladder-38M"),
        terms=Terms(tolerances=(1e-2, TARGET_TOLERANCE, 1e-5), starts=3, patience=30.0),
    ),
}


def _kept(path: Path, make: Callable[[], Any]) -> Any:
    """The content of `path`, made where it is not there."""
    if not path.exists():
        path.write_text(json.dumps(make(), indent=1))
    return json.loads(path.read_text())


def _contest(preset: Preset, say: Say) -> dict[str, Any]:
    return {name: _contest_on(preset, name, say) for name in preset.problems}


def _contest_on(preset: Preset, name: str, say: Say) -> dict[str, Any]:
    """Every contestant on one problem."""
    say(f"{name}: weights, truth, oracle")
    made, terms = in_process(make, problem=name), preset.terms
    path = Path(made["path"])
    exact = _kept(path.with_suffix(".truth.json"), lambda: in_process(truth, double=True, problem=name, count=TOP))
    settings = {"counts": preset.counts, "tolerances": terms.tolerances, "starts": terms.starts, "most": preset.most}
    mark = "-".join(f"{tol:g}" for tol in terms.tolerances) + f"-{terms.starts}"
    needed = _kept(
        path.with_suffix(f".oracle-{mark}.json"),
        lambda: in_process(oracle, problem=name, truth=exact["LA"], **settings),
    )
    found: dict[str, Any] = {}
    for peer, there in installed().items():
        limit = solve_limit(terms, found.get("sharplab", {}))
        if not there:
            found[peer] = {"failed": "not installed"}
            continue
        say(f"{name}: {peer}")
        asked = {"made": made | {"seconds": limit}, "truth": exact, "counts": preset.counts, "terms": terms}
        found[peer] = _or_failed(contest, contestant=peer, **asked)
    answer = {"parameters": exact["parameters"], "truth": exact, "oracle": needed}
    return answer | {"limit_seconds": limit, "contestants": found}


def _or_failed(job: Callable[..., Any], **settings: Any) -> Any:
    try:
        return in_process(job, **settings)
    except JobFailed as failure:
        return {"failed": str(failure)}


def solve_limit(terms: Terms, ours: Mapping[str, Any]) -> float:
    """Seconds after which a solve is given up: the terms' patience, or thrice the longest of `ours` that came first."""
    longest = max((max(row["seconds"]) for row in ours.get("rows", ()) if row["finished"]), default=0.0)
    return max(terms.patience, LENIENCE * longest)


def _costs(preset: Preset, say: Say) -> dict[str, Any]:
    found = {}
    for name in preset.problems:
        say(f"{name}: costs of products")
        in_process(make, problem=name)
        found[name] = in_process(product_costs, problem=name, repetitions=preset.repetitions)
    return found


def _memory(preset: Preset, say: Say) -> dict[str, Any]:
    """Peak memory by size, of a gradient, of sharplab's λ₁ and of peers'."""
    peers = [peer for peer in MEMORY_PEERS if installed()[peer]]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("gradient", "sharplab", *peers)}
    for name in preset.ladder:
        say(f"{name}: weights")
        made = in_process(make, problem=name) | {"seconds": MEMORY_PATIENCE}
        for contestant, rows in found.items():
            if contestant in peers and name not in preset.peer_ladder:
                continue
            say(f"{name}: memory of {contestant}")
            row = _or_failed(memory, contestant=contestant, made=made, tol=TARGET_TOLERANCE)
            rows.append({"problem": name, "parameters": find(name).parameters} | row)
    return found


def _first(preset: Preset, say: Say) -> dict[str, Any]:
    say("first calls")
    calls = {name: partial(in_process, first_call, contestant=name) for name in FIRST_CALLS}
    return {name: spread(seconds) for name, seconds in in_turn(calls, preset.repetitions // 2).items()}


def _warm(preset: Preset, say: Say) -> list[dict[str, Any]]:
    rows = []
    settings = {"counts": preset.counts, "records": preset.records, "most": preset.most}
    for name in preset.warm_problems:
        say(f"{name}: along its training")
        rows += in_process(warm, problem=name, tol=TARGET_TOLERANCE, starts=3, **settings)
    return rows


BENCHMARK = Benchmark(
    name="spectrum",
    about=__doc__,
    presets=PRESETS,
    parts={"contest": _contest, "costs": _costs, "memory": _memory, "first": _first, "warm": _warm},
    tables=tables,
    summary=lambda found: {"targets": TARGETS, "headline": headline(found.get("contest", {}))},
    picture=picture,
    problems=(*PROBLEMS, *LADDER),
)

if __name__ == "__main__":
    main(BENCHMARK)
