"""The `sharplab` command."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.util import module_from_spec, spec_from_file_location
from inspect import getdoc
from operator import or_
from pathlib import Path
from time import perf_counter
from traceback import print_exception
from types import MappingProxyType, ModuleType
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console
from rich.table import Table

from sharplab.command_line import SweepOptions, default_options, sweep
from sharplab.drivers import use_all_cores
from sharplab.exit_codes import DONE, SOME_FAILED, exit_code_of
from sharplab.gallery import figure_scripts, write_readme, write_report
from sharplab.gallery.claims import TESTED_BY
from sharplab.gallery.entries import HEADLINE
from sharplab.mup_check import MupCheckOptions, mup_check
from sharplab.naming import lookup
from sharplab.report import Finding, save_finding
from sharplab.store_commands import ExportOptions, MergeOptions, StatusOptions, export, merge, status
from sharplab.suggest_command import SuggestOptions, suggest

Preset = Literal["smoke", "quick", "paper"]
COLOURS: Mapping[str, str] = MappingProxyType({"holds": "green", "fails": "red", "inconclusive": "yellow"})


@dataclass(frozen=True)
class FigureOptions:
    """Make one figure: NAME.png, NAME.csv (the numbers it shows) and NAME.json (claim, verdict, settings)."""

    name: tyro.conf.Positional[str]
    """a script of experiments/ that draws a figure, as "transfer" """
    preset: Preset = "quick"
    """smoke: seconds; quick: minutes on two cores; paper: the paper's sizes, for an accelerator"""
    store: Path = Path("runs")
    """where the trained runs are kept; figures share them, and none is trained twice"""
    folder: Path = Path("figures")
    """where the figure goes"""


@dataclass(frozen=True)
class FiguresOptions:
    """Make the headline figures, or all there are, and the README beside them.

    A figure that fails does not stop the others; the exit code is then 1.
    """

    all: bool = False
    """every figure of experiments/, not the headline ones alone"""
    preset: Preset = "quick"
    """smoke: seconds; quick: minutes on two cores; paper: the paper's sizes, for an accelerator"""
    store: Path = Path("runs")
    """where the trained runs are kept; figures share them, and none is trained twice"""
    folder: Path = Path("figures")
    """where the figures go"""


@dataclass(frozen=True)
class ReportOptions:
    """Write README.md and report.html of a folder of figures: claims, verdicts, numbers; in the page curves to zoom."""

    folder: Path = Path("figures")
    """where the figures are"""


def _load_script(path: Path) -> ModuleType:
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # scripts share modules that lie beside them
    spec = spec_from_file_location(f"experiments_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_figure(options: FigureOptions) -> None:
    """Train what is missing, draw, and write the three files and the README."""
    _make(options)
    write_readme(options.folder)


def _make(options: FigureOptions, place: str = "") -> Finding:
    console = Console(highlight=False)
    # Tiny networks train for seconds: compiling them is what takes time, and optimising doubles it.
    jax.config.update("jax_disable_most_optimizations", options.preset == "smoke")
    jax.clear_caches()  # compiled programs hold memory maps, of which a process has no more than some ten thousand
    script = _load_script(lookup("figure", options.name, figure_scripts()))
    console.print(f"[bold]figure {options.name}[/] {place}({options.preset}): {script.CLAIM}")
    began = perf_counter()
    finding = script.find(options.preset, options.store)
    picture = save_finding(finding, options.name, options.folder, preset=options.preset, seconds=perf_counter() - began)
    verdict = _coloured(finding.verdict)
    console.print(f"  the claim {verdict}; {picture}, .csv, .json after {perf_counter() - began:.0f} s\n")
    return finding


def make_figures(options: FiguresOptions) -> int:
    """The headline figures, or all, one after another; then the README and a table of verdicts."""
    names = list(figure_scripts()) if options.all else list(HEADLINE)
    table = Table("figure", "tests", "verdict", "seconds", title=f"preset {options.preset}")
    failed = []
    for i, name in enumerate(names, 1):
        single = FigureOptions(name=name, preset=options.preset, store=options.store, folder=options.folder)
        began = perf_counter()
        try:
            verdict = _coloured(_make(single, place=f"\\[{i} of {len(names)}] ").verdict)
        except Exception as error:
            print_exception(error)
            failed.append(name)
            verdict = "[red bold]not made[/]"
        table.add_row(name, ", ".join(TESTED_BY.get(name, ("–",))), verdict, f"{perf_counter() - began:.0f}")
    console = Console(highlight=False)
    console.print(table)
    if failed:
        console.print(f"[red bold]not made:[/] {', '.join(failed)}; the errors stand above, each at its figure")
    console.print(f"{write_readme(options.folder)} has all verdicts and numbers; `make report` puts them on one page")
    return SOME_FAILED if failed else DONE


def _coloured(verdict: str) -> str:
    return f"[{COLOURS[verdict]} bold]{verdict}[/]"


def report(options: ReportOptions) -> None:
    """Write both and say where."""
    page = write_report(options.folder)
    print(f"{write_readme(options.folder)}, and on one page with curves to zoom {page}, to open in a browser")


# By name: the options, whose docstring is the command's help, and what it does, which may answer an exit code.
COMMANDS: Mapping[str, tuple[type, Callable[[Any], int | None]]] = MappingProxyType(
    {
        "figure": (FigureOptions, make_figure),
        "figures": (FiguresOptions, make_figures),
        "report": (ReportOptions, report),
        "sweep": (SweepOptions, sweep),
        "status": (StatusOptions, status),
        "export": (ExportOptions, export),
        "merge": (MergeOptions, merge),
        "mup-check": (MupCheckOptions, mup_check),
        "suggest-lr": (SuggestOptions, suggest),
    }
)


def _commands(words: Sequence[str]) -> Any:
    """What tyro parses `words` into: the options of the command that they begin with, of `sweep` those of its --config.

    All other commands are listed with the first sentences of their help.
    """
    called = words[0].replace("_", "-") if words else ""  # tyro takes either
    types = []
    for name, (options, _) in COMMANDS.items():
        settings: dict[str, Any] = {}
        if name != called:
            settings["description"] = str(getdoc(options)).partition("\n\n")[0]
        elif name == "sweep":
            settings["default"] = default_options(words)
        types.append(Annotated[options, tyro.conf.subcommand(name, **settings)])
    return reduce(or_, types)


def main() -> None:
    """Run one command; bad input ends with one sentence and exit code 2."""
    words = sys.argv[1:]

    def command() -> int | None:
        options = tyro.cli(
            _commands(words),
            args=words,
            prog="sharplab",
            description="Does the best learning rate, and the sharpness, stay where it is as a network grows?",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        use_all_cores()
        return dict(COMMANDS.values())[type(options)](options)

    sys.exit(exit_code_of(command))


if __name__ == "__main__":
    main()
