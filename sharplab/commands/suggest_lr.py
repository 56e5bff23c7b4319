"""A learning rate for a large network, suggested from a command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from sharplab.commands.exit_codes import DONE, SOME_FAILED
from sharplab.commands.user_module import beside, named_function, named_loss
from sharplab.studies import Suggestion, suggest_learning_rate

NOT_CONCLUSIVE = SOME_FAILED


@dataclass(frozen=True)
class SuggestOptions:
    """Suggest the base learning rate for a width, from sweeps of smaller ones under muP.

    Prints it with its interval, the regret to expect and the sharpness at it. Ends with exit code 1 if no interval can
    be given, with what to do about it, 2 for bad input, else 0.
    """

    build: Annotated[str, tyro.conf.Positional]
    """module:function with build(width, rngs), a Flax NNX module, importable from here"""
    base: int
    """the width at which learning rates are quoted"""
    width: int
    """the width to be trained"""
    widths: tuple[int, ...] | None = None
    """the widths to train now; by default half the base to 4 times the base, those less than --width"""
    minutes: float | None = None
    """the time there is: wide widths and steps that do not fit are left out, and said"""
    optimizer: str = "adam"
    """out of sgd, momentum, nesterov, adam, adamw, lion, muon"""
    learning_rates: tuple[str, ...] = ()
    """the grid to begin with, as 0.01 0.02 0.04 or 2^-12:2^-4; by default octaves about the optimizer's usual one"""
    seeds: int = 3
    """how many, 2 at least; more make intervals narrower"""
    steps: int = 200
    """updates of each run: choose what resembles the training to come"""
    batch_size: int = 64
    """examples of an update; likewise"""
    data: str | None = None
    """module:function without arguments -> (inputs, targets); by default `data` or `batch` of the module of build"""
    held_out: str | None = None
    """module:function without arguments -> (inputs, targets), on which final losses are measured; by default `held_out`
    of the module of build, else training data"""
    loss: str | None = None
    """cross_entropy, squared_error, or module:function of (outputs, targets); by default `loss` of the module of
    build, else cross_entropy"""
    store: Path | None = None
    """a directory where runs are kept: the same command goes on from there"""
    output: Path | None = None
    """where to draw it, as a PNG"""
    table: Path | None = None
    """where to write the runs, as CSV: width, learning_rate, seed and final loss"""


def suggest(options: SuggestOptions) -> int:
    """Print the suggestion, write its picture and table where asked; return the exit code, 1 if it is not conclusive.

    Raises:
        ValueError: for bad input, naming the option.
    """
    console = Console(soft_wrap=True, highlight=False)
    build = named_function("build", options.build)
    found = suggest_learning_rate(
        build if options.store is None else options.build,
        _data(options),
        base=options.base,
        width=options.width,
        widths=options.widths,
        held_out=_held_out(options),
        loss=named_loss(options.build, options.loss),
        optimizer=options.optimizer,
        learning_rates=options.learning_rates or None,
        seeds=options.seeds,
        batch_size=options.batch_size,
        steps=options.steps,
        minutes=options.minutes,
        store=options.store,
    )
    _print(found, console)
    for path in (options.output, options.table):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if options.output is not None:
        found.draw().savefig(options.output)
        console.print(f"drawn in {options.output}")
    if options.table is not None:
        found.records.runs.to_csv(options.table, index=False)
        console.print(f"runs in {options.table}")
    return DONE if found.conclusive else NOT_CONCLUSIVE


def _print(found: Suggestion, console: Console) -> None:
    first, *rest = str(found).split("\n")
    console.print(first, style="green" if found.conclusive else "yellow", markup=False)
    for line in rest:
        console.print(line, markup=False)


def _data(options: SuggestOptions) -> Any:
    name = options.data or beside(options.build, ("data", "batch"))
    if name is None:
        module = options.build.partition(":")[0]
        raise ValueError(f"{module} has no function data: give one by --data module:function, -> (inputs, targets).")
    return named_function("--data", name)()


def _held_out(options: SuggestOptions) -> Any | None:
    name = options.held_out or beside(options.build, ("held_out",))
    return None if name is None else named_function("--held-out", name)()
