"""Three checks of a network's muP from a command line: coordinates, the optimizer, and whether wider is better."""

from typing import Any

from rich.console import Console

from sharplab.checks import coordinate_check, inspect_optimizer, wider_is_better
from sharplab.checks.trainee import Build, Loss, Trainee, make_trainee
from sharplab.checks.verdict import overall
from sharplab.commands import VERDICT_COLOURS
from sharplab.commands.options import MupCheckOptions
from sharplab.commands.user_module import named_examples, named_function, named_loss
from sharplab.core.grid import parse_learning_rates
from sharplab.plotting import save_figure
from sharplab.scaling.any_module import mup


def mup_check(options: MupCheckOptions) -> int:
    """Print the scaling of each parameter, the slopes and three verdicts; return the exit code, 1 if a check fails.

    Raises:
        ValueError: for bad input, naming the option.
    """
    console = Console(soft_wrap=True, highlight=False)
    build, batch, loss = _build_batch_loss(options)
    widest = mup(build, base=options.base, width=max(options.widths), optimizer=options.optimizer)
    console.print(f"{widest}\n", markup=False)
    trainee = _trainee(build, options)
    settings: dict[str, Any] = {
        "build": trainee.build,
        "widths": options.widths,
        "batch": batch,
        "loss": loss,
        "optimizer": trainee.optimizer,
    }
    coordinates = coordinate_check(**settings, steps=options.steps, seeds=options.seeds)
    console.print(coordinates.slopes().drop(columns="asked").to_string(index=False, float_format="%.3f") + "\n")
    inspection = inspect_optimizer(**settings, factors=trainee.factors)
    wider = wider_is_better(**settings, steps=options.wider_steps, seeds=options.seeds)
    for check in (coordinates, inspection, wider):
        first, *rest = str(check).split("\n")
        console.print(first, style=VERDICT_COLOURS[check.verdict], markup=False)
        for line in rest:
            console.print(line, markup=False)
    if options.output is not None:
        save_figure(coordinates.draw(), options.output)
        console.print(f"drawn in {options.output}")
    return 1 if overall(check.verdict for check in (coordinates, inspection, wider)) == "fails" else 0


def _build_batch_loss(options: MupCheckOptions) -> tuple[Build, Any, Loss]:
    build = named_function("build", options.build)
    batch = named_examples("--batch", options.batch, options.build, ("batch",), most=1)
    if batch is None:
        module = options.build.partition(":")[0]
        raise ValueError(f"{module} has no batch: give (inputs, targets), or what makes them, by --batch module:name.")
    return build, batch, named_loss(options.build, options.loss)


def _trainee(build: Build, options: MupCheckOptions) -> Trainee:
    rates = parse_learning_rates([options.learning_rate])
    if len(rates) > 1:
        raise ValueError(f"--learning-rate must be one number, not {options.learning_rate}.")
    if options.own_optimizer is None:
        return make_trainee(build, options.optimizer, rates[0], options.base)

    def factors(width: int) -> dict[str, float]:
        return mup(build, base=options.base, width=width, optimizer=options.optimizer).table()["lr_factor"].to_dict()

    return Trainee(build, named_function("--own-optimizer", options.own_optimizer), factors)
