"""A learning rate for a large network, suggested from a command line."""

from typing import Any

from rich.console import Console

from sharplab.commands.exit_codes import DONE, SOME_FAILED
from sharplab.commands.options import SuggestOptions
from sharplab.commands.user_module import named_examples, named_function, named_loss
from sharplab.core.files import write_whole
from sharplab.plotting import save_figure
from sharplab.studies import Suggestion, suggest_learning_rate
from sharplab.studies.suggest_lr.from_sharpness import SharpnessSuggestion, learning_rate_from_sharpness
from sharplab.studies.suggest_lr.small_runs import MOST_EVALUATED, most_examples

NOT_CONCLUSIVE = SOME_FAILED
OF_SWEEPS = ("widths", "minutes", "learning_rates", "held_out", "store", "output", "table")


def suggest(options: SuggestOptions) -> int:
    """Print the suggestion, write its picture and table where asked; return the exit code, 1 if it is not conclusive.

    Raises:
        ValueError: for bad input, naming the option.
    """
    console = Console(soft_wrap=True, highlight=False)
    build = named_function("build", options.build)
    if options.from_sharpness:
        from_sharpness = _from_sharpness(options, build)
        _print(from_sharpness, console)
        return DONE if from_sharpness.conclusive else NOT_CONCLUSIVE
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
        save_figure(found.draw(), options.output)
        console.print(f"drawn in {options.output}")
    if options.table is not None:
        write_whole(options.table, found.records.runs.to_csv(index=False).encode())
        console.print(f"runs in {options.table}")
    return DONE if found.conclusive else NOT_CONCLUSIVE


def _from_sharpness(options: SuggestOptions, build: Any) -> SharpnessSuggestion:
    for name in OF_SWEEPS:
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is of sweeps: leave it away with --from-sharpness.")
    return learning_rate_from_sharpness(
        build,
        _data(options),
        base=options.base,
        width=options.width,
        loss=named_loss(options.build, options.loss),
        optimizer=options.optimizer,
        seeds=options.seeds,
        batch_size=options.batch_size,
        steps=options.steps,
    )


def _print(found: Suggestion | SharpnessSuggestion, console: Console) -> None:
    first, *rest = str(found).split("\n")
    console.print(first, style="green" if found.conclusive else "yellow", markup=False)
    for line in rest:
        console.print(line, markup=False)


def _data(options: SuggestOptions) -> Any:
    data = named_examples(
        "--data", options.data, options.build, ("data", "batch"), most=most_examples(options.steps, options.batch_size)
    )
    if data is None:
        module = options.build.partition(":")[0]
        raise ValueError(f"{module} has no data: give (inputs, targets), or what makes them, by --data module:name.")
    return data


def _held_out(options: SuggestOptions) -> Any | None:
    return named_examples("--held-out", options.held_out, options.build, ("held_out",), most=MOST_EVALUATED)
