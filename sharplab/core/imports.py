"""One's own objects by name, beside those of a table: "module:attribute@tag"; or held by this process alone."""

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sharplab.core.naming import lookup

T = TypeVar("T")

_HELD: dict[str, Any] = {}
_NAMES: dict[Any, str] = {}  # of what is held for good
_LENT: WeakValueDictionary[str, Any] = WeakValueDictionary()


def hold(given: Any) -> str:
    """A name by which `find` gives an object in this process, and in no other; equal objects have one name.

    >>> find("loss", hold(abs), {})(-1), hold(abs) == hold(abs)
    (1, True)
    """
    name = _NAMES.setdefault(given, f"held:{getattr(given, '__name__', type(given).__name__)}@{len(_NAMES) + 1}")
    _HELD[name] = given
    return name


def lend(given: T, tag: str) -> tuple[str, T]:
    """The name "held:…@tag" by which `find` gives an object in this process, for as long as anyone keeps it.

    Returned with it is the object to keep: that of the first caller with this tag, whose object must be equal.
    """
    name = f"held:{type(given).__name__}@{tag}"
    return name, _LENT.setdefault(name, given)


def is_held(name: str) -> bool:
    """Whether a name is one of `hold` or `lend`, which other processes do not know."""
    return name.startswith("held:")


def import_name(given: Any) -> str | None:
    """The name "module:attribute" by which another process finds an object; None where there is none.

    >>> import_name(lookup), import_name(lambda: 0)
    ('sharplab.core.naming:lookup', None)
    """
    module, attribute = getattr(given, "__module__", None), getattr(given, "__qualname__", "")
    if module in (None, "__main__") or getattr(sys.modules.get(module), attribute, None) is not given:
        return None
    return f"{module}:{attribute}"


def find(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry `name` of a table, or the object that "module:attribute" or "module:attribute@tag" names.

    The module is imported; the current directory is searched too. The tag is part of the name only: changing it tells
    what was made with an earlier version of the object from what is made now.

    Raises:
        ValueError: for a name that leads nowhere, naming its `kind` and the remedy.

    >>> find("loss", "zero", {"zero": 0.0}), find("loss", "math:exp@2", {})(0)
    (0.0, 1.0)
    """
    if ":" not in name:
        return lookup(kind, name, table, also=", or your own as 'module:attribute'")
    for held in (_HELD, _LENT):
        if name in held:
            return held[name]
    module, _, attribute = name.partition("@")[0].partition(":")
    try:
        return getattr(load_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{kind} {name!r} cannot be imported: {error}; give it as 'module:attribute'.") from error


def find_function(kind: str, name: str, table: Mapping[str, Any]) -> Callable[..., Any]:
    """A function out of a table, or one's own by its name, as of `find`.

    Raises:
        ValueError: for a name that leads nowhere, or to something that cannot be called.
    """
    found: Callable[..., Any] = find(kind, name, table)
    if ":" in name and not callable(found):
        raise ValueError(f"{kind} {name!r} cannot be called: give a function.")
    return found


def load_module(name: str) -> ModuleType:
    """The module of a dotted name, from where Python looks and from the current directory."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return import_module(name)
