"""Where in a checkpoint the parameters of a model lie, or what else is looked for by its names."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from sharplab.core.foreign_arrays import canonical

Arrays = Mapping[str, np.ndarray]
_COPIES = frozenset({"mu", "nu", "trace"})  # what optax calls its copies of the parameters
_OPTIMIZER = frozenset({"opt", "opt_state", "optimizer"})


def places(names: Collection[str], wanted: Sequence[str]) -> list[str]:
    """The prefixes under which all that is wanted lies, "" or with "/" at the end.

    >>> places({"params/w", "params/b", "nu/w", "nu/b", "w"}, ["w", "b"])
    ['nu/', 'params/']
    """
    prefixes = [name.removesuffix(wanted[0]) for name in sorted(names) if f"/{name}".endswith(f"/{wanted[0]}")]
    return [prefix for prefix in prefixes if all(prefix + name in names for name in wanted)]


def place_of_params(arrays: Arrays, wanted: Sequence[str], given: str | None) -> str:
    """The one place of the parameters, that is `given` or where all of them lie.

    Raises:
        ValueError: where they lie in no place, naming what is missing in the nearest, or in several.
    """
    found = places(arrays.keys(), wanted)
    if given is None:
        likely = [prefix for prefix in found if _COPIES.isdisjoint(prefix.split("/"))]
    else:
        likely = [prefix for prefix in found if prefix.rstrip("/") == canonical(given)]
    if not likely:
        raise ValueError(_missing(arrays, wanted, "the model's parameters", given))
    if len(likely) > 1:
        raise ValueError(f"the model's parameters lie in {_listed(_shown(p) for p in likely)}: say which by params.")
    return likely[0]


def place_of(arrays: Arrays, wanted: Sequence[str], what: str, likely: Sequence[str] = ()) -> str:
    """The one place where all that is wanted lies, one of the `likely` ones before others.

    Raises:
        ValueError: where that is no place, or several.
    """
    found = places(arrays.keys(), wanted)
    if not found:
        raise ValueError(_missing(arrays, wanted, what, None))
    chosen = next((prefix for prefix in likely if prefix in found), found[0])
    if chosen not in likely and len(found) > 1:
        raise ValueError(f"{what} lie in {_listed(_shown(p) for p in found)}, and which is meant cannot be told.")
    return chosen


def require_fit(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]], place: str, known: Collection[str]) -> None:
    """Raise a ValueError for parameters of other shapes or types, and for arrays that the model does not know.

    `known` are names, in the checkpoint, of what is no parameter. Scalars and integers, as of steps and random keys,
    are let be; so is what an optimizer keeps.
    """
    for name, shape in shapes.items():
        array = arrays[place + name]
        if array.shape != shape:
            raise ValueError(f"{place}{name} has the shape {array.shape} in the checkpoint, {shape} in the model.")
        if not _is_floating(array):
            raise ValueError(f"{place}{name} is of type {array.dtype} in the checkpoint, where floats are needed.")
    ends = tuple(f"/{name}" for name in shapes)
    extra = [
        name
        for name, array in arrays.items()
        if name.startswith(place)
        and name.removeprefix(place) not in shapes
        and name not in known
        and not name.endswith(ends)
        and _OPTIMIZER.isdisjoint(name.split("/"))
        and array.ndim > 0
        and _is_floating(array)
    ]
    if extra:
        raise ValueError(f"the checkpoint has {_listed(extra)}, which the model has not: build the model it is of.")


def _is_floating(array: np.ndarray) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def _missing(arrays: Arrays, wanted: Sequence[str], what: str, given: str | None) -> str:
    """What is missing of what is wanted in the place that has most of it."""
    if given is None:
        ends = Counter(name.removesuffix(path) for path in wanted for name in arrays if f"/{name}".endswith(f"/{path}"))
        nearest = ends.most_common(1)[0][0] if ends else ""
    else:
        nearest = f"{canonical(given)}/" if canonical(given) else ""
    missing = [name for name in wanted if nearest + name not in arrays]
    other = sorted(name for name in arrays if name.startswith(nearest) and name.removeprefix(nearest) not in wanted)
    lying = f" in {nearest.rstrip('/')}" if nearest else ""
    there = f"; it has {_listed(other)} besides" if other else ""
    return f"of {what} the checkpoint lacks {_listed(missing)}{lying}{there}."


def _listed(names: Iterable[str], most: int = 5) -> str:
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _shown(prefix: str) -> str:
    return prefix.rstrip("/") or "its root ('.')"
