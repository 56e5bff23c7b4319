"""What a user waits for, beside an earlier version: steps, first calls, further programs, commands, make's targets.

Both versions answer in turn from processes of their own, with the same Python and dependencies. A training step is
timed on one core. Commands, and programs after the first, are counted in seconds of CPU; the second sweep is the same
command once more, into another store, so that it finds what the first has compiled. The part `first figure` trains
the runs of the first version's transfer figure in both, in seconds of CPU. The parts `figures` and `tests` are make's
targets, of whatever either version draws and tests, once each in a clean clone with an empty cache, installation
included, in seconds of the clock.

Cost: ten minutes, and of the other three an hour on a machine that does nothing else. Leaves figures/bench/waits.json.

    make bench-waits
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness import Benchmark, JobFailed, Say, in_process, in_turn, main, spread
from spectra.first_call import first_call
from waiting import FIRST_FIGURE, SWEEP, further_program, last_command, package_folder, step

if TYPE_CHECKING:
    from rich.table import Table

ROOT = Path(__file__).parents[2]
BEFORE = "553b2c0"  # the last commit of version 0.1 at which nothing was kept from process to process
# Variables of this process that a clone must not see.
FROM_OUTSIDE = {"JAX_COMPILATION_CACHE_DIR", "MAKEFLAGS", "MAKELEVEL", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}


@dataclass(frozen=True)
class Preset:
    """What is timed, how often, and beside which commit; None: beside itself."""

    before: str | None
    repetitions: int
    channels: tuple[int, ...]  # of the Figure-1 ConvNet
    steps: int
    figure: tuple[str, ...]  # a sweep


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(before=None, repetitions=1, channels=(4,), steps=2, figure=SWEEP),
    "full": Preset(before=BEFORE, repetitions=3, channels=(64, 128, 256), steps=12, figure=FIRST_FIGURE),
}


def jobs(preset: Preset) -> dict[str, Callable[..., float]]:
    """What is timed, by name: each in a process of its own that takes the variables it is given."""
    swept = [*SWEEP, "--store", "runs"]
    return {
        **{
            f"step of the Figure-1 ConvNet, {channels} channels": partial(
                in_process, step, channels=channels, steps=preset.steps
            )
            for channels in preset.channels
        },
        "first eigsh": partial(in_process, first_call, contestant="eigsh, top-1"),
        "first record of a tracker": partial(in_process, first_call, contestant="tracker, sharpness"),
        "one more parameterization or γ": partial(in_process, further_program, gammas=(0.5, 2.0)),
        "first sweep": partial(in_process, last_command, commands=[swept]),
        "second sweep": partial(in_process, last_command, commands=[swept, [*SWEEP, "--store", "others"]]),
        "--help": partial(in_process, last_command, commands=[["--help"]]),
        "status": partial(in_process, last_command, commands=[swept, ["status", "runs"]]),
        "export": partial(in_process, last_command, commands=[swept, ["export", "runs", "tables"]]),
    }


@contextmanager
def sources(commit: str | None) -> Iterator[Path]:
    """The folder that holds the package as it was at a commit.

    Raises:
        SystemExit: where there is no such commit.
    """
    if commit is None:
        yield ROOT
        return
    done = subprocess.run(["git", "archive", commit, "sharplab"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"there is no commit {commit} here: fetch the whole history (git fetch --unshallow).")
    with TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def _waits(preset: Preset, say: Say) -> dict[str, Any]:
    rows = {}
    with sources(preset.before) as before:
        for folder in (before, ROOT):
            if (imported := in_process(package_folder, variables={"PYTHONPATH": str(folder)})) != str(folder):
                raise SystemExit(f"Python imports sharplab from {imported}, not from {folder}: nothing was timed.")
        for name, job in jobs(preset).items():
            # The first round compiles Python's bytecode.
            rows[name] = _compared(_contestants(job, before), preset.repetitions, warm_up=True)
            say(f"{name}: {rows[name]['times_as_fast']['median']:.2f} times as fast")
    return {"before": preset.before, "rows": rows}


def _first_figure(preset: Preset, say: Say) -> dict[str, Any]:
    job = partial(in_process, last_command, commands=[[*preset.figure, "--store", "runs"]])
    with sources(preset.before) as before:
        row = _compared(_contestants(job, before), 1)
    say(f"first figure: {row['times_as_fast']['median']:.2f} times as fast")
    return {"before": preset.before, "rows": {"runs of the first transfer figure": row}}


def _contestants(job: Callable[..., float], before: Path) -> dict[str, Callable[[], float]]:
    """The job with the package of either version."""
    folders = {"before": before, "here": ROOT}
    return {version: partial(job, variables={"PYTHONPATH": str(folder)}) for version, folder in folders.items()}


def _compared(
    contestants: Mapping[str, Callable[[], float]], repetitions: int, warm_up: bool = False
) -> dict[str, Any]:
    """Seconds of both versions in turn, and how many times as fast this one is, pair by pair."""
    seconds = in_turn(contestants, repetitions, warm_up=warm_up)
    row = {version: spread(values) for version, values in seconds.items()}
    return row | {"times_as_fast": spread(seconds["before"] / seconds["here"])}


def _target(preset: Preset, say: Say, target: str) -> dict[str, Any]:
    target = target if preset.before else "help"
    commits = {"before": preset.before or "HEAD", "here": "HEAD"}
    row = _compared({version: partial(seconds_of_target, commit, target) for version, commit in commits.items()}, 1)
    say(f"make {target}: " + ", ".join(f"{version} {row[version]['median']:.0f} s" for version in commits))
    return {"before": preset.before, "rows": {f"make {target}": row}}


def seconds_of_target(commit: str, target: str) -> float:
    """How long `make TARGET` takes in a clean clone at a commit, with nothing compiled or installed.

    Raises:
        JobFailed: with the last lines that it wrote, where it fails.
    """
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        git = partial(subprocess.run, capture_output=True, check=True)
        git(["git", "clone", "--quiet", ROOT, clone])
        git(["git", "-C", clone, "checkout", "--quiet", commit])
        environment = {name: value for name, value in os.environ.items() if name not in FROM_OUTSIDE}
        environment |= {"SHARPLAB_CACHE": str(Path(folder) / "cache")}
        began = perf_counter()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(["make", target], cwd=clone, env=environment, check=False, **pipes)
        seconds = perf_counter() - began
    if done.returncode:
        raise JobFailed(f"make {target} at {commit}: " + " / ".join(done.stdout.splitlines()[-3:]))
    return seconds


def tables(found: Mapping[str, Any]) -> Iterable["Table"]:
    """Seconds of both, and their ratio."""
    from rich.table import Table

    table = Table("wait", "before, s", "here, s", "times as fast")
    rows = [row for part in found.values() for row in part["rows"].items()]
    for name, row in rows:
        seconds = (f"{row[version]['median']:.3f}" for version in ("before", "here"))
        table.add_row(name, *seconds, f"{row['times_as_fast']['median']:.2f}")
    yield table


BENCHMARK = Benchmark(
    name="waits",
    about=__doc__,
    presets=PRESETS,
    parts={
        "waits": _waits,
        "first figure": _first_figure,
        "figures": partial(_target, target="figures"),
        "tests": partial(_target, target="test"),
    },
    tables=tables,
    summary=lambda found: {},
)


if __name__ == "__main__":
    main(BENCHMARK)
