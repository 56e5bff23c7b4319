"""One's own objects by name, beside those of a table: "module:attribute@tag"."""

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from sharplab.core.naming import lookup


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
