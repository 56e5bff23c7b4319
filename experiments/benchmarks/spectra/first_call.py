"""The first call in a process, compilation included: solver, critical sharpness, tracker, and Lanczos by hand."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from harness import seconds_of
from jax.flatten_util import ravel_pytree

import sharplab as sl

WIDTHS = (16, 32, 32, 4)  # 1,732 parameters
STEPS = 10
Params = list[tuple[jax.Array, jax.Array]]


def first_call(contestant: str) -> float:
    """Seconds until the first answer of a contestant."""
    keys = jax.random.split(jax.random.key(0), len(WIDTHS))
    shapes = zip(keys, WIDTHS[:-1], WIDTHS[1:], strict=False)
    params = [(jax.random.normal(key, (a, b)) / a**0.5, jnp.zeros(b)) for key, a, b in shapes]
    batch = (jax.random.normal(keys[-1], (64, WIDTHS[0])), jnp.arange(64) % WIDTHS[-1])
    return seconds_of(FIRST_CALLS[contestant], *jax.block_until_ready((params, batch)))


def _loss(params: Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, labels = batch
    for weight, bias in params[:-1]:
        x = jnp.tanh(x @ weight + bias[None])
    logs = jax.nn.log_softmax(x @ params[-1][0] + params[-1][1][None])
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1))


def _by_hand(params: Params, batch: Any) -> Any:
    """Ten steps with two full orthogonalisations each, and the top Ritz pair."""
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def lanczos(flat: jax.Array, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient = jax.grad(lambda w: _loss(unravel(w), batch))

        def step(j: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            Q, T = state
            w = jax.jvp(gradient, (flat,), (Q[j],))[1]
            along = Q[j] @ w
            for _ in range(2):
                w = w - (Q @ w) @ Q
            beta = jnp.linalg.norm(w)
            return Q.at[j + 1].set(w / beta), T.at[j, j].set(along).at[j, j + 1].set(beta).at[j + 1, j].set(beta)

        q = jax.random.normal(key, flat.shape)
        Q = jnp.zeros((STEPS + 1, flat.size)).at[0].set(q / jnp.linalg.norm(q))
        Q, T = jax.lax.fori_loop(0, STEPS, step, (Q, jnp.zeros((STEPS + 1,) * 2)))
        values, vectors = jnp.linalg.eigh(T[:STEPS, :STEPS])
        return values[-1], vectors[:, -1] @ Q[:STEPS]

    return lanczos(flat, batch, jax.random.key(0))


def _solve(k: int) -> Callable[[Params, Any], Any]:
    return lambda params, batch: sl.eigsh(sl.hessian(_loss, params, batch), k).values


def _record(observable: str) -> Callable[[Params, Any], Any]:
    return lambda params, batch: sl.Tracker(_loss, batch, ("train_loss", observable)).record(0, params)


def _critical(params: Params, batch: Any) -> Any:
    return sl.critical_sharpness(_loss, params, jax.tree.map(jnp.negative, jax.grad(_loss)(params, batch)), batch).value


BY_HAND = "Lanczos by hand"
FIRST_CALLS: Mapping[str, Callable[[Params, Any], Any]] = {
    BY_HAND: _by_hand,
    "eigsh, top-1": _solve(1),
    "eigsh, top-3": _solve(3),
    "critical sharpness": _critical,
    "tracker, sharpness": _record("sharpness_raw"),
    "tracker, top-3": _record("hessian_top3"),
}
