"""The `sharplab` command."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from time import perf_counter
from types import MappingProxyType, ModuleType
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from sharplab.command_line import SweepOptions, default_options, sweep
from sharplab.drivers import use_all_cores
from sharplab.exit_codes import exit_code_of
from sharplab.mup_check import MupCheckOptions, mup_check
from sharplab.naming import lookup
from sharplab.report import save_finding
from sharplab.store_commands import ExportOptions, MergeOptions, StatusOptions, export, merge, status

Preset = Literal["smoke", "quick", "paper"]
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
HEADLINE = ("transfer", "sharpening", "adam", "depth")


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
    """Make the headline figures, or all there are."""

    all: bool = False
    """every figure of experiments/, not the headline ones alone"""
    preset: Preset = "quick"
    """smoke: seconds; quick: minutes on two cores; paper: the paper's sizes, for an accelerator"""
    store: Path = Path("runs")
    """where the trained runs are kept; figures share them, and none is trained twice"""
    folder: Path = Path("figures")
    """where the figures go"""


def figure_scripts() -> dict[str, Path]:
    """The scripts that draw a figure, by name, the headline ones first."""
    scripts = (path for path in sorted(EXPERIMENTS.glob("*.py")) if "def find(" in path.read_text())
    found = {path.stem.replace("_", "-"): path for path in scripts}
    return {name: found[name] for name in (*HEADLINE, *found) if name in found}


def _load_script(path: Path) -> ModuleType:
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # scripts share modules that lie beside them
    spec = spec_from_file_location(f"experiments_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_figure(options: FigureOptions, place: str = "") -> None:
    """Train what is missing, draw, and write the three files."""
    console = Console()
    script = _load_script(lookup("figure", options.name, figure_scripts()))
    console.print(f"[bold]figure {options.name}[/] {place}({options.preset}): {script.CLAIM}", highlight=False)
    began = perf_counter()
    finding = script.find(options.preset, options.store)
    picture = save_finding(finding, options.name, options.folder, preset=options.preset, seconds=perf_counter() - began)
    colour = {"holds": "green", "fails": "red"}.get(finding.verdict, "yellow")
    console.print(
        f"  the claim [{colour} bold]{finding.verdict}[/]; {picture}, .csv, .json "
        f"after {perf_counter() - began:.0f} s\n",
        highlight=False,
    )


def make_figures(options: FiguresOptions) -> None:
    """The headline figures, or all, one after another."""
    names = list(figure_scripts()) if options.all else list(HEADLINE)
    for i, name in enumerate(names, 1):
        single = FigureOptions(name=name, preset=options.preset, store=options.store, folder=options.folder)
        make_figure(single, place=f"[{i} of {len(names)}] ".replace("[", "\\["))


def _commands(words: Sequence[str]) -> Any:
    """The options of each command; those of `sweep` with what its --config file says."""
    options = default_options(words) if words[:1] == ["sweep"] else SweepOptions()
    return (
        Annotated[FigureOptions, tyro.conf.subcommand("figure")]
        | Annotated[FiguresOptions, tyro.conf.subcommand("figures")]
        | Annotated[SweepOptions, tyro.conf.subcommand("sweep", default=options)]
        | Annotated[StatusOptions, tyro.conf.subcommand("status")]
        | Annotated[ExportOptions, tyro.conf.subcommand("export")]
        | Annotated[MergeOptions, tyro.conf.subcommand("merge")]
        | Annotated[MupCheckOptions, tyro.conf.subcommand("mup-check")]
    )


ACTIONS: Mapping[type, Callable[[Any], int | None]] = MappingProxyType(
    {
        FigureOptions: make_figure,
        FiguresOptions: make_figures,
        SweepOptions: sweep,
        StatusOptions: status,
        ExportOptions: export,
        MergeOptions: merge,
        MupCheckOptions: mup_check,
    }
)


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
        return ACTIONS[type(options)](options)

    sys.exit(exit_code_of(command))


if __name__ == "__main__":
    main()
