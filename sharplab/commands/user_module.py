"""Functions, data and loss that commands take from a user's module, by name."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from sharplab.losses import LOSSES


def named_function(option: str, name: str) -> Callable[..., Any]:
    """The function named "module:function", whose module may lie in the current directory.

    Raises:
        ValueError: naming the option, where there is none.

    >>> named_function("--loss", "math:exp")(0)
    1.0
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"{option} must be module:function, not {name!r}.")
    try:
        found = getattr(_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{option} {name!r} cannot be imported: {error}.") from error
    if not callable(found):
        raise ValueError(f"{option} {name!r} is no function.")
    return found


def beside(build: str, names: tuple[str, ...]) -> str | None:
    """The first of these names that the module of `build`, "module:function", has, as "module:name"."""
    module = build.partition(":")[0]
    return next((f"{module}:{name}" for name in names if hasattr(_module(module), name)), None)


def named_loss(build: str, name: str | None) -> Callable[..., Any]:
    """A name of `sharplab.losses.LOSSES`, "module:function", or without one `loss` beside `build`, or cross-entropy."""
    chosen = name or beside(build, ("loss",)) or "cross_entropy"
    return LOSSES[chosen] if chosen in LOSSES else named_function("--loss", chosen)


def _module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where the module lies, most likely
    return import_module(name)
