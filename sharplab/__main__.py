"""The `sharplab` command."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from inspect import getdoc
from operator import or_
from typing import Annotated, Any

import tyro

from sharplab.commands.exit_codes import exit_code_of
from sharplab.commands.export import ExportOptions, export
from sharplab.commands.figures import FigureOptions, FiguresOptions, make_figure, make_figures
from sharplab.commands.merge import MergeOptions, merge
from sharplab.commands.mup_check import MupCheckOptions, mup_check
from sharplab.commands.report import ReportOptions, report
from sharplab.commands.status import StatusOptions, status
from sharplab.commands.suggest_lr import SuggestOptions, suggest
from sharplab.commands.sweep import SweepOptions, default_options, sweep
from sharplab.core.caches import keep_compiled_programs
from sharplab.training.layout import use_all_cores

# By name: the options, whose docstring is the command's help, and what it does, which may answer an exit code.
COMMANDS: Mapping[str, tuple[type, Callable[[Any], int | None]]] = {
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


def _commands(words: Sequence[str]) -> Any:
    """The type that tyro parses `words` into: the options of each command, of `sweep` with the values of its --config.

    Commands other than the one that `words` begin with are listed with the first sentences of their help.
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
        keep_compiled_programs()
        use_all_cores()
        return dict(COMMANDS.values())[type(options)](options)

    sys.exit(exit_code_of(command))


if __name__ == "__main__":
    main()
