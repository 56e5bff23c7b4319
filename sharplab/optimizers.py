"""Named optimizers: the update direction, the metric it lives in, and where it turns unstable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from sharplab.core import tree
from sharplab.core.arguments import checked
from sharplab.core.imports import find
from sharplab.core.tree import PyTree, named_leaves

S = TypeVar("S")
KINDS = ("sgd", "adam", "spectral", "relative")  # the keys of `sharplab.scaling.KINDS`


@dataclass(frozen=True)
class Optimizer:
    """An update rule: steps of −η · (factors · direction + decay · w), η a number that compiled programs take as input.

    Directions of kinds other than "sgd" are of gradients in units of their size at the base (see
    `sharplab.scaling.Rule.gradient_scale`): so an ε beside the gradient's size keeps its meaning at every width.

    Attributes:
        directions: by kind of step, out of `KINDS`, gradients → direction, as an optax transformation of learning rate
            −1. Where there are two, hidden matrices take the "spectral" one.
        preconditioner: opt_state → P^-1, the positive diagonal that turns (scaled) gradients into directions up to
            momentum, like the parameters; None where there is none.
        threshold: η → the effective sharpness λmax(D^½ H D^½), D = factors · P^-1, above which a quadratic diverges; of
            steps that have `norms`, S/‖g‖* in their place, above which a step along the gradient may raise one. None
            where there is neither.
        decay: decoupled weight decay per unit of η, the same for every weight (so that LR × decay keeps its size).
        usual_learning_rate: about where the best one lies for networks at their base width, where searches begin;
            None where that is not known.
        norms: by kind of step, "spectral" or "linf" where its direction is the d of largest ⟨g, d⟩ with ‖d‖ ≤ 1, up to
            momentum. S is the largest dᵀHd over all parameters of these kinds together, ‖g‖* the sum of dual norms, and
            what a step of another kind moves is held.
        plateaus: η → the batch sharpness where training settles with small batches, and with large ones.
    """

    directions: Mapping[str, optax.GradientTransformation] = field(hash=False)
    preconditioner: Callable[[PyTree], PyTree] | None
    threshold: Callable[[float], float] | None
    decay: float = 0.0
    usual_learning_rate: float | None = None
    norms: Mapping[str, str] = field(default_factory=dict, hash=False)
    plateaus: Callable[[float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        if not self.directions or set(self.directions) - set(KINDS):
            raise ValueError(f"directions must be of kinds out of {', '.join(KINDS)}, not {list(self.directions)}.")
        if self.norms.keys() - self.directions.keys() or set(self.norms.values()) - {"spectral", "linf"}:
            raise ValueError(f"norms must be 'spectral' or 'linf' of kinds of its directions, not {dict(self.norms)}.")

    def kind(self, role: str) -> str:
        """The column of the parameterization's table that gives the learning-rate factor of weights of this role."""
        if role == "hidden" and "spectral" in self.directions:
            return "spectral"
        return next(kind for kind in self.directions if kind != "spectral")

    def direction(self, kinds: PyTree) -> optax.GradientTransformation:
        """Gradients → directions, of parameters whose kinds are the leaves of `kinds`."""
        if len(self.directions) == 1:
            return next(iter(self.directions.values()))
        return optax.partition(dict(self.directions), kinds)


def _identity_preconditioner(opt_state: PyTree) -> float:
    return 1.0


def _edge(ratio: float, decay: float = 0.0) -> Callable[[float], float]:
    """The threshold of steps of the rate η that shrink weights by 1 − ηγ: 2/η − γ, times what momentum makes of it."""
    return lambda eta: ratio * (2 / eta - decay)


def sgd() -> Optimizer:
    """Gradient descent, w ← w − η g: unstable above 2/η."""
    directions = {"sgd": optax.identity()}
    return Optimizer(directions, _identity_preconditioner, _edge(1), 0.0, 2.0**-2, plateaus=lambda eta: (2 / eta,) * 2)


