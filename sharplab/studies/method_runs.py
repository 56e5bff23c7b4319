"""Methods that find their learning rate beside each other on one problem, and how near to instability each stays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from sharplab.core.arguments import checked, count, function, of
from sharplab.core.tree import PyTree
from sharplab.curvature import hessian, precondition
from sharplab.curvature.functions import as_partial
from sharplab.spectrum.extremal import eigsh
from sharplab.studies.lr_free import Method, counted_in, in_units, units_of
from sharplab.studies.orders import checked_order


@dataclass(frozen=True)
class MethodRuns:
    """Runs of several methods from the same starts on the same batches, one lane each.

    Attributes:
        lanes: a row per lane: method; learning_rate, the one given, NaN where none is; seed, of the start.
        steps: how many were taken at each record, (records,), 0 first.
        losses: on the probe, (records, lanes), of the parameters that the method says count.
        rates: the learning rate of the last update before each record, (records, lanes), NaN at first.
        halfway: of each lane, after half of the steps, the parameters in a row, (lanes, parameters), and √P^-1 in the
            parameters' units likewise, NaN where no threshold is known.
        thresholds: the effective sharpness at which steps of the rate then used turn unstable, (lanes,).
    """

    lanes: pd.DataFrame
    steps: np.ndarray
    losses: np.ndarray
    rates: np.ndarray
    halfway: tuple[jax.Array, jax.Array]
    thresholds: np.ndarray


@checked(loss=function, records=count)
def run_methods(
    loss: Callable[[PyTree, PyTree], jax.Array],
    params: PyTree,
    methods: Mapping[str, Method],
    data: PyTree,
    orders: np.ndarray,
    *,
    probe: PyTree,
    rates: Mapping[str, Sequence[float]] | None = None,
    factors: Mapping[str, PyTree] | None = None,
    records: int = 24,
) -> MethodRuns:
    """The runs of each method from each start, all lanes beside each other in one compiled program.

    Each is given the parameters as one vector: these methods act on coordinates and on sums over all of them. Rates,
    factors, starts and data may change without a new program; methods are the same if they are the same objects.

    Args:
        loss: (params, batch) → the mean loss.
        params: the starts, with a leading axis of seeds.
        methods: by name, as of `lr_free_methods`.
        data: all examples, arrays with a leading axis.
        orders: which examples make up the batch of each step of each seed, (seeds, steps, batch).
        probe: the batch on which losses are recorded.
        rates: by method, learning rates by which its updates are multiplied, a lane each: for methods that need one,
            such as `nadamw`.
        factors: "sgd" and "adam" → the factor of the learning rate of each parameter, scalars like the params of one
            seed, as of the parameterization; 1 by default. Methods run in the units that they give (`units_of`).
        records: how many there are after the start, spread over the steps; even, so that one is halfway.

    Raises:
        ValueError: for a bad argument, named.

    >>> from sharplab.studies.lr_free import lr_free_methods
    >>> def loss(w, batch):
    ...     return 0.5 * ((w[None] - batch) ** 2).mean()
    >>> data, starts = jax.random.normal(jax.random.key(0), (64, 3)), jnp.full((2, 3), 2.0)
    >>> orders = np.random.default_rng(0).integers(64, size=(2, 60, 16))
    >>> methods = {name: lr_free_methods()[name] for name in ("dog", "prodigy")}
    >>> found = run_methods(loss, starts, methods, data, orders, probe=data)
    >>> found.lanes["method"].tolist(), found.losses.shape
    (['dog', 'dog', 'prodigy', 'prodigy'], (25, 4))
    """
    seeds = {np.shape(w)[:1] for w in jax.tree.leaves(params)}
    orders = np.asarray(orders)
    if len(seeds) != 1 or () in seeds or orders.ndim != 3 or orders.shape[:1] not in seeds:
        raise ValueError(
            "orders must have the shape (seeds, steps, batch), and params a leading axis of as many seeds."
        )
    checked_order(orders.reshape(-1, orders.shape[-1]), data)
    number, steps = orders.shape[:2]
    if records % 2 or records > steps:
        raise ValueError(f"records must be even, and at most the {steps} steps, not {records}.")
    given = {name: tuple((rates or {}).get(name, ())) for name in methods}
    if not methods or (unknown := set(rates or {}) - set(methods)):
        raise ValueError(f"rates has {sorted(unknown)}, which methods lacks." if methods else "methods is empty.")
    if not all(0 < rate < np.inf for each in given.values() for rate in each):
        raise ValueError("rates must be positive, finite learning rates.")
    lanes = pd.DataFrame(
        [(name, rate, seed) for name, each in given.items() for rate in each or (np.nan,) for seed in range(number)],
        columns=["method", "learning_rate", "seed"],
    )
    one = jax.tree.map(lambda w: w[0], params)
    ones = jax.tree.map(lambda _: 1.0, one)
    units = {kind: units_of((factors or {}).get(kind, ones), kind) for kind in ("sgd", "adam")}
    problem = _Problem(as_partial(loss, one), one, units, data, probe)
    table = tuple(methods.values())
    multiples = tuple(jnp.asarray(each or (1.0,), jnp.float32) for each in given.values())
    ends = np.round(np.linspace(0, steps, records + 1)).astype(np.int32)
    spans = np.stack([ends[:-1], ends[1:]], axis=1).reshape(2, -1, 2)
    states, first = _begin(table, problem, multiples, params)
    states, early = _train(table, problem, multiples, states, orders, spans[0])
    halfway = _metrics(table, problem, multiples, states)
    _, late = _train(table, problem, multiples, states, orders, spans[1])
    losses, used = (
        np.concatenate([np.asarray(x, float) for x in part]) for part in zip(first, early, late, strict=True)
    )
    ratios = lanes["method"].map({name: method.ratio for name, method in methods.items()}).to_numpy(float)
    with np.errstate(divide="ignore"):
        thresholds = ratios * 2 / used[records // 2]
    return MethodRuns(lanes, ends, losses, used, halfway, thresholds)


@partial(jax.tree_util.register_dataclass, data_fields=["loss", "like", "units", "data", "probe"], meta_fields=[])
@dataclass(frozen=True)
class _Problem:
    loss: Partial
    like: PyTree
    units: Mapping[str, PyTree]
    data: PyTree
    probe: PyTree

    def of(self, w: jax.Array, batch: PyTree) -> jax.Array:
        """The loss of parameters in a row."""
        return self.loss(ravel_pytree(self.like)[1](w), batch)

    def scales(self, kind: str) -> jax.Array:
        """The units of a kind, in a row."""
        return ravel_pytree(jax.tree.map(lambda s, w: jnp.full_like(w, s), self.units[kind], self.like))[0]

    def transformation(self, method: Method) -> optax.GradientTransformationExtraArgs:
        return in_units(method.transformation, self.scales(method.kind))


class _Lanes(NamedTuple):
    """All lanes: parameters in rows, (lanes of all methods, seeds, parameters), states by method, rates."""

    params: jax.Array
    states: tuple[PyTree, ...]
    rates: jax.Array


def _parts(x: jax.Array, multiples: tuple[jax.Array, ...]) -> list[jax.Array]:
    """The rows of each method."""
    return jnp.split(x, np.cumsum([len(each) for each in multiples])[:-1])


@partial(jax.jit, static_argnums=0)
def _begin(
    methods: tuple[Method, ...], problem: _Problem, multiples: tuple[jax.Array, ...], params: PyTree
) -> tuple[_Lanes, tuple[jax.Array, jax.Array]]:
    starts = jax.vmap(lambda w: ravel_pytree(w)[0])(params)
    lanes = sum(map(len, multiples))
    rows = jnp.broadcast_to(starts, (lanes, *starts.shape))
    states = tuple(
        jax.vmap(jax.vmap(problem.transformation(method).init))(part)
        for method, part in zip(methods, _parts(rows, multiples), strict=True)
    )
    seen = _losses(methods, problem, multiples, rows, states)
    nothing = jnp.full(rows.shape[:2], jnp.nan, rows.dtype)
    return _Lanes(rows, states, nothing), (seen.reshape(1, -1), nothing.reshape(1, -1))


def _losses(
    methods: tuple[Method, ...],
    problem: _Problem,
    multiples: tuple[jax.Array, ...],
    rows: jax.Array,
    states: tuple[PyTree, ...],
) -> jax.Array:
    """The losses on the probe, (lanes of all methods, seeds)."""
    counted = [
        jax.vmap(jax.vmap(partial(_evaluated, method, problem)))(state, part)
        for method, part, state in zip(methods, _parts(rows, multiples), states, strict=True)
    ]
    return jax.vmap(jax.vmap(problem.of, (0, None)), (0, None))(jnp.concatenate(counted), problem.probe)


def _evaluated(method: Method, problem: _Problem, state: PyTree, w: jax.Array) -> jax.Array:
    if method.evaluated is None:
        return w
    scales = problem.scales(method.kind)
    return jnp.where(scales == 0, w, scales * method.evaluated(state, counted_in(scales, w)))


@partial(jax.jit, static_argnums=0)
def _train(
    methods: tuple[Method, ...],
    problem: _Problem,
    multiples: tuple[jax.Array, ...],
    lanes: _Lanes,
    orders: jax.Array,
    spans: jax.Array,
) -> tuple[_Lanes, tuple[jax.Array, jax.Array]]:
    """Lanes after the steps of all spans, and at the end of each their losses and learning rates, (spans, lanes)."""
    orders = jnp.asarray(orders)

    def one(
        method: Method, w: jax.Array, state: PyTree, g: jax.Array, value: jax.Array, multiple: jax.Array
    ) -> tuple[jax.Array, PyTree, jax.Array]:
        updates, after = problem.transformation(method).update(g, state, w, value=value)
        rate = method.rate(state, after, counted_in(problem.scales(method.kind), w))
        return w + multiple * updates, after, multiple * rate

    def gradients(rows: jax.Array, batch: PyTree) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(jax.value_and_grad(problem.of), (0, None))(rows, batch)

    def step(t: jax.Array, lanes: _Lanes) -> _Lanes:
        batch = jax.tree.map(lambda x: x[orders[:, t]], problem.data)
        values, gradient = jax.vmap(gradients, (1, 0), (1, 1))(lanes.params, batch)
        moved = [
            jax.vmap(jax.vmap(partial(one, method), (0, 0, 0, 0, None)))(w, state, g, value, multiple)
            for method, state, multiple, w, g, value in zip(
                methods,
                lanes.states,
                multiples,
                *(_parts(x, multiples) for x in (lanes.params, gradient, values)),
                strict=True,
            )
        ]
        rows, states, rates = zip(*moved, strict=True)
        return _Lanes(jnp.concatenate(rows), tuple(states), jnp.concatenate(rates).astype(lanes.rates.dtype))

    def record(lanes: _Lanes, span: jax.Array) -> tuple[_Lanes, tuple[jax.Array, jax.Array]]:
        lanes = jax.lax.fori_loop(span[0], span[1], step, lanes)
        return lanes, (_losses(methods, problem, multiples, lanes.params, lanes.states).ravel(), lanes.rates.ravel())

    return jax.lax.scan(record, lanes, jnp.asarray(spans))


@partial(jax.jit, static_argnums=0)
def _metrics(
    methods: tuple[Method, ...], problem: _Problem, multiples: tuple[jax.Array, ...], lanes: _Lanes
) -> tuple[jax.Array, jax.Array]:
    """The parameters of all lanes and √P^-1 in their units, (lanes, parameters)."""
    count = lanes.params.shape[-1]

    def root(method: Method, state: PyTree) -> jax.Array:
        inverse = jnp.nan if method.inverse is None else method.inverse(state)
        return jnp.sqrt(inverse) * problem.scales(method.kind)

    found = [
        jax.vmap(jax.vmap(partial(root, method)))(state) for method, state in zip(methods, lanes.states, strict=True)
    ]
    return lanes.params.reshape(-1, count), jnp.concatenate(found).reshape(-1, count)


@checked(loss=function, found=of(MethodRuns, "as run_methods returns it"))
def sharpness_halfway(
    loss: Callable[[PyTree, PyTree], jax.Array], found: MethodRuns, like: PyTree, probe: PyTree, lanes: Sequence[int]
) -> np.ndarray:
    """The effective sharpness λmax(P^-½ H P^-½) on the probe of some lanes after half of the steps, (lanes,).

    To be compared with `found.thresholds`; NaN where no threshold is known and where the run has diverged.

    Args:
        loss, probe: as of `run_methods`.
        like: the params of one seed.
        lanes: which, as rows of `found.lanes`.
    """
    rows = np.asarray(lanes)
    params, roots = (x[rows] for x in found.halfway)
    return np.asarray(_largest(as_partial(loss, like), like, params, roots, probe), float)


@jax.jit
def _largest(loss: Partial, like: PyTree, params: jax.Array, roots: jax.Array, probe: PyTree) -> jax.Array:
    def in_a_row(w: jax.Array, batch: PyTree) -> jax.Array:
        return loss(ravel_pytree(like)[1](w), batch)

    def one(lane: tuple[jax.Array, jax.Array]) -> jax.Array:
        w, root = lane
        return eigsh(precondition(hessian(in_a_row, w, probe), root), tol=1e-2).values[0]

    return jax.lax.map(one, (params, roots))
