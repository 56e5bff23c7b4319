"""The commands by name, and how one is called by words."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from importlib import import_module
from inspect import getdoc
from operator import or_
from typing import Annotated, Any

import tyro

from sharplab.commands.exit_codes import exit_code_of
from sharplab.commands.options import (
    ExportOptions,
    FigureOptions,
    FiguresOptions,
    MergeOptions,
    MupCheckOptions,
    Options,
    RedrawOptions,
    ReportOptions,
    SpectrumOptions,
    StatusOptions,
    SuggestOptions,
    TransferOptions,
)
from sharplab.commands.sweep_options import SweepOptions, default_options
from sharplab.core.caches import keep_compiled_programs
from sharplab.core.devices import use_all_cores

# By name: the options, whose docstring is the command's help, and the module and function within `sharplab.commands`
# that does it, which may answer an exit code. It is imported when it is called.
COMMANDS: Mapping[str, tuple[type[Options], str]] = {
    "figure": (FigureOptions, "figures:make_figure"),
    "figures": (FiguresOptions, "figures:make_figures"),
    "redraw": (RedrawOptions, "figures:redraw"),
    "report": (ReportOptions, "report:report"),
    "sweep": (SweepOptions, "sweep:sweep"),
    "status": (StatusOptions, "status:status"),
    "transfer": (TransferOptions, "table_verdict:judge_table"),
    "export": (ExportOptions, "export:export"),
    "merge": (MergeOptions, "merge:merge"),
    "mup-check": (MupCheckOptions, "mup_check:mup_check"),
    "suggest-lr": (SuggestOptions, "suggest_lr:suggest"),
    "spectrum": (SpectrumOptions, "spectrum:spectrum"),
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


def run(words: Sequence[str], ready: Callable[[], None] = lambda: None) -> int:
    """Run one command and return its exit code; `ready` is called between its imports and its work."""
    options = Options()

    def command() -> int | None:
        nonlocal options
        options = tyro.cli(
            _commands(words),
            args=words,
            prog="sharplab",
            description="Does the best learning rate, and the sharpness, stay where it is as a network grows?",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        keep_compiled_programs()
        use_all_cores()
        options.check()
        module, _, name = dict(COMMANDS.values())[type(options)].partition(":")
        function = getattr(import_module(f"sharplab.commands.{module}"), name)
        ready()
        return function(options)

    return exit_code_of(command, lambda: options.remains())
