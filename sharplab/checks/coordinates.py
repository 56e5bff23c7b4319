"""The coordinate check: whether activations, and their changes in training, keep their size as a network widens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sharplab.checks.causes import likely_causes, undecided
from sharplab.checks.comparison import Comparison, check_counts
from sharplab.checks.recording import LOGITS, WHOLE, queries_and_keys, record_outputs
from sharplab.checks.trainee import Build, Loss, OptimizerLike, make_trainee
from sharplab.checks.verdict import Verdict, judge, overall
from sharplab.core.arguments import checked
from sharplab.core.naming import lookup
from sharplab.core.statistics import Interval, mean_interval, slope_per_doubling
from sharplab.core.tree import PyTree
from sharplab.training.network import Variables
from sharplab.training.recipe import Recipe, RunState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENCE = 0.95
# Few coordinates say less about their size than many do. A factor of √width too many or too few, the least that a wrong
# multiplier or learning rate makes, is a slope of ½: half of that tells the two apart.
FEW_TOLERANCE = 0.25
# Whether changes of coordinates whose number is the same at every width must keep their size.
OUTPUTS_ARE_ASKED: Mapping[str, bool] = {"mup": True, "mean_field": True, "standard": False, "ntk": False}


@dataclass(frozen=True, eq=False)
class CoordinateCheck:
    """The sizes of every module's coordinates over width: made by `coordinate_check`.

    Attributes:
        records: one row per width, seed, step and module, as `table()` says.
        tolerance: the largest slope per doubling of width at which hidden coordinates count as flat.
        parameterization: what is asked of coordinates of fixed number.
    """

    records: pd.DataFrame
    tolerance: float
    parameterization: str

    def table(self) -> pd.DataFrame:
        """The sizes, in the columns width, seed, step, module, kind, coordinates, size and change.

        `size` is mean |x|, `change` mean |x − x at step 0|; means are over all `coordinates` that the module puts out
        for the batch. Their `kind` is "output" for the network's own, "hidden" if their number goes with width,
        "logits" for what attention gives to its softmax, else "free". A change below 100 units of rounding counts as
        none, in 16 bits one below a single unit.
        """
        return self.records.copy()

    def slopes(self) -> pd.DataFrame:
        """The slopes of log₂ size per doubling of width, per module and step: of `size` at step 0, else `change`.

        `low` and `high` bound the mean slope over seeds with 95 % confidence (t); `verdict` is "holds" if all of the
        interval lies within the one that is `asked`, "fails" if none of it does, "not asked" where `asked` is None.
        What is 0 at every width and seed has no row.
        """
        return self._slopes.copy()

    @cached_property
    def _slopes(self) -> pd.DataFrame:
        rows = []
        for (module, kind, step), table in self.records.groupby(["module", "kind", "step"], sort=False):
            quantity = "size" if step == 0 else "change"
            if (table[quantity] == 0).all():
                continue
            per_seed = [slope_per_doubling(one["width"], one[quantity]) for _, one in table.groupby("seed")]
            slope, interval = mean_interval(per_seed, CONFIDENCE)
            asked = self._asked(str(kind), quantity)
            verdict = "not asked" if asked is None else judge(interval, asked)
            rows.append((module, kind, quantity, step, slope, *interval, asked, verdict))
        columns = ["module", "kind", "quantity", "step", "slope", "low", "high", "asked", "verdict"]
        return pd.DataFrame(rows, columns=columns)

    def _asked(self, kind: str, quantity: str) -> Interval | None:
        if kind == "hidden":
            return -self.tolerance, self.tolerance
        if kind == "free" or (quantity == "change" and not OUTPUTS_ARE_ASKED[self.parameterization]):
            return None
        may_fall = quantity == "size" or kind == "logits"
        return -np.inf if may_fall else -FEW_TOLERANCE, FEW_TOLERANCE

    @cached_property
    def _decisive(self) -> pd.DataFrame:
        """The slopes at the start and after the last step, where something is asked of them."""
        ends = self._slopes["step"].isin((0, self.records["step"].max()))
        return self._slopes[ends & (self._slopes["verdict"] != "not asked")]

    @property
    def _overflowing(self) -> list[int]:
        """The widths at which an activation is not finite."""
        finite = np.isfinite(self.records[["size", "change"]]).all(axis=1)
        return sorted(self.records.loc[~finite, "width"].unique())

    @property
    def _still(self) -> bool:
        return not (self._slopes["quantity"] == "change").any()

    @property
    def verdict(self) -> Verdict:
        """ "fails" if a slope at the start or after the last step does, "holds" if all do, else "inconclusive"."""
        if self._overflowing:
            everywhere = len(self._overflowing) == self.records["width"].nunique()
            return "inconclusive" if everywhere else "fails"
        return "inconclusive" if self._still else overall(self._decisive["verdict"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences that say what does not hold, naming modules and the likely cause; none if all holds."""
        if self._overflowing:
            widths = ", ".join(map(str, self._overflowing))
            return (f"activations are not finite at width {widths}: the learning rate is too large there.",)
        if self._still:
            return ("no activation changes by more than rounding: raise the learning rate, or take more steps.",)
        decisive = self._decisive[self._decisive["verdict"] == self.verdict]
        if self.verdict == "fails":
            return likely_causes(decisive, self._slopes)
        return undecided(decisive) if self.verdict == "inconclusive" else ()

    def draw(self) -> "Figure":
        """The figure of sizes at the start and changes after the last step over width, and of all slopes."""
        from sharplab.checks.drawing import draw_coordinates

        return draw_coordinates(self.records, self._slopes, self.tolerance)

    def __str__(self) -> str:
        return "\n".join([f"coordinates: {self.verdict}", *(f"  {reason}" for reason in self.reasons)])


