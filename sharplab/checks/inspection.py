"""The learning rate and the weight decay that an optimizer has in effect for each parameter, at several widths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd
from flax import nnx

from sharplab.checks.comparison import Comparison
from sharplab.checks.probing import Response, probe
from sharplab.checks.trainee import Build, Loss, OptimizerLike, make_trainee
from sharplab.checks.verdict import Verdict, overall
from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.statistics import slope_per_doubling
from sharplab.core.tree import PyTree
from sharplab.training.recipe import Recipe, RunState

TOLERANCE = 0.1  # of an exponent of width: those that muP knows are multiples of one half
_EPSILON = 0.1  # part of a step that may be lost to ε


@dataclass(frozen=True, eq=False)
class OptimizerInspection:
    """The effect of an optimizer on each parameter, against what the scaling asks for: made by `inspect_optimizer`.

    Attributes:
        parameters: one row per parameter, as `table()` says.
    """

    parameters: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """One row per parameter, by its path.

        Columns: `owner`, the class of the layer; `kind`, how steps go with gradients (`sharplab.scaling.KINDS`), or
        "frozen" where there are none at any width, of which nothing is asked;
        `exponent` of width with which its learning rate goes, and the one `expected` (NaN where nothing is);
        `decay_exponent` of learning rate × decay (NaN without decay); `coupled`, whether the decay is part of the
        gradient; `epsilon`, the largest part of a step that is lost to ε at any width, and `epsilon_grows`; `verdict`.
        """
        return self.parameters.copy()

    @property
    def verdict(self) -> Verdict:
        """ "fails" if a parameter does; "holds" if all do; "inconclusive" where it is not known what to expect."""
        return overall(verdict for verdict in self.parameters["verdict"] if verdict != "not asked")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences that say what is wrong, naming parameters and cause."""
        table = self.parameters
        wrong = table[_off(table["exponent"], table["expected"])]
        found = [*_decays(table), *_epsilons(table), *_learning_rates(wrong, table)]
        if self.verdict == "inconclusive":
            found.append("no learning-rate factors to compare with: give base= or factors=.")
        return tuple(found)

    def __str__(self) -> str:
        return "\n".join([f"optimizer: {self.verdict}", *(f"  {reason}" for reason in self.reasons)])


@checked()
def inspect_optimizer(
    build: Build,
    *,
    widths: Sequence[int],
    batch: Any,
    loss: Loss,
    optimizer: OptimizerLike = "adam",
    learning_rate: float = 2**-8,
    base: int | None = None,
    factors: Callable[[int], Mapping[str, float]] | None = None,
) -> OptimizerInspection:
    """The learning rate, decay and ε that an optimizer has in effect for each parameter, against what muP asks for.

    Per parameter and width, the step that random gradients of the model's size make gives the learning rate. Gradients
    2^10 times as large say whether steps go with them, and whether ε takes a part of the step. Steps without gradient,
    at weights w and 2w, show the weight decay: learning rate × decay must not depend on width, and the decay must be
    decoupled, a step of −c w.

    Args:
        build, widths, batch, loss, optimizer, learning_rate, base: as of `coordinate_check`.
        factors: width → the learning-rate factor of each parameter, by path, that the optimizer should have, as
            `Scaling.table()["lr_factor"]`; with `base` they are known. Up to a common constant: only how they go with
            width is compared.

    Raises:
        ValueError: for fewer than two widths, unknown names, and factors that lack a parameter.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from flax import nnx
    >>> def build(width, rngs):
    ...     return nnx.Linear(1, width, use_bias=False, rngs=rngs)
    >>> settings = {"widths": (4, 16), "batch": (jnp.ones((1, 1)), None), "loss": lambda outputs, _: outputs.sum()}
    >>> settings |= {"optimizer": lambda width: optax.sgd(1 / width), "factors": lambda width: {"kernel": 1.0}}
    >>> found = inspect_optimizer(build, **settings)
    >>> found.verdict, found.table()["exponent"].round(3).tolist()
    ('fails', [-1.0])
    """
    trainee = make_trainee(build, optimizer, learning_rate, base)
    compared = Comparison.of(trainee, widths, batch, loss)
    return OptimizerInspection(_parameters(compared, factors or trainee.factors))


def _parameters(compared: Comparison, factors: Callable[[int], Mapping[str, float]] | None) -> pd.DataFrame:
    """The response of every parameter, as `OptimizerInspection.table` describes."""
    found: list[dict[str, Response]] = []
    for width, _, recipe, run in compared.draw(seeds=1):
        gradient = _gradient(recipe, run, compared.batch)
        found.append(probe(compared.trainee.optimizer(width), run.params, gradient, jax.random.key(0)))
    expected = [factors(width) for width in compared.widths] if factors else None
    rows = {path: _row(path, compared.widths, [at[path] for at in found], expected) for path in found[0]}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")
    table.insert(0, "owner", pd.Series(_layer_classes(recipe, run)))
    return table.assign(verdict=[_verdict(row) for _, row in table.iterrows()])


