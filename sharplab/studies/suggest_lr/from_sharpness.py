"""A learning rate from the sharpness after a tenth of a training, by the rule that the gallery's sweeps teach."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sharplab.analysis.readings import EARLY
from sharplab.analysis.stable_time import threshold_of
from sharplab.analysis.trust_region import FIXED, LEVEL, RateRule
from sharplab.checks.trainee import Build, Loss
from sharplab.core.arguments import checked, function_or_name
from sharplab.core.grid import whole
from sharplab.core.statistics import Interval
from sharplab.studies.suggest_lr.rate_rules import rate_rules
from sharplab.studies.suggest_lr.settings import StudySettings
from sharplab.studies.suggest_lr.small_runs import Place, SmallRuns, small_runs

MOST_TRIES = 5
SETTLED = 0.5  # octaves between where the sharpness was read and where the rule's sweeps read it
BACK = 16.0  # the factor by which a learning rate that diverged is lowered
FEWEST_STEPS = 10
FEWEST_FIGURES = 3  # of a rule: two show hardly how far figures lie apart


@dataclass(frozen=True, eq=False)
class SharpnessSuggestion:
    """The base learning rate that a sharpness points to: made by `learning_rate_from_sharpness`.

    Attributes:
        learning_rate: the prediction, nan where every short training diverged.
        interval: the prediction interval at `level`, from the errors that the rule makes in figures left out.
        tries: the short trainings: learning_rate, sharpness (geometric mean over seeds), and reading, the learning rate
            whose stability threshold that is.
        settled: whether the last try is at such a learning rate as those that the rule was learned from.
        rule, fixed: the rule of this optimizer, and its rival of one fixed learning rate for all networks.
    """

    learning_rate: float
    interval: Interval
    width: int
    base: int
    optimizer: str
    steps: int
    batch_size: int
    tries: pd.DataFrame
    settled: bool
    rule: RateRule
    fixed: RateRule
    level: float = LEVEL

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not conclusive, and what to do."""
        if np.isnan(self.learning_rate):
            return ("every short training diverged: check the network and its data.",)
        reasons = []
        if self.rule.error >= self.fixed.error:
            reasons.append(
                f"the sharpness does not tell the learning rate of {self.optimizer}: with figures left out this rule "
                f"erred by {self.rule.error:.2g} octaves, and {self.fixed.predict(1.0):.2g} for every network by "
                f"{self.fixed.error:.2g}. Sweep small widths in its place (suggest-lr without --from-sharpness)."
            )
        if not self.settled:
            reasons.append("the reading moves with the learning rate that it is taken at: sweep small widths.")
        return tuple(reasons)

    @property
    def conclusive(self) -> bool:
        """Whether the sharpness tells more than one learning rate for all networks, and was read as it should be."""
        return not self.reasons

    def __str__(self) -> str:
        low, high = self.interval
        rate = f"base learning rate {self.learning_rate:.3g} [{low:.3g}, {high:.3g}] ({self.level:.0%})"
        at = f"for width {self.width}, {self.optimizer}, quoted at base {self.base}"
        lines = [f"{rate} {at}" if self.conclusive else f"inconclusive: perhaps {rate} {at}"]
        lines += [f"  {reason}" for reason in self.reasons]
        if len(sound := self.tries.dropna()):
            last = sound.iloc[-1]
            lines.append(
                f"  sharpness {last['sharpness']:.3g} after {short_of(self.steps)} of {self.steps} steps at "
                f"{last['learning_rate']:.3g}: the stability threshold of {last['reading']:.3g}"
            )
        lines.append(
            f"  optima lay {self.rule.offset:+.1f} octaves from that on average, {self.rule.cases} of them in "
            f"{self.rule.figures} figures; with a figure left out, {self.rule.right:.0%} within an octave, error "
            f"{self.rule.error:.2g} octaves (of one fixed learning rate: {self.fixed.error:.2g})"
        )
        return "\n".join(lines)