@checked()
def coordinate_check(
    build: Build,
    *,
    widths: Sequence[int],
    batch: Any,
    loss: Loss,
    optimizer: OptimizerLike = "adam",
    learning_rate: float = 2**-8,
    base: int | None = None,
    steps: int = 4,
    seeds: int = 5,
    parameterization: str = "mup",
    tolerance: float = 0.1,
) -> CoordinateCheck:
    """The slopes with width of activations, and of what a few steps on one batch change of them.

    Recorded is what each `nnx` submodule puts out (`sharplab.checks.record_outputs`), attention logits among it. Of
    coordinates whose number grows ("hidden"), mean |x| at the start and mean |x − x at step 0| after the last step must
    be flat: the log₂ slope per doubling of width within ±`tolerance`. Of others:
    - the network's outputs are few, so that ±¼ counts as flat. Their size at the start must not rise. Their change must
      be flat under "mup" and "mean_field"; under "standard" and "ntk" nothing is asked of it, since it grows even with
      layerwise learning rates that transfer (Everett et al., arXiv 2407.05872);
    - attention logits must not rise by more than ¼; they may fall until queries and keys have aligned;
    - nothing is asked of the queries and keys of `nnx.MultiHeadAttention`, between which muP may move a factor, nor of
      other coordinates of fixed number: a multiplier may follow.

    Args:
        build: `build(width, rngs)` → an `nnx.Module` that is called as model(inputs). Batch statistics and dropout
            act as the module is given; a seed's activations are compared under one dropout mask.
        batch: (inputs, targets); a loader of such batches, whose first is taken; or a function without arguments that
            returns either.
        loss: (outputs, targets) → a scalar, as `sharplab.losses` has them.
        optimizer: an optax transformation for all widths, or a function from width to one, learning rate inside; or a
            name out of `sharplab.optimizers.OPTIMIZERS`.
        learning_rate: the learning rate of an optimizer given by its name.
        base: with it, `sharplab.mup` scales the network and the named optimizer from that width. For options of `mup`,
            or a network scaled by other means, give the scaled `build` and `optimizer` as functions of width.
        seeds: two at least: intervals come from seeds.
        parameterization: of `sharplab.scaling.PARAMETERIZATIONS`: what is asked of the outputs.

    Raises:
        ValueError: for fewer than two widths or seeds, no steps, or unknown names.

    Source: Yang et al., arXiv 2203.03466, appendix D.1.

    >>> import optax
    >>> from flax import nnx
    >>> def build(width, rngs):  # of which a step of η changes every output by η
    ...     return nnx.Linear(1, width, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)
    >>> settings = {"widths": (4, 16), "batch": (jnp.ones((1, 1)), None), "loss": lambda outputs, _: outputs.sum()}
    >>> coordinate_check(build, optimizer=optax.sgd(0.5), seeds=2, **settings).verdict
    'holds'
    >>> found = coordinate_check(build, optimizer=lambda width: optax.sgd(width / 8), steps=1, seeds=2, **settings)
    >>> found.verdict, found.slopes()["slope"].round(3).tolist()
    ('fails', [1.0])
    """
    lookup("parameterization", parameterization, OUTPUTS_ARE_ASKED)
    check_counts(steps=steps, seeds=seeds)
    trainee = make_trainee(build, optimizer, learning_rate, base)
    records = _records(Comparison.of(trainee, widths, batch, loss), steps, seeds)
    return CoordinateCheck(records, tolerance, parameterization)