@checked()
def momentum(beta: float = 0.9, *, nesterov: bool = False, weight_decay: float = 0.0) -> Optimizer:
    """Heavy-ball momentum, m ← β m + g and w ← (1 − ηγ) w − η m: unstable above (1+β)(2/η − γ), γ the weight decay.

    Nesterov's, whose steps are w ← (1 − ηγ) w − η (g + β m), is unstable above (1+β)/(1+2β) of 2/η − γ. Heavy ball's
    batch sharpness settles near 2(1−β)/η with small batches, where γ is small, and 2(1+β)/η with large ones.

    Source: Cohen et al., arXiv 2103.00065; arXiv 2604.14108 for small batches.
    """
    directions = {"sgd": optax.trace(beta, nesterov)}
    edge = _edge((1 + beta) / (1 + 2 * beta) if nesterov else 1 + beta, weight_decay)
    plateaus = None if nesterov else lambda eta: (2 * (1 - beta) / eta, 2 * (1 + beta) / eta)
    return Optimizer(directions, _identity_preconditioner, edge, weight_decay, 2.0**-5, plateaus=plateaus)


@checked()
def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0) -> Optimizer:
    """Adam, or AdamW where weights decay by γ: unstable where λmax of H preconditioned by P exceeds a threshold.

    It is (1+β₁)/(1−β₁) times 2/η − γ, hence 38/η without decay at β₁ = 0.9.
    P = (1−β₁^t)(√v̂ + ε), with v̂ the second moments corrected for their start at 0; NaN before the first step.
    Source: Cohen et al., arXiv 2207.14484.
    """

    def preconditioner(opt_state: Any) -> PyTree:
        moments = _adam_state(opt_state)
        (t,) = jax.tree.leaves(moments.count)  # which `nnx.Optimizer` wraps

        def inverse(v: jax.Array) -> jax.Array:
            wide = jnp.promote_types(v.dtype, jnp.float32)  # in 16 bits β₂ may be 1
            steps = t.astype(wide)
            root = jnp.sqrt(v.astype(wide) / (1 - b2**steps))
            return jnp.where(t > 0, 1 / ((1 - b1**steps) * (root + eps)), jnp.nan)

        return jax.tree.map(inverse, moments.nu)

    edge = _edge((1 + b1) / (1 - b1), weight_decay)
    return Optimizer({"adam": optax.scale_by_adam(b1, b2, eps)}, preconditioner, edge, weight_decay, 2.0**-8)


def _adam_state(opt_state: Any) -> optax.ScaleByAdamState:
    return _only_state(opt_state, optax.ScaleByAdamState, "Adam")


def _only_state(opt_state: Any, of: type[S], name: str) -> S:
    found = [s for s in jax.tree.leaves(opt_state, is_leaf=lambda s: isinstance(s, of)) if isinstance(s, of)]
    if len(found) != 1:
        raise ValueError(f"opt_state holds {len(found)} states of {name}: give the state of one {name}.")
    return found[0]


@checked()
def lion(b1: float = 0.9, b2: float = 0.99, weight_decay: float = 0.0) -> Optimizer:
    """Lion, steps of the signs of an interpolated momentum (arXiv 2302.06675): no diagonal makes them of gradients.

    Its sharpness is that in ℓ∞ over ‖g‖₁, to be compared with 2/η − γ (arXiv 2603.05002).
    """
    directions = {"adam": optax.scale_by_lion(b1, b2)}
    return Optimizer(directions, None, _edge(1, weight_decay), weight_decay, 2.0**-11, {"adam": "linf"})


