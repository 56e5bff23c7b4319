"""What a checkpoint's arrays are put into: a Flax model as a function, and the state of an optimizer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from sharplab.core import tree
from sharplab.core.foreign_arrays import canonical
from sharplab.core.jaxprs import leaves_read
from sharplab.core.tree import PyTree
from sharplab.optimizers import Optimizer
from sharplab.tracking.matching import Arrays, place_of, place_of_params, require_fit


@dataclass(frozen=True)
class Point:
    """What one checkpoint holds of a model: its parameters, and what else the outputs depend on."""

    params: PyTree
    state: PyTree
    place: str  # of the parameters in the checkpoint


@dataclass(frozen=True, eq=False)
class Template:
    """A model as `apply(params, inputs, state)` → outputs, with params and state of the right structure.

    Attributes:
        params, state: as the model was built, arrays or their shapes.
        read: the names in `state` that outputs depend on, which a checkpoint must have.
    """

    apply: Callable[..., Any]
    params: PyTree
    state: PyTree
    read: tuple[str, ...]

    def point(self, arrays: Arrays, place: str | None) -> Point:
        """The parameters and state that arrays hold.

        Raises:
            ValueError: where they lack something, have more, or other shapes.
        """
        shapes = {name: leaf.shape for name, leaf in _named(self.params).items()}
        where = place_of_params(arrays, list(shapes), place)
        above = where.rstrip("/").rpartition("/")[0]
        beside = [where, f"{above}/" if above else ""]  # Linen keeps other collections beside the parameters
        others = place_of(arrays, self.read, "the model's state", beside) if self.read else where
        named = _named(self.state)
        require_fit(arrays, shapes, where, {prefix + name for prefix in {*beside, others} for name in named})
        params = _filled(self.params, {name: arrays[where + name] for name in shapes})
        taken = {name: arrays[others + name] for name in self.read}
        for name, array in taken.items():
            if array.shape != named[name].shape:
                raise ValueError(f"{others}{name} has the shape {array.shape}, {named[name].shape} in the model.")
        return Point(params, _filled(self.state, taken), where)


def template_of(model: Any, inputs: PyTree) -> Template:
    """The template of an NNX or Linen module, on inputs like these.

    Dropout is off in NNX; all else, as whether batch statistics are the running ones, is as the module is built.

    Raises:
        ValueError: for something else, and for a module without parameters.
    """
    if isinstance(model, nnx.Module):
        apply, params, state = _of_nnx(model)
    elif isinstance(model, linen.Module):
        apply, params, state = _of_linen(model, inputs)
    else:
        raise ValueError(f"model must be an NNX or a Linen module, not a {type(model).__name__}.")
    if not jax.tree.leaves(params):
        raise ValueError("model has no parameters.")
    if len(_named(params)) < len(jax.tree.leaves(params)):
        raise ValueError("model has two parameters whose names differ in 'value' alone: name them apart.")
    read = names_read(lambda state, params: apply(params, inputs, state), state, params)
    made = _named(_random_or_constant(state))
    return Template(apply, params, state, tuple(name for name in read if name not in made))


def _of_nnx(model: nnx.Module) -> tuple[Callable[..., Any], PyTree, PyTree]:
    model.set_attributes(deterministic=True, raise_if_not_found=False)
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    params, state = states

    def apply(params: PyTree, inputs: PyTree, state: PyTree) -> Any:
        return nnx.merge(graphdef, params, state, copy=True)(inputs)

    return apply, params, state


def _of_linen(model: linen.Module, inputs: PyTree) -> tuple[Callable[..., Any], PyTree, PyTree]:
    variables = linen.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), inputs))
    state = {name: collection for name, collection in variables.items() if name != "params"}

    def apply(params: PyTree, inputs: PyTree, state: PyTree) -> Any:
        return model.apply({"params": params, **state}, inputs, mutable=list(state))[0]

    return apply, variables.get("params", {}), state


def _random_or_constant(state: PyTree) -> PyTree:
    """The part of an NNX state that the module makes for itself: random keys, and arrays that are no variables."""
    if not isinstance(state, nnx.State):
        return {}
    flat = nnx.to_flat_state(state)
    kept = [(path, leaf) for path, leaf in flat if isinstance(leaf, nnx.RngState) or not isinstance(leaf, nnx.Variable)]
    return nnx.from_flat_state(kept)


def names_read(function: Callable[..., Any], first: PyTree, *others: PyTree) -> list[str]:
    """The names of those leaves of its first argument that a function reads."""
    used = leaves_read(function, first, *others)
    return [name for name, read in zip(_named(first), used, strict=False) if read]


def state_of(optimizer: Optimizer, params: PyTree, arrays: Arrays) -> PyTree:
    """The optimizer's state in a checkpoint, as far as its metric reads it; scalars stand for all else.

    Raises:
        ValueError: for an optimizer without a metric, and where the checkpoint lacks what it reads.
    """
    if optimizer.preconditioner is None:
        raise ValueError("this optimizer has no metric: no diagonal turns gradients into its steps.")
    template, read = _read_by_metric(optimizer, params)
    if not read:
        return None
    place = place_of(arrays, read, "the optimizer's state")
    shapes = {name: leaf.shape for name, leaf in _named(template).items()}
    for name in read:
        if arrays[place + name].shape != shapes[name]:
            raise ValueError(f"{place}{name} has the shape {arrays[place + name].shape}, not {shapes[name]}.")
    none = np.zeros((), np.float32)
    return _filled(template, {name: arrays[place + name] if name in read else none for name in shapes})


def reads_state(optimizer: Optimizer) -> bool:
    """Whether the optimizer's metric is made of its state."""
    return optimizer.preconditioner is not None and bool(_read_by_metric(optimizer, jnp.zeros(1))[1])


def _read_by_metric(optimizer: Optimizer, params: PyTree) -> tuple[PyTree, list[str]]:
    """The shapes of the optimizer's state, and the names in it that its metric reads."""
    assert optimizer.preconditioner is not None
    (direction,) = optimizer.directions.values()
    shapes = jax.eval_shape(direction.init, params)
    return shapes, names_read(optimizer.preconditioner, shapes)


def _named(of: PyTree) -> dict[str, Any]:
    return {canonical(name): leaf for name, leaf in tree.named_leaves(of).items()}


def _filled(like: PyTree, found: Mapping[str, np.ndarray]) -> PyTree:
    """The pytree with arrays by name, in the wider of both types; where there is none the leaf stays as it is."""

    def one(name: str, leaf: Any) -> jax.Array:
        if name not in found:
            return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        return jnp.asarray(found[name], jax.dtypes.canonicalize_dtype(jnp.promote_types(found[name].dtype, leaf.dtype)))

    return jax.tree.unflatten(jax.tree.structure(like), [one(name, leaf) for name, leaf in _named(like).items()])
