"""The scaling of one module under muP: what it prescribes, and its application to weights and optimizers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import jax
import optax
from flax import nnx

from sharplab.core.arguments import checked, key_or_seed
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.optimizers import Optimizer, find_optimizer, make_optimizer
from sharplab.scaling.abc import KINDS
from sharplab.scaling.depth import ONE_BLOCK, DepthRule
from sharplab.scaling.parameters import ScaledParameter, parameter_table
from sharplab.scaling.transformation import Factors, metric_of, resize, scaled, scaled_optimizer

if TYPE_CHECKING:
    import pandas as pd


NAMES: Mapping[str, str] = {"mup": "muP", "ntk": "NTK", "standard": "standard"}
# With which exponent of width the readout's multiplier falls where its weights are those of the embedding.
TIED_READOUT: Mapping[str, float] = {"mup": 1.0, "ntk": 0.5, "standard": 0.0}


@dataclass(frozen=True)
class Scaling:
    """muP for one module at one width and depth, without multipliers: made by `sharplab.mup`.

    Attributes:
        parameters: every parameter, sorted as the module's state is.
        width, base: the width that this is for, and the one at which it changes nothing.
        algorithm: a name of `sharplab.optimizers.OPTIMIZERS`, or an `Optimizer`.
        depth: the scaling of residual branches.
        build: `build(width, rngs)`, or `build(width, depth, rngs)` if `with_depth`; None after `from_dict` without it.
    """

    parameters: tuple[ScaledParameter, ...]
    width: int
    base: int
    algorithm: str | Optimizer
    depth: DepthRule = ONE_BLOCK
    with_depth: bool = False
    build: Callable[..., Any] | None = None

    @property
    def parameterization(self) -> str:
        """ "mup", "ntk" or "standard"."""
        return self.parameters[0].growth.parameterization

    @property
    def readout_multiplier(self) -> float:
        """What the forward pass must multiply its logits by: 1 unless the embedding is the readout too.

        A table in two roles can be scaled as one of them only. It is, as an embedding, so that under muP a readout from
        width n lacks a factor 1/n (formulation 8: arXiv 2203.03466, table 8), under NTK its multiplier 1/√n.
        """
        tied = any(p.growth.role == "tied" for p in self.parameters)
        return (self.base / self.width) ** TIED_READOUT[self.parameterization] if tied else 1.0

    @property
    def branch_multiplier(self) -> float:
        """What the forward pass must multiply each residual branch by: (depth/base depth)^-α."""
        return self.depth.multiplier

    def lr_factor(self, parameter: ScaledParameter, kind: str) -> float:
        """What the learning rate of an optimizer of this kind is multiplied by."""
        of_depth = self.depth.lr_factor(kind) if parameter.in_branch else 1.0
        return of_depth / self._of_width(parameter, kind)

    def decay_factor(self, parameter: ScaledParameter, kind: str) -> float:
        """What the parameter's decay is multiplied by, so that LR × decay is the same at every width.

        1 of relative steps: a trust ratio takes the weights as they are, and decay lies within it.
        """
        return 1.0 if kind == "relative" else self._of_width(parameter, kind)

    def _of_width(self, parameter: ScaledParameter, kind: str) -> float:
        return self._ratio ** parameter.growth.exponents.c[kind]

    def gradient_scale(self, parameter: ScaledParameter) -> float:
        """How large the parameter's gradient is, in units of that at the bases: the unit of Adam's ε."""
        of_width = self._ratio**parameter.growth.exponents.gradient
        return of_width * (self.depth.multiplier if parameter.in_branch else 1.0)

    @checked(key=key_or_seed)
    def init(self, key: jax.Array | int) -> Any:
        """The module at this width, each parameter drawn by its own initialiser and brought to its size under muP.

        What all draws have alike, such as zeros and ones, stays; so does whatever is not an `nnx.Param`. At the base
        this is `build(width, nnx.Rngs(key))`.

        Raises:
            ValueError: without `build`, or if it makes another module than when the scaling was made.
        """
        if self.build is None:
            raise ValueError("init needs the module's build: restore this scaling by Scaling.from_dict(saved, build).")
        module = self.build(*size_of(self), nnx.Rngs(key))
        resize(module, {p.path: (p.shape, p.init_factor) for p in self.parameters}, self._made_for)
        return module

    @checked()
    def optimizer(self, learning_rate: float | optax.Schedule, **options: Any) -> optax.GradientTransformationExtraArgs:
        """The optimizer that this scaling is for, for `nnx.Optimizer(model, …, wrt=nnx.Param)` or any optax loop.

        Args:
            learning_rate: as tuned at the base, a number or an optax schedule.
            options: of `sharplab.optimizers.make_optimizer`, such as b1, eps, weight_decay.

        Steps are −η (factor · direction + decay · w). Gradients of other kinds than "sgd" come in units of their size
        at the base, so that ε keeps its meaning. `init` and `update` refuse parameters of other shapes.
        """
        optimizer = _optimizer(self.algorithm, options)
        kinds = {p.path: optimizer.kind(p.growth.role) for p in self.parameters}
        axes = {p.path: p.growth.matrix for p in self.parameters if p.growth.matrix is not None}
        return scaled_optimizer(optimizer, learning_rate, self._factors(optimizer.kind), kinds, axes)

    def scale(self, transformation: optax.GradientTransformation, kind: str) -> optax.GradientTransformationExtraArgs:
        """Your own optax optimizer, learning rate inside, with updates and gradients scaled as its kind asks.

        `kind` is one of `sharplab.scaling.KINDS`; "spectral" is taken to be so of hidden matrices and sign-like of all
        else, as Muon is. The optimizer sees weights multiplied by their decay factors, so that a decoupled weight decay
        within it acts as the table says. Of other kinds than "sgd" it sees gradients in units of their size at the
        base, whose norm goes with width: a clip by the gradients' own norm belongs in front of it, as in
        `optax.chain(optax.clip_by_global_norm(1.0), scaling.scale(optax.adamw(learning_rate), "adam"))`.
        """
        lookup("kind", kind, KINDS)
        return scaled(
            transformation, self._factors(lambda role: "adam" if kind == "spectral" and role != "hidden" else kind)
        )

    def metric(self, params: PyTree, opt_state: PyTree, **options: Any) -> PyTree:
        """D of steps −η D g up to momentum, like the parameters: the metric of `sharplab.Tracker`.

        `opt_state` is of `optimizer(learning_rate, **options)`, the options the same (`functools.partial` keeps them),
        or of a transformation around it. Parameters that the optimizer is not given, as those that `optax.partition`,
        `optax.masked` or the `wrt` of an `nnx.Optimizer` leave out, have D = 0. Of updates that are set to zero
        afterwards the state knows nothing: freeze by one of these.

        Raises:
            ValueError: for an optimizer whose steps no diagonal makes of gradients, and for a state of several.
        """
        optimizer = _optimizer(self.algorithm, options)
        return metric_of(optimizer, self._factors(optimizer.kind), params, opt_state)

    def table(self) -> "pd.DataFrame":
        """One row per parameter.

        `fan_in` and `fan_out` are ratios to the base; `init_exponent` is what its initialiser was found to do with
        width, before it was corrected to `init_std`; `multiplier` is what the forward pass must put in front of it.
        """
        factors = self._factors(_optimizer(self.algorithm, {}).kind)
        return parameter_table(self.parameters, factors, self._ratio, self.readout_multiplier)

    def __str__(self) -> str:
        name = self.algorithm if isinstance(self.algorithm, str) else "an optimizer of your own"
        lines = [
            f"{NAMES[self.parameterization]} for {self._made_for}, trained by {name}",
            self.table().to_string(float_format="%.4g"),
            "init_exponent: how the initialiser's own std was found to go with width; init_std: what it is brought to.",
        ]
        if self.readout_multiplier != 1:
            lines.append(f"Multiply the logits by {self.readout_multiplier:.6g}: the embedding is the readout too.")
        if self.branch_multiplier != 1:
            lines.append(f"Multiply each residual branch by {self.branch_multiplier:.6g}, (depth/base depth)^-α.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The scaling but for `build`, and an `Optimizer` of your own, in plain types that JSON holds."""
        return {
            "parameters": [asdict(p) for p in self.parameters],
            "width": self.width,
            "base": self.base,
            "algorithm": self.algorithm if isinstance(self.algorithm, str) else None,
            "depth": asdict(self.depth),
            "with_depth": self.with_depth,
        }

    @classmethod
    def from_dict(
        cls, saved: Mapping[str, Any], build: Callable[..., Any] | None = None, *, optimizer: Optimizer | None = None
    ) -> "Scaling":
        """The scaling that `to_dict` saved; `build` is needed to `init` again, `optimizer` if it was your own.

        Raises:
            ValueError: if `optimizer` is missing.
        """
        algorithm = saved["algorithm"] or optimizer
        if algorithm is None:
            raise ValueError("this scaling was saved with an optimizer of your own: give it as optimizer=.")
        parameters = tuple(map(ScaledParameter.from_dict, saved["parameters"]))
        depth = DepthRule(**saved["depth"])
        return cls(parameters, saved["width"], saved["base"], algorithm, depth, saved["with_depth"], build)

    @property
    def _ratio(self) -> float:
        return self.width / self.base

    @property
    def _made_for(self) -> str:
        depth = f", depth {self.depth.depth} (base {self.depth.base_depth}, α = {self.depth.alpha:g})"
        return f"width {self.width} (base {self.base}){depth if self.with_depth else ''}"

    def _factors(self, kind_of: Callable[[str], str]) -> Factors:
        """The factors of an optimizer whose kind, for weights of each role, is `kind_of(role)`."""
        kinds = [kind_of(p.growth.role) for p in self.parameters]
        parts = list(zip(self.parameters, kinds, strict=True))
        return Factors(
            shapes={p.path: p.shape for p in self.parameters},
            learning_rates=tuple(self.lr_factor(p, kind) for p, kind in parts),
            decays=tuple(self.decay_factor(p, kind) for p, kind in parts),
            gradients=tuple(1.0 if kind == "sgd" else self.gradient_scale(p) for p, kind in parts),
            made_for=self._made_for,
        )


def size_of(scaling: Scaling) -> tuple[int, ...]:
    """What the build of a scaling takes before rngs: the width, and the depth if it has one."""
    return (scaling.width, scaling.depth.depth) if scaling.with_depth else (scaling.width,)


def _optimizer(algorithm: str | Optimizer, options: Mapping[str, Any]) -> Optimizer:
    if isinstance(algorithm, str):
        return make_optimizer(algorithm, **options) if options else find_optimizer(algorithm)
    if options:
        raise ValueError(f"{', '.join(options)}: an optimizer of your own has its constants already.")
    return algorithm