@checked()
def muon(beta: float = 0.95, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Muon: hidden matrices step by their orthogonalised momentum, of spectral norm 1; all else by Adam.

    Its sharpness is that of the hidden matrices, in the spectral norm, over the sum of their gradients' nuclear norms,
    to be compared with 2/η (arXiv 2603.05002). What Adam steps is held: it is at an edge of its own.

    Source: Jordan et al., Muon, 2024, by `optax.contrib.scale_by_muon`.
    """
    spectral = contrib.scale_by_muon(beta=beta, weight_dimension_numbers=_rows_to_columns)
    directions = {"spectral": spectral, "adam": optax.scale_by_adam(b1, b2, eps)}
    return Optimizer(directions, None, _edge(1), 0.0, 2.0**-6, {"spectral": "spectral"})


def _rows_to_columns(updates: PyTree) -> PyTree:
    return jax.tree.map(lambda _: contrib.MuonDimensionNumbers(), updates)


class TrustRatioState(NamedTuple):
    """The trust ratio of each parameter in the last step, scalars like the parameters; NaN before the first."""

    ratios: PyTree


def _scale_by_trust_ratio(coefficient: float = 1.0) -> optax.GradientTransformation:
    """The transformation `optax.scale_by_trust_ratio`, whose state holds the ratios."""

    def init(params: PyTree) -> TrustRatioState:
        return TrustRatioState(jax.tree.map(lambda w: jnp.full((), jnp.nan, w.dtype), params))

    def update(updates: PyTree, state: TrustRatioState, params: PyTree = None) -> tuple[PyTree, TrustRatioState]:
        if params is None:
            raise ValueError("params are needed by the trust ratio: give update(gradients, state, params).")

        def ratio(u: jax.Array, w: jax.Array) -> jax.Array:
            (w_scaled, w_unit), (u_scaled, u_unit) = tree.in_own_unit(w), tree.in_own_unit(u)
            of_weight, of_update = jnp.linalg.norm(w_scaled.ravel()), jnp.linalg.norm(u_scaled.ravel())
            moves = (of_weight > 0) & (of_update > 0)
            scaled = coefficient * of_weight / jnp.where(moves, of_update, 1)
            return jnp.where(moves, scaled * (w_unit / u_unit), 1).astype(w.dtype)

        ratios = jax.tree.map(ratio, updates, params)
        return jax.tree.map(jnp.multiply, updates, ratios), TrustRatioState(ratios)

    return optax.GradientTransformation(init, update)


def trust_ratios(opt_state: Any) -> PyTree:
    """The trust ratio ‖w‖/‖u‖ of each parameter in the last step, scalars like the parameters; NaN before the first.

    u is what the ratio multiplies: Adam's direction under LAMB, the gradient under LARS, whose coefficient is a factor
    of the ratio. It is 1 where w or u is 0. The state is one of `lamb` or `lars`, alone or within others, such as a
    scaled optimizer's or `RunState.opt_state`.

    Raises:
        ValueError: for a state without trust ratios, as of `optax.lamb`, which forgets them.

    >>> direction, params = lars().direction(None), {"w": jnp.array([3.0, 4.0])}
    >>> _, state = direction.update({"w": jnp.array([0.0, 0.5])}, direction.init(params), params)
    >>> trust_ratios(state)["w"].item()
    10.0
    """
    return _only_state(opt_state, TrustRatioState, "trust ratios").ratios


@checked()
def lamb(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6) -> Optimizer:
    """LAMB: Adam's direction u of each parameter times its trust ratio ‖w‖/‖u‖, so that η is the share it moves by.

    The ratio is a part of the metric D. With D held as it stands, steps are unstable above Adam's threshold; as D goes
    as 1/‖u‖, it grows where gradients vanish. A parameter of norm 0 has the ratio 1, as in optax: its first step is
    Adam's, of which no factor of width is right, so draw the readout small rather than 0.

    Source: You et al., arXiv 1904.00962, without weight decay, as `optax.lamb`.
    """
    of_adam = adam(b1, b2, eps)
    (direction,) = of_adam.directions.values()

    def preconditioner(opt_state: Any) -> PyTree:
        assert of_adam.preconditioner is not None
        return jax.tree.map(jnp.multiply, of_adam.preconditioner(opt_state), trust_ratios(opt_state))

    directions = {"relative": optax.chain(direction, _scale_by_trust_ratio())}
    return Optimizer(directions, preconditioner, of_adam.threshold, 0.0, 2.0**-6)


@checked()
def lars(beta: float = 0.9, trust_coefficient: float = 1.0) -> Optimizer:
    """LARS: heavy-ball momentum of gradients times the trust ratio ‖w‖/‖g‖ of each parameter and a coefficient.

    The coefficient is 1 here and 0.001 in optax, whose learning rates are 1000 times as large. The ratio is a part of
    the metric D. With D held as it stands, steps are unstable above momentum's threshold 2(1+β)/η. A parameter of norm
    0 has the ratio 1: see `lamb`.

    Source: You et al., arXiv 1708.03888, without weight decay, as `optax.lars` at a learning rate that stays: there
    the momentum holds earlier ones.
    """
    of_momentum = momentum(beta)
    (direction,) = of_momentum.directions.values()

    def preconditioner(opt_state: Any) -> PyTree:
        traces = _only_state(opt_state, optax.TraceState, "momentum").trace
        return jax.tree.map(lambda m, r: jnp.broadcast_to(r, m.shape), traces, trust_ratios(opt_state))

    directions = {"relative": optax.chain(_scale_by_trust_ratio(trust_coefficient), direction)}
    return Optimizer(directions, preconditioner, of_momentum.threshold, 0.0, 2.0**-8)


_MAKERS: Mapping[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": partial(momentum, nesterov=True),
    "adam": adam,
    "adamw": partial(adam, weight_decay=0.01),
    "lion": lion,
    "muon": muon,
    "lars": lars,
    "lamb": lamb,
}
OPTIMIZERS: Mapping[str, Optimizer] = {name: make() for name, make in _MAKERS.items()}


@cache
def find_optimizer(name: str) -> Optimizer:
    """The optimizer `name` of `OPTIMIZERS`, or one's own as "module:attribute@tag": an `Optimizer`, or what makes one.

    One object per name and process, so that its programs are compiled once.

    Raises:
        ValueError: for an unknown name, and for something else than an optimizer.
    """
    return OPTIMIZERS[name] if name in OPTIMIZERS else make_optimizer(name)


def make_optimizer(name: str, **options: Any) -> Optimizer:
    """The optimizer of a name, as of `find_optimizer`, with other constants than the usual.

    Raises:
        ValueError: for an unknown name, and for options that it has not.

    >>> make_optimizer("adam", b1=0.5).threshold(1.0)
    6.0
    """
    made = find("optimizer", name, _MAKERS)
    if not isinstance(made, Optimizer) or options:
        try:
            made = made(**options)
        except TypeError as error:
            given = ", ".join(options) or "no arguments"
            raise ValueError(f"optimizer {name!r} cannot take {given}: {error}.") from error
    if not isinstance(made, Optimizer):
        raise ValueError(f"optimizer {name!r} made a {type(made).__name__}: let it return a sharplab Optimizer.")
    return made


@lru_cache(maxsize=256)
def from_optax(transformation: optax.GradientTransformation) -> Optimizer:
    """The optimizer whose step at learning rate 1 adds the updates of an optax transformation, learning rate inside.

    One object per transformation, so that its programs are compiled once.

    >>> found = from_optax(optax.sgd(0.5))
    >>> direction = found.direction(None)
    >>> direction.update(jnp.ones(2), direction.init(jnp.zeros(2)), None)[0].tolist()
    [0.5, 0.5]
    """

    def update(gradient: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        updates, state = transformation.update(gradient, state, params)
        return jax.tree.map(jnp.negative, updates), state

    return Optimizer({"sgd": optax.GradientTransformation(transformation.init, update)}, None, None)


def step_metric(optimizer: Optimizer, factors: PyTree, scales: PyTree, opt_state: PyTree) -> PyTree:
    """The metric D, with steps −η D g up to momentum, like the parameters: factors · P^-1 / gradient scales.

    Raises:
        ValueError: for an optimizer whose steps no diagonal makes of gradients.
    """
    inverse = preconditioner_of(optimizer, opt_state)
    per_scale = jax.tree.map(lambda f, s: f / s, factors, scales)
    return per_scale if isinstance(inverse, float) else jax.tree.map(jnp.multiply, per_scale, inverse)


def preconditioner_of(optimizer: Optimizer, opt_state: PyTree) -> PyTree:
    """P^-1, like the parameters, or the number 1.

    Raises:
        ValueError: for an optimizer that has none.
    """
    if optimizer.preconditioner is None:
        raise ValueError("this optimizer has no metric: no diagonal turns gradients into its steps.")
    return optimizer.preconditioner(opt_state)


def metric_of_state(optimizer: Optimizer, params: PyTree, opt_state: PyTree) -> PyTree:
    """The metric D of unscaled steps −η D g, up to momentum, like the parameters: P^-1 of any state that holds one.

    Moments are found by the names of their parameters, in the state of optax, of a chain around it, of a Linen
    `TrainState` or of an `nnx.Optimizer`. Parameters that the optimizer was not given, as under `optax.masked`, have 0.

    Raises:
        ValueError: for an optimizer whose steps no diagonal makes of gradients, and for a state of other parameters.

    >>> state = optax.adam(0.1).init({"w": jnp.zeros(2)})
    >>> _, state = optax.adam(0.1).update({"w": jnp.array([2.0, 0.5])}, state)
    >>> metric_of_state(adam(), {"w": jnp.zeros(2)}, state)["w"].round(3).tolist()  # 1/((1 − β₁) |g|)
    [5.0, 20.0]
    """
    inverse = preconditioner_of(optimizer, opt_state)
    if isinstance(inverse, float):
        return jax.tree.map(lambda _: inverse, params)
    known, names = named_leaves(inverse), named_leaves(params)
    for name, moments in known.items():
        if name not in names or moments.shape != names[name].shape:
            raise ValueError(
                f"opt_state has moments of {name!r}, of shape {moments.shape}, which params has not: give the params "
                "that the optimizer was initialised with."
            )
    leaves = [known.get(name, 0.0) for name in names]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
