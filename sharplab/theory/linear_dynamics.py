"""The two-layer linear network under full-batch gradient descent: closed dynamics at every width, infinite included.

The network f(x) = xᵀAB has effective weights A (D, N) and B (N, C), multipliers included. Under a base learning rate η
they move by −ηa ∂L/∂A and −ηb ∂L/∂B, where a and b are LR factor × multiplier² of their layer. With

    u = AB,   s = a BᵀB,   Q = b AAᵀ,   k = ab,   g = ∂L/∂u,

a step of gradient descent is

    Δu = −η (g s + Q g) + η² k g uᵀ g
    Δs = −η k (gᵀu + uᵀg) + η² k gᵀ Q g
    ΔQ = −η k (g uᵀ + u gᵀ) + η² k g s gᵀ,

in which the width is gone but for the coupling k: γ₀² (over D) under muP; γ₀²/N (over D) under NTK, where s and Q thus
freeze as N grows (the lazy limit). tr Q − tr s is conserved to first order in η.

The spectrum of the Hessian in the metric of the step, D^½HD^½ = G + R, is known from (u, s, Q) too. G has the
eigenvalues of Σ⊗s + Σ^½QΣ^½⊗1, Σ = XᵀX/P; R is, for each neuron, √k [[0, g], [gᵀ, 0]], with eigenvalues ±√k σᵢ(g).

Source: Noci et al., arXiv 2402.17457, section 4, for one output; several outputs follow in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.losses import squared_error
from sharplab.scaling import Rule


@partial(jax.tree_util.register_dataclass, data_fields=["u", "s", "Q", "coupling"], meta_fields=[])
@dataclass(frozen=True)
class LinearState:
    """The state that the training of a two-layer linear network with D inputs and C outputs depends on.

    Attributes:
        u: its function, f(x) = xᵀu; shape (D, C).
        s: the factor of the first layer's kernel, shape (C, C).
        Q: the readout's kernel, xᵀQx'; shape (D, D).
        coupling: k, how strongly learning feeds back on s and Q; 0 in a lazy limit.
    """

    u: jax.Array
    s: jax.Array
    Q: jax.Array
    coupling: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["steps", "state", "loss", "hessian", "gauss_newton", "residual"],
    meta_fields=[],
)
@dataclass(frozen=True)
class LinearTrajectory:
    """A training run at T steps; eigenvalues are those in the metric of the step, as of D^½HD^½.

    Attributes:
        steps: shape (T,).
        state: with leading axis T.
        loss: ½ mean‖f − y‖², shape (T,).
        hessian: λmax(G + R), shape (T,).
        gauss_newton: every eigenvalue of G that need not be 0, descending; shape (T, min(P, D)·C) for P examples.
        residual: √k σᵢ(g), descending, shape (T, min(D, C)): with its negative, each is an eigenvalue of R once per
            neuron; all others are 0.
    """

    steps: jax.Array
    state: LinearState
    loss: jax.Array
    hessian: jax.Array
    gauss_newton: jax.Array
    residual: jax.Array


def linear_state(first: jax.Array, readout: jax.Array, rule: Rule) -> LinearState:
    """The state of a network with the given weights, trained by SGD.

    Args:
        first: the weights between inputs and neurons, as drawn, without multiplier; shape (D, N).
        readout: those between neurons and outputs, shape (N, C).
        rule: gives multipliers and learning-rate factors; N is its width.

    Raises:
        ValueError: if the shapes do not fit each other and the rule.

    >>> from sharplab.scaling import parameterization
    >>> rule = Rule(parameterization("mean_field"), width=2)  # multipliers 1 and 1/N, learning rates N
    >>> state = linear_state(jnp.array([[1.0, 3.0]]), jnp.array([[1.0], [1.0]]), rule)
    >>> [float(x.squeeze()) for x in (state.u, state.s, state.Q, state.coupling)]
    [2.0, 1.0, 5.0, 1.0]
    """
    features, width = first.shape
    if readout.ndim != 2 or not width == len(readout) == rule.width:
        raise ValueError(
            f"first has shape {first.shape} and readout {readout.shape} under a rule of width {rule.width}: "
            "give (D, N), (N, C) and N."
        )
    A = rule.multiplier("input", features) * first
    B = rule.multiplier("output", width) * readout
    a, b = _speeds(rule, features)
    return LinearState(A @ B, a * B.T @ B, b * A @ A.T, jnp.asarray(a * b, A.dtype))


def infinite_linear_state(rule: Rule, features: int, outputs: int, key: jax.Array) -> LinearState:
    """The limit of freshly drawn states as the width grows without bound.

    s and Q are multiples of 1. Under muP u is 0 and the coupling stays; under NTK the coupling is 0, and u remains
    random, with independent normal entries (a Gaussian process at initialisation).

    `features` is D, `outputs` C. The width of the rule does not count, and the key is for u.

    Raises:
        ValueError: if there is no limit, as under "standard", whose kernel grows with width.

    >>> from sharplab.scaling import parameterization
    >>> for name in ("mup", "ntk"):
    ...     state = infinite_linear_state(Rule(parameterization(name), 1), 4, 1, jax.random.key(0))
    ...     print(name, float(state.s[0, 0]), float(state.Q[0, 0]), float(state.coupling), bool(state.u.any()))
    mup 0.25 0.25 0.25 False
    ntk 0.25 0.25 0.0 True
    """
    base = replace(rule, width=rule.base_width)
    first, readout = (rule.parameterization.roles[role] for role in ("input", "output"))
    a, b = _speeds(base, features)
    A_variance = (base.multiplier("input", features) * base.init_std("input", features)) ** 2
    B_variance = (base.multiplier("output", base.width) * base.init_std("output", base.width)) ** 2
    # How each goes with width: as n to the power of 1 for a sum over neurons, less what the exponents say.
    a_falls, b_falls = first.c["sgd"] + 2 * first.a, readout.c["sgd"] + 2 * readout.a
    A_falls, B_falls = 2 * (first.a + first.b), 2 * (readout.a + readout.b)

    def limit(name: str, at_base: float, growth: float) -> float:
        if growth > 0:
            raise ValueError(f"{rule.parameterization.name} has no limit of infinite width: {name} grows with it.")
        return at_base if growth == 0 else 0.0

    u_variance = limit("u", base.width * A_variance * B_variance, 1 - A_falls - B_falls)
    return LinearState(
        u_variance**0.5 * jax.random.normal(key, (features, outputs)),
        limit("s", a * base.width * B_variance, 1 - a_falls - B_falls) * jnp.eye(outputs),
        limit("Q", b * base.width * A_variance, 1 - b_falls - A_falls) * jnp.eye(features),
        jnp.asarray(limit("the coupling", a * b, -a_falls - b_falls), float),
    )


def linear_trajectory(
    state: LinearState,
    inputs: jax.typing.ArrayLike,
    targets: jax.typing.ArrayLike,
    learning_rate: jax.typing.ArrayLike,
    steps: Sequence[int] | np.ndarray | jax.Array,
) -> LinearTrajectory:
    """The trajectory of gradient descent on `losses.squared_error` from `state`, at some steps.

    Each record solves some ten dense eigenproblems of size min(P, D)·C. Usable under `jit` and `vmap`.

    Args:
        inputs: X, shape (P, D).
        targets: shape (P, C), or class indices (P,).
        learning_rate: the base learning rate η.
        steps: whole numbers from 0 on, ascending.

    Raises:
        ValueError: for other steps, where they are not traced.

    >>> X = jnp.eye(2)
    >>> lazy = LinearState(jnp.zeros((2, 1)), jnp.eye(1), jnp.eye(2), jnp.zeros(()))
    >>> trajectory = linear_trajectory(lazy, X, jnp.ones((2, 1)), 0.5, [0, 1, 2])
    >>> trajectory.loss.tolist()  # the error halves with each step: X(s + Q)Xᵀ/P is 1
    [0.5, 0.125, 0.03125]
    >>> trajectory.gauss_newton[0].round(4).tolist(), trajectory.residual[0].tolist()
    ([1.0, 1.0], [0.0])
    """
    if not any(isinstance(step, jax.core.Tracer) for step in jax.tree.leaves(steps)):
        _check_steps(np.asarray(steps))
    return _trajectory(state, jnp.asarray(inputs), jnp.asarray(targets), learning_rate, jnp.asarray(steps))


def _check_steps(steps: np.ndarray) -> None:
    whole = steps.ndim == 1 and np.issubdtype(steps.dtype, np.integer)
    if not whole or (np.diff(steps, prepend=0) < 0).any():
        raise ValueError(f"steps must be whole numbers from 0 on, ascending, not {steps.tolist()}.")


@jax.jit
def _trajectory(
    state: LinearState, inputs: jax.Array, targets: jax.Array, learning_rate: jax.typing.ArrayLike, steps: jax.Array
) -> LinearTrajectory:
    def to_next(state: LinearState, count: jax.Array) -> tuple[LinearState, tuple]:
        state = jax.lax.fori_loop(0, count, lambda _, now: _descend(now, inputs, targets, learning_rate), state)
        return state, (state, *_observe(state, inputs, targets))

    _, records = jax.lax.scan(to_next, state, jnp.diff(steps, prepend=0))
    return LinearTrajectory(steps, *records)


def _speeds(rule: Rule, features: int) -> tuple[float, float]:
    """The speeds a and b of the effective weights of either layer, per unit of base learning rate."""
    a = rule.lr_factor("input") * rule.multiplier("input", features) ** 2
    return a, rule.lr_factor("output") * rule.multiplier("output", rule.width) ** 2


def _loss_and_gradient(state: LinearState, inputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(lambda u: squared_error(inputs @ u, targets))(state.u)


def _descend(
    state: LinearState, inputs: jax.Array, targets: jax.Array, learning_rate: jax.typing.ArrayLike
) -> LinearState:
    u, s, Q, k = state.u, state.s, state.Q, state.coupling
    _, g = _loss_and_gradient(state, inputs, targets)
    h = learning_rate * g
    return LinearState(
        u - h @ s - Q @ h + k * h @ u.T @ h,
        s - k * (h.T @ u + u.T @ h) + k * h.T @ Q @ h,
        Q - k * (h @ u.T + u @ h.T) + k * h @ s @ h.T,
        k,
    )


def _observe(state: LinearState, inputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, ...]:
    """The loss, the top eigenvalue of the Hessian, the eigenvalues of G, and the positive ones of R."""
    loss, g = _loss_and_gradient(state, inputs, targets)
    root = jnp.linalg.qr(inputs, mode="r") / len(inputs) ** 0.5  # rootᵀ root = Σ
    gauss_newton = jnp.linalg.eigvalsh(_resolvent(state, root, g, jnp.ones_like(loss), 0.0))[::-1]
    residual = jnp.sqrt(state.coupling) * jnp.linalg.svd(g, compute_uv=False)
    return loss, _hessian_top(state, root, g, gauss_newton[0], residual[0]), gauss_newton, residual


def _resolvent(
    state: LinearState, root: jax.Array, g: jax.Array, shift: jax.Array, share: jax.typing.ArrayLike
) -> jax.Array:
    """The matrix J(λ − c R)⁻¹Jᵀ on the D·C outputs, λ the `shift`, c the `share`, G = JᵀJ; at λ = 1, c = 0 it is JJᵀ.

    A neuron's weights in the metric are (√b A_n, √a B_n), their sums of squares Q, s and, mixed, √k u. R acts on
    each neuron alike, so that the sum over neurons can be done, and leaves these.
    """
    k_root, D = jnp.sqrt(state.coupling), len(state.Q)
    R = jnp.zeros((D + g.shape[1],) * 2, g.dtype).at[:D, D:].set(k_root * g).at[D:, :D].set(k_root * g.T)
    inverse = jnp.linalg.inv(shift * jnp.eye(len(R)) - share * R)
    mixed, crossed = root @ (k_root * state.u), root @ inverse[:D, D:]
    straight = jnp.kron(root @ inverse[:D, :D] @ root.T, state.s) + jnp.kron(root @ state.Q @ root.T, inverse[D:, D:])
    across = jnp.einsum("id,jc->icjd", crossed, mixed) + jnp.einsum("id,jc->icjd", mixed, crossed)
    return straight + across.reshape(straight.shape)


def _hessian_top(
    state: LinearState, root: jax.Array, g: jax.Array, gauss_newton: jax.Array, residual: jax.Array
) -> jax.Array:
    """The largest eigenvalue of G + R, given those of G and R.

    Above λmax(R), the eigenvalues of G + R are the λ at which J(λ − R)⁻¹Jᵀ has an eigenvalue 1. Its largest one, m(λ),
    falls with λ; 1/m is concave, so that Newton's iterations for 1/m = 1 rise monotonically once below the root.
    """

    def largest(shift: jax.Array) -> jax.Array:
        return jnp.linalg.eigvalsh(_resolvent(state, root, g, shift, 1.0))[-1]

    def improve(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        _, now = pair
        m, slope = jax.value_and_grad(largest)(now)
        return now, jnp.maximum(now + m * (1 - m) / slope, (now + residual) / 2)

    def unfinished(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        last, now = pair
        return jnp.abs(now - last) > 8 * jnp.finfo(now.dtype).eps * now

    start = gauss_newton + residual  # no eigenvalue of G + R lies above
    return jax.lax.while_loop(unfinished, improve, (jnp.full_like(start, jnp.inf), start))[1]