def _records(compared: Comparison, steps: int, seeds: int) -> pd.DataFrame:
    """The sizes and changes of every network, as `CoordinateCheck.table` describes."""
    parts, free = [], set()
    for width, seed, recipe, run in compared.draw(seeds):
        free |= queries_and_keys(recipe.network.module(run.params, run.variables))
        rows = _records_of_one(recipe, run, compared.batch, steps)
        parts.append(pd.DataFrame(rows).assign(width=width, seed=seed))
    records = pd.concat(parts, ignore_index=True)
    growing = records.groupby("module")["coordinates"].transform("nunique") > 1
    kind = pd.Series(np.where(growing, "hidden", "free")).mask(records["module"].isin(free), "free")
    kind = kind.mask(records["module"].str.endswith(LOGITS), "logits")
    kind = kind.mask(records["module"].str.startswith(WHOLE), "output")
    columns = ["width", "seed", "step", "module", "kind", "coordinates", "size", "change"]
    return records.assign(kind=kind)[columns]


def _records_of_one(recipe: Recipe, run: RunState, batch: Any, steps: int) -> list[dict[str, str | float]]:
    start, trajectory = run, []
    for _ in range(steps + 1):
        run, sizes = _measure_and_step(recipe, run, start, batch)
        trajectory.append(sizes)
    return [
        {"step": step, "module": module} | {name: number.item() for name, number in numbers.items()}
        for step, sizes in enumerate(jax.device_get(trajectory))
        for module, numbers in sizes.items()
    ]


@partial(jax.jit, static_argnums=0)
def _measure_and_step(
    recipe: Recipe, run: RunState, start: RunState, batch: Any
) -> tuple[RunState, dict[str, dict[str, jax.Array]]]:
    """The run after a step, and the sizes before it, by one program; dropout masks are those of the start."""
    before = _outputs_of_modules(recipe, start.params, start.variables, batch[0])
    masked = run.variables._replace(randomness=start.variables.randomness)
    now = _outputs_of_modules(recipe, run.params, masked, batch[0])
    return recipe.update(run, 1.0, batch)[0], {path: _sizes(x, before[path]) for path, x in now.items()}


@partial(jax.jit, static_argnums=0)
def _outputs_of_modules(recipe: Recipe, params: PyTree, variables: Variables, inputs: Any) -> dict[str, jax.Array]:
    return record_outputs(recipe.network.module(params, variables), inputs)


def _sizes(x: jax.Array, before: jax.Array) -> dict[str, jax.Array]:
    eps = float(jnp.finfo(x.dtype).eps)
    x, before = (y.astype(jnp.promote_types(y.dtype, jnp.float32)) for y in (x, before))
    size, change = jnp.mean(jnp.abs(x)), jnp.mean(jnp.abs(x - before))
    # In 16 bits a hundred roundings are as large as any change; the mean of many coordinates is finer than one.
    changed = ~(change <= min(100 * eps, max(eps, 1e-4)) * size)
    return {"coordinates": jnp.asarray(x.size), "size": size, "change": jnp.where(changed, change, 0)}