@checked(build=function_or_name, loss=function_or_name)
def learning_rate_from_sharpness(
    build: str | Build,
    data: Any,
    *,
    base: int,
    width: int,
    loss: str | Loss = "cross_entropy",
    optimizer: str = "sgd",
    seeds: int = 2,
    batch_size: int = 64,
    steps: int = 200,
) -> SharpnessSuggestion:
    """The base learning rate that the sharpness after 10 % of a training points to, with a prediction interval.

    The network of this width, under muP, trains for a tenth of the steps; its sharpness then is the stability threshold
    of some learning rate (2/λ for SGD), and the optimum lies some octaves from there, as many as on average in this
    lab's sweeps with this optimizer (`sharplab.studies.suggest_lr.rate_rules`). Those read it at learning rates some
    octaves below the optimum. So the short training, which begins at the optimizer's usual learning rate, is repeated
    until that lies within half an octave of as far below the prediction.

    The interval holds the optimum in 80 % of figures left out, of this lab's small networks, with learning rates
    constant or falling linearly. Where a sharpness tells no more than one fixed learning rate does, `conclusive` is
    False, and `reasons` says so.

    Args:
        build, data, base, width, loss: as of `sharplab.suggest_learning_rate`.
        optimizer: a name that has a rule. Optimizers do not share one: with momentum the optimum lies octaves lower.
        seeds: over which the sharpness is averaged.
        batch_size, steps: of the training to come.

    Raises:
        ValueError: for bad arguments, a module whose muP cannot be told, and an optimizer without a rule.
        SweepError: if training failed.

    >>> from flax import nnx
    >>> def build(width, rngs):
    ...     return nnx.Sequential(nnx.Linear(4, width, rngs=rngs), nnx.tanh, nnx.Linear(width, 2, rngs=rngs))
    >>> inputs = np.random.default_rng(0).standard_normal((256, 4), dtype=np.float32)
    >>> data = inputs, (inputs[:, 0] * inputs[:, 1] > inputs[:, 2]).astype(int)
    >>> found = learning_rate_from_sharpness(build, data, base=8, width=16, optimizer="sgd", steps=50)
    >>> found.interval[0] < found.learning_rate < found.interval[1]
    True
    """
    rules = rate_rules()
    known = [name for name, one in rules["early"].items() if one.figures >= FEWEST_FIGURES]
    if optimizer not in known:
        raise ValueError(
            f"optimizer must be one whose optima several figures set against its sharpness, {', '.join(known)}, not "
            f"{optimizer!r}: sweep small widths, as by sharplab.suggest_learning_rate."
        )
    rule, below = rules["early"][optimizer], rules["recorded_rate"][optimizer].offset
    width = whole("width", width)
    settings = StudySettings(
        base=whole("base", base),
        width=width,
        widths=(width,),
        optimizer=optimizer,
        learning_rates=(),
        seeds=whole("seeds", seeds),
        batch_size=whole("batch_size", batch_size),
        steps=whole("steps", steps, FEWEST_STEPS),
        metric="train_loss",
    )
    trained = small_runs(build, data, None, loss, settings, Place())
    tries = list[dict[str, float]]()
    settled, rate = False, settings.usual_rate
    with tempfile.TemporaryDirectory() as passing:
        trained = replace(trained, place=Place(Path(passing)))
        while len(tries) < MOST_TRIES and not settled:
            tries.append(_try(trained, settings, rate))
            if np.isnan(tries[-1]["reading"]):
                rate /= BACK
                continue
            wanted = rule.predict(tries[-1]["reading"]) / 2.0**below
            settled = bool(abs(np.log2(wanted / rate)) <= SETTLED)
            rate = wanted
    reading = next((one["reading"] for one in reversed(tries) if one["reading"] > 0), np.nan)
    return SharpnessSuggestion(
        learning_rate=rule.predict(reading),
        interval=rule.interval(reading),
        width=width,
        base=settings.base,
        optimizer=optimizer,
        steps=settings.steps,
        batch_size=settings.batch_size,
        tries=pd.DataFrame(tries),
        settled=settled,
        rule=rule,
        fixed=rules[FIXED][optimizer],
    )


def short_of(steps: int) -> int:
    """The steps of a short training."""
    return round(EARLY * steps)


def _try(trained: SmallRuns, settings: StudySettings, rate: float) -> dict[str, float]:
    """The sharpness after a short training at a learning rate, and its reading; nan where a seed diverges."""
    steps, threshold = short_of(settings.steps), threshold_of(settings.optimizer_name, "sharpness")
    records = trained.record(settings.width, (rate,), steps, ("sharpness",), records=2)
    assert records.curves is not None
    last = records.curves.loc[records.curves["step"] == steps, "sharpness"].to_numpy(float)
    sound = (last > 0).all() and not records.runs["diverged"].any()
    sharpness = float(np.exp(np.log(last).mean())) if sound else np.nan
    return {"learning_rate": rate, "sharpness": sharpness, "reading": rate * threshold(rate) / sharpness}
