"""Speed and accuracy of eigenvalue solvers: `sharplab.eigsh` beside every other library for it.

(contest) The top of the Hessian of networks trained for a few hundred steps, on one batch: time, products and true
relative error (against float64) at tolerances of 1e-2, 1e-3 and 1e-5, top-1 and top-10. Each library ends its solves
by its own rule, all else at its defaults; one that takes more than 30 s (smoke: 5) and more than three times sharplab's
longest on that network is given up ("too long"). "plain Lanczos, cold" is how many products any method that starts at
random needs at least: a run that keeps all its vectors, stopped by an oracle, who knows the truth. Every library works
in a process of its own, on the same weights and batch, its loss and gradient checked to 1e-5; peers that are not
installed are left out and named.
(costs) One product in gradients, eight of them sharing a linearisation as in a solve, and as calls of their own;
a gradient and products in units of their arithmetic at the rate of a large matrix product.
(records) One record of critical sharpness, and of λmax to 1 %, in gradients: the first one, and the next along a run.
(first) Seconds of the first call in a process, compilation included, on 1,732 parameters: a solve and a tracker's first
record and a critical sharpness, beside ten steps of Lanczos written by hand, each in a process of its own, in turn.

Targets at 1e-3: at most 1.3 × the products of plain Lanczos, half the time of the best peer by its own rule whose true
error is within the tolerance. A Hessian product at most 2.2 gradients, a Gauss-Newton product on the GPT 1.5. A first
solve at most 2.5 × the loop by hand, a first record 3 ×. Measured once, and kept in the committed report: products
along a training run, each record started from the last one's eigenvectors ("warm"); libraries at the cheapest setting
that the oracle would choose; peak memory of λ₁ of GPTs of 1 to 124 M parameters, 15 GB for the largest ("memory"); and
how often the true error is within `errors`, over five kinds of random spectra ("calibration"), which
tests/spectrum/test_extremal.py counts too.

Trained weights, true eigenvalues and the oracle's counts are kept under runs/bench.
Cost: hours on two idle cores. Leaves figures/bench/spectrum.json and .png.

    make bench-spectrum
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness import Benchmark, JobFailed, Say, in_process, in_turn, main, spread
from spectra.contest import Terms, contest, installed
from spectra.costs import product_costs, record_costs
from spectra.first_call import FIRST_CALLS, first_call
from spectra.problems import make
from spectra.report import TARGET_TOLERANCE, TARGETS, headline, picture, tables
from spectra.truth import oracle, truth

TOP = 10
LENIENCE = 3  # how many times as long as sharplab's longest solve a peer's may take


@dataclass(frozen=True)
class Preset:
    """The networks, sizes and repetitions that are measured."""

    problems: tuple[str, ...]
    terms: Terms
    counts: tuple[int, ...] = (1, TOP)
    most: int = 256  # steps of a plain Lanczos run
    repetitions: int = 7


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(
        problems=("mlp-17k", "gpt-26k"),
        terms=Terms(tolerances=(1e-2, TARGET_TOLERANCE), starts=1, patience=5.0),
        most=64,
        repetitions=2,
    ),
    "full": Preset(
        problems=("mlp-0.1M", "mlp-1M", "mlp-4M", "convnet", "gpt-1M", "gpt-10M"),
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
        try:
            found[peer] = in_process(contest, contestant=peer, **asked)
        except JobFailed as failure:
            found[peer] = {"failed": str(failure)}
    answer = {"parameters": exact["parameters"], "truth": exact, "oracle": needed}
    return answer | {"limit_seconds": limit, "contestants": found}


def solve_limit(terms: Terms, ours: Mapping[str, Any]) -> float:
    """Seconds after which a solve is given up: the terms' patience, or thrice the longest of `ours` that came first."""
    longest = max((max(row["seconds"]) for row in ours.get("rows", ()) if row["finished"]), default=0.0)
    return max(terms.patience, LENIENCE * longest)


def _on_each(job: Callable[..., Any], what: str) -> Callable[[Preset, Say], dict[str, Any]]:
    """The part of a benchmark that is a job on each problem, in a process of its own."""

    def part(preset: Preset, say: Say) -> dict[str, Any]:
        found = {}
        for name in preset.problems:
            say(f"{name}: {what}")
            in_process(make, problem=name)
            found[name] = in_process(job, problem=name, repetitions=preset.repetitions)
        return found

    return part


def _first(preset: Preset, say: Say) -> dict[str, Any]:
    say("first calls")
    calls = {name: partial(in_process, first_call, contestant=name) for name in FIRST_CALLS}
    return {name: spread(seconds) for name, seconds in in_turn(calls, max(1, preset.repetitions // 2)).items()}


BENCHMARK = Benchmark(
    name="spectrum",
    about=__doc__,
    presets=PRESETS,
    parts={
        "contest": _contest,
        "costs": _on_each(product_costs, "costs of products"),
        "records": _on_each(record_costs, "costs of records"),
        "first": _first,
    },
    tables=tables,
    summary=lambda found: {"targets": TARGETS, "headline": headline(found.get("contest", {}))},
    picture=picture,
)

if __name__ == "__main__":
    main(BENCHMARK)
