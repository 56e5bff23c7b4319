"""The outputs of every submodule of a Flax NNX module, recorded from outside: no module needs to be written for it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.errors import TraceContextError

WHOLE = "(output)"  # the path of what the model itself puts out
LOGITS = "(logits)"  # the last part of the path of what a module passes through a softmax
_CALL = "__call__"
_MASKED = -1e4  # logits so far below the largest of their row are masks rather than numbers

_caller: ContextVar[nnx.Module | None] = ContextVar("_caller", default=None)


def record_outputs(model: nnx.Module, inputs: Any) -> dict[str, jax.Array]:
    """The outputs of each submodule in model(inputs), by path as "blocks/0/attention", in the order of the paths.

    Recorded too: what a module passes through `jax.nn.softmax` or `jax.nn.dot_product_attention`, as
    "blocks/0/attention/(logits)" and less its mean over the last axis, which softmax does not see; and what it sows as
    `nnx.Intermediate`, under the name that it gives. A module called several times has "/0", "/1", … after its path.
    The model's own output is "(output)". Submodules in lists, and stacked ones run by `nnx.scan` or `nnx.vmap`, are
    seen; those within a bare jax transform (`jax.vmap(self.layer)`) are part of what their parent puts out.

    `model` is changed (its modules take another class): give one that was merged for the purpose, as inside `jax.jit`.

    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jax.nn.relu)
    >>> {path: output.shape for path, output in record_outputs(model, jnp.ones((5, 2))).items()}
    {'(output)': (5, 3), 'layers/0': (5, 3)}
    """
    for _, module in nnx.iter_modules(model):
        if callable(module):
            object.__setattr__(module, "__class__", _recorded(type(module)))
    with _softmaxes_seen():
        _, found = nnx.capture(model, nnx.Intermediate)(inputs)
    return dict(sorted(_flat(nnx.to_pure_dict(found), "")))


def queries_and_keys(model: nnx.Module) -> set[str]:
    """The paths of modules that make the queries and keys of an `nnx.MultiHeadAttention`.

    A factor moved from the one to the other changes nothing but their sizes.
    """
    parts = ("query", "key", "query_ln", "key_ln")
    return {
        "/".join(map(str, (*path, part)))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, nnx.MultiHeadAttention)
        for part in parts
    }


@lru_cache(maxsize=1024)
def _recorded(cls: type) -> type:
    """A subclass that sows what its `__call__` returns: nothing of `cls` is touched."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = _caller.set(self)
        try:
            outputs = cls.__call__(self, *args, **kwargs)
        finally:
            _caller.reset(before)
        _sow(self, _CALL, outputs)
        return outputs

    return type(cls)(cls.__name__, (cls,), {"__call__": __call__, "__module__": cls.__module__})


def _sow(module: Any, name: str, value: Any) -> None:
    if not hasattr(module, "__captures__"):
        return  # made within the call
    try:
        # Flax refuses to set attributes within another trace than the module's; values sown there would leak.
        module.__captures__ = nnx.data(module.__captures__)
    except TraceContextError:
        return
    module.sow(nnx.Intermediate, name, value)


def _flat(found: Mapping[Any, Any], path: str) -> Iterator[tuple[str, jax.Array]]:
    for name, value in found.items():
        inner = f"{path}/{name}".removeprefix("/")
        if isinstance(value, Mapping):
            yield from _flat(value, inner)
            continue
        place = (path or WHOLE) if name == _CALL else inner
        arrays = [x for x in jax.tree.leaves(value) if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)]
        numbered = [place] if len(arrays) == 1 else [f"{place}/{i}" for i in range(len(arrays))]
        yield from zip(numbered, arrays, strict=True)


@contextmanager
def _softmaxes_seen() -> Iterator[None]:
    homes = [(jax.nn, "softmax", _seen_softmax), (nnx, "softmax", _seen_softmax)]
    homes.append((jax.nn, "dot_product_attention", _seen_attention))
    before = [getattr(home, name) for home, name, _ in homes]
    try:
        for (home, name, seen), function in zip(homes, before, strict=True):
            setattr(home, name, seen(function))
        yield
    finally:
        for (home, name, _), function in zip(homes, before, strict=True):
            setattr(home, name, function)


def _seen_softmax(function: Callable[..., Any]) -> Callable[..., Any]:
    def softmax(x: jax.Array, axis: Any = -1, **kwargs: Any) -> jax.Array:
        if axis in (-1, jnp.ndim(x) - 1):
            _sow_logits(x)
        return function(x, axis, **kwargs)

    return softmax


def _seen_attention(function: Callable[..., Any]) -> Callable[..., Any]:
    def dot_product_attention(query: jax.Array, key: jax.Array, value: jax.Array, *args: Any, **kwargs: Any) -> Any:
        repeated = jnp.repeat(key, query.shape[-2] // key.shape[-2], axis=-2)
        scale = kwargs.get("scale")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        _sow_logits(scale * jnp.einsum("...thd,...shd->...hts", query, repeated))
        return function(query, key, value, *args, **kwargs)

    return dot_product_attention


def _sow_logits(x: jax.Array) -> None:
    module = _caller.get()
    if module is None:
        return
    kept = x > jnp.max(x, -1, keepdims=True) + _MASKED
    centre = jnp.sum(jnp.where(kept, x, 0), -1, keepdims=True) / jnp.sum(kept, -1, keepdims=True)
    _sow(module, LOGITS, jnp.where(kept, x - centre, 0))
