"""The harness of all benchmarks: jobs in processes of their own, contestants in turn, report and command line.

At its top this module imports the standard library alone: a measured process holds nothing but what its job imports.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from rich.table import Table

Say = Callable[[str], None]  # prints a line of progress
FOLDER = Path("figures/bench")
TABLE_WIDTH = 120  # characters that the widest table needs; a log is wide enough, a pipe's default is not


@dataclass(frozen=True)
class Benchmark:
    """The measurements and their presentation: `tables`, `summary` and `picture` take what was found, by part."""

    name: str  # of the report, figures/bench/NAME.json
    about: str | None  # the module's docstring, for --help
    presets: Mapping[str, Any]  # how much is measured; the last is the default
    parts: Mapping[str, Callable[[Any, Say], Any]]  # (preset, say) → what was found, as JSON has it
    tables: Callable[[Mapping[str, Any]], Iterable["Table"]]
    summary: Callable[[Mapping[str, Any]], Mapping[str, Any]]  # what the report states beside the parts
    picture: Callable[[Mapping[str, Any]], "Figure"] | None = None


def main(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> None:
    """Measure the parts asked for, print tables, and write report and picture, those of other parts kept."""
    from rich.console import Console

    options = _options(benchmark, arguments)
    preset = benchmark.presets[options.preset]
    console, began = Console(width=max(Console().width, TABLE_WIDTH)), perf_counter()

    def say(text: str) -> None:
        console.print(f"{perf_counter() - began:5.0f} s  {text}", highlight=False, markup=False)

    report = json.loads(options.output.read_text()) if options.output.exists() else {}
    if report.get("preset") != options.preset:
        report = {"preset": options.preset, "parts": {}}
    machine = in_process(hardware) | {"load_average_before": os.getloadavg()[0]}
    for name in options.parts:
        report["parts"][name] = _measured(lambda name=name: benchmark.parts[name](preset, say), machine)
        _write(benchmark, report, options.output)  # after each part, since the next may take hours
    found = _write(benchmark, report, options.output) if report["parts"] else {}
    for table in benchmark.tables(found) if found else ():
        console.print(table)
    say(f"{options.output}, on {machine['cpu']}, {machine['cores']} cores")


def _options(benchmark: Benchmark, arguments: Sequence[str] | None) -> argparse.Namespace:
    *_, default = benchmark.presets
    parser = argparse.ArgumentParser(
        description=benchmark.about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--preset", choices=list(benchmark.presets), default=default, help=f"default: {default}")
    parser.add_argument(
        "--parts",
        nargs="*",
        choices=list(benchmark.parts),
        default=list(benchmark.parts),
        help="what to measure; the rest of an earlier report stays. Given none, the report is drawn anew",
    )
    parser.add_argument(
        "--output", type=Path, default=FOLDER / f"{benchmark.name}.json", help="the report; the picture lies beside it"
    )
    return parser.parse_args(arguments)


def _measured(measure: Callable[[], Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    from sharplab.core.provenance import versions

    began = perf_counter()
    found = measure()
    return {"seconds": perf_counter() - began, "hardware": machine, "versions": versions(), "found": found}


def _write(benchmark: Benchmark, report: dict[str, Any], output: Path) -> dict[str, Any]:
    """Summary, report and picture; returns what was found, by part."""
    found = {name: part["found"] for name, part in report["parts"].items()}
    report |= benchmark.summary(found)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    if benchmark.picture:
        benchmark.picture(found).savefig(output.with_suffix(".png"))
    return found


def hardware() -> dict[str, Any]:
    """Processor and devices; to be asked in a process of its own, which would hold an accelerator from then on."""
    import jax

    from sharplab.training.layout import use_all_cores

    use_all_cores()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
    }


class JobFailed(Exception):
    """A job ended without an answer."""


def in_process(
    job: Callable[..., Any], *, double: bool = False, variables: Mapping[str, str] | None = None, **settings: Any
) -> Any:
    """`job(**settings)` in a process of its own: nothing compiled, no cached program, no other's memory.

    Settings and answer pass as JSON; dataclasses arrive as dicts.

    Args:
        job: a function of a module's top level, which the process imports.
        double: whether jax computes in float64.
        variables: of its environment, beside those of this process.

    Raises:
        JobFailed: with the last line that the process wrote to its standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        environment = os.environ | {"SHARPLAB_CACHE": folder, "JAX_ENABLE_X64": str(int(double))}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        environment |= {"JAX_TRACEBACK_FILTERING": "off"}  # so that the last line is the exception
        environment |= variables or {}
        call = json.dumps([job.__module__, job.__name__, settings], default=_plain)
        command = [sys.executable, __file__, call, str(answer)]
        process = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"ended with status {process.returncode}"]
            raise JobFailed(f"{job.__name__}: {lines[-1]}")
        return json.loads(answer.read_text())


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _answer(call: str, path: str) -> None:
    """The other side of `in_process`."""
    module, name, settings = json.loads(call)
    Path(path).write_text(json.dumps(getattr(import_module(module), name)(**settings)))


def peak_memory() -> int:
    """The most bytes that this process has held; where Linux tells, without what its parent held at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def spread(values: "Sequence[float] | np.ndarray") -> dict[str, float]:
    """Median, least and most.

    >>> spread([3.0, 1.0, 8.0])
    {'median': 3.0, 'min': 1.0, 'max': 8.0}
    """
    return {"median": float(median(values)), "min": float(min(values)), "max": float(max(values))}


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    """The wall time of one call, its arrays awaited."""
    import jax

    began = perf_counter()
    jax.block_until_ready(function(*args))
    return perf_counter() - began


def in_turn(
    contestants: Mapping[str, Callable[[], float]], repetitions: int, *, warm_up: bool = False
) -> "dict[str, np.ndarray]":
    """The answers of contestants called A B A B …, so that a disturbed minute disturbs them all.

    `warm_up` calls each once before, which compiles.
    """
    import numpy as np

    for contestant in contestants.values() if warm_up else ():
        contestant()
    rounds = [[contestant() for contestant in contestants.values()] for _ in range(repetitions)]
    return dict(zip(contestants, np.array(rounds).T, strict=True))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
