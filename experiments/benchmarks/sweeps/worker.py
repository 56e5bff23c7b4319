"""One measurement in a process of its own: `python -m sweeps.worker '{"job": …}'`, the answer as JSON in a file.

Jobs import what they need themselves: this module is imported anew by each process of a spawned pool.
"""

import json
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any


def peak_memory() -> int:
    """The most bytes that this process has held; where Linux tells, without what its parent held at the fork."""
    told = Path("/proc/self/status")
    if told.exists():
        return next(1024 * int(line.split()[1]) for line in told.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def contest(began: float, contestant: str, runs: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the start of this process to the last of its first runs, and of as many further runs."""
    from sweeps.contestants import CONTESTANTS
    from sweeps.runs import Runs

    work = Runs(**runs)
    ready = perf_counter()
    with CONTESTANTS[contestant](work) as train:
        train(work.seeds_of(0))
        cold = perf_counter()
        losses = train(work.seeds_of(1))
        warm = perf_counter()
    return {
        "import_seconds": ready - began,
        "cold_seconds": cold - began,
        "warm_seconds": warm - cold,
        "losses": [losses[key] for key in sorted(losses)],
    }


def arithmetic(runs: dict[str, Any], rows: int, repetitions: int) -> dict[str, Any]:
    """Training's arithmetic per second, beside a matrix product's."""
    from sweeps.arithmetic import matmul_share
    from sweeps.runs import Runs

    return matmul_share(Runs(**runs), rows, repetitions)


def overhead(groups: int, runs: int, repetitions: int) -> dict[str, Any]:
    """Seconds per group where training takes none."""
    from sweeps.immediate import seconds_per_group

    return seconds_per_group(groups, runs, repetitions)


def train_many(began: float, groups: int, runs: int, store: str) -> dict[str, float]:
    """A sweep that trains at once, from the start of this process on."""
    from sharplab.sweep.runner import run_with
    from sweeps.immediate import Immediate, many_runs

    trainer = Immediate()
    called = perf_counter()
    run_with(trainer, many_runs(groups, runs), store)
    ended = perf_counter()
    return {
        "start_up_seconds": trainer.begun[0] - began,
        "planning_seconds": trainer.begun[0] - called,
        "run_seconds": ended - called,
        "run_peak_bytes": peak_memory(),
    }


def find_all(groups: int, runs: int, store: str) -> dict[str, float]:
    """The same sweep once more: everything is there."""
    from sharplab.sweep.runner import run_with
    from sweeps.immediate import Immediate, many_runs

    trainer = Immediate()
    called = perf_counter()
    run_with(trainer, many_runs(groups, runs), store)
    seconds = perf_counter() - called
    assert not trainer.begun, "runs that are stored were trained again"
    return {"again_seconds": seconds, "again_peak_bytes": peak_memory()}


def load_all(groups: int, runs: int, store: str) -> dict[str, float]:
    """Its records, without the time of imports."""
    import sharplab as sl

    load = sl.load
    before, called = peak_memory(), perf_counter()
    records = load(store)
    seconds = perf_counter() - called
    assert len(records.runs) == groups * runs, "runs are missing"
    return {
        "load_seconds": seconds,
        "load_peak_bytes": peak_memory(),
        "before_load_bytes": before,
        "curve_rows": len(records.curves),
    }


JOBS = {job.__name__: job for job in (contest, arithmetic, overhead, train_many, find_all, load_all)}


def main() -> None:
    """Do the job of the first argument and write what it found to the file of the second."""
    settings = json.loads(sys.argv[1])
    found = JOBS[settings.pop("job")](**settings)
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