@partial(jax.jit, static_argnums=0)
def _gradient(recipe: Recipe, run: RunState, batch: Any) -> PyTree:
    return jax.grad(recipe.training_loss, has_aux=True)(run.params, run.variables, batch)[0]


def _layer_classes(recipe: Recipe, run: RunState) -> dict[str, str]:
    """The class of the module that holds each parameter, by the parameter's path."""
    module = recipe.network.module(run.params, run.variables)
    classes = {"/".join(map(str, path)): type(part).__name__ for path, part in nnx.iter_modules(module)}
    return {path: classes.get(path.rpartition("/")[0], "") for path in tree.named_leaves(run.params)}


def _row(
    path: str, widths: Sequence[int], found: Sequence[Response], expected: Sequence[Mapping[str, float]] | None
) -> dict[str, Any]:
    frozen = all(response.kind == "frozen" for response in found)
    if frozen:
        expected = None
    if expected is not None and any(path not in at for at in expected):
        raise ValueError(f"factors has no entry for parameter {path!r}: give one for every path.")
    decays = np.abs([response.decay for response in found])
    decaying = bool((decays > 1e-6 * np.abs([r.learning_rate for r in found])).any())
    return {
        "kind": "frozen" if frozen else next(r.kind for r in reversed(found) if r.kind != "frozen"),
        "exponent": slope_per_doubling(widths, [r.learning_rate for r in found]),
        "expected": slope_per_doubling(widths, [at[path] for at in expected]) if expected else np.nan,
        "decay_exponent": slope_per_doubling(widths, decays) if decaying else np.nan,
        "decays": decaying,
        "coupled": any(r.coupled for r in found),
        "epsilon": max(r.epsilon for r in found),
        "epsilon_grows": found[-1].epsilon > found[0].epsilon + _EPSILON / 2,
    }


def _off(found: pd.Series, expected: pd.Series) -> pd.Series:
    return ~((found - expected).abs() <= TOLERANCE) & expected.notna()


def _verdict(row: pd.Series) -> Verdict | Literal["not asked"]:
    if row["kind"] == "frozen":
        return "not asked"
    decay_moves = row["decays"] and not abs(row["decay_exponent"]) <= TOLERANCE
    if row["coupled"] or decay_moves or (row["epsilon"] > _EPSILON and row["epsilon_grows"]):
        return "fails"
    if np.isnan(row["expected"]):
        return "inconclusive"
    return "holds" if abs(row["exponent"] - row["expected"]) <= TOLERANCE else "fails"


def _learning_rates(wrong: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    if len(wrong) and table["exponent"].max() - table["exponent"].min() <= TOLERANCE:
        first = wrong.index[0]
        return [
            f"the learning rate of every parameter goes as width^{_text(table['exponent'].mean())}, where muP asks for "
            f"{_asked(wrong)}: a plain optimizer instead of the scaled one ({first} and {len(wrong) - 1} more)."
        ]
    return [
        f"{path}, of {_what(path, row['owner'])}: its learning rate goes as width^{_text(row['exponent'])} and should "
        f"go as width^{_text(row['expected'])}."
        for path, row in wrong.iterrows()
    ]


def _asked(wrong: pd.DataFrame) -> str:
    return " or ".join(f"width^{_text(e)}" for e in sorted({round(e, 2) for e in wrong["expected"]}))


def _what(path: Any, owner: str) -> str:
    gain = "Norm" in owner and str(path).endswith(("scale", "bias"))
    return f"{owner}, a norm's {'gain' if str(path).endswith('scale') else 'bias'}" if gain else owner


def _decays(table: pd.DataFrame) -> list[str]:
    coupled = table[table["coupled"]]
    moving = table[table["decays"] & ~table["coupled"] & ~(table["decay_exponent"].abs() <= TOLERANCE)]
    said = []
    if len(coupled):
        said.append(
            f"weight decay is coupled: it is added to the gradient and passes through the optimizer's moments for "
            f"{_several(coupled)}; decay weights beside the step instead, as AdamW does."
        )
    if len(moving):
        exponents = [_text(e) for e in (moving["decay_exponent"].min(), moving["decay_exponent"].max())]
        goes = exponents[0] if exponents[0] == exponents[1] else " to ".join(exponents)
        said.append(
            f"learning rate × weight decay goes as width^{goes} for {_several(moving)}: multiply the decay by "
            "1/(learning-rate factor), so that weights decay alike at every width."
        )
    return said


def _epsilons(table: pd.DataFrame) -> list[str]:
    lost = table[(table["epsilon"] > _EPSILON) & table["epsilon_grows"]]
    if not len(lost):
        return []
    return [
        f"ε takes up to {lost['epsilon'].max():.0%} of the step of {_several(lost)}, more at larger widths: scale it "
        "with the gradient, or make it smaller."
    ]


def _several(rows: pd.DataFrame) -> str:
    named = ", ".join(map(str, rows.index[:3]))
    return f"{named} and {len(rows) - 3} more" if len(rows) > 3 else named


def _text(exponent: float) -> str:
    return f"{round(exponent, 2) + 0.0:g}"
