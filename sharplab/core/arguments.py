"""What the arguments of public functions may be: one name, one meaning, one check.

A check takes the name and the value of an argument, and raises a ValueError that names it and says what it must be.
"""

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from numbers import Real
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from sharplab.core.grid import in_float32, whole

P = ParamSpec("P")
T = TypeVar("T")
Check = Callable[[str, Any], Any]


def checked(**own: Check) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator that checks a function's arguments by `own`, and else by their names, before it is called.

    None passes where it is the default. So do values that are being traced: those are known when a program runs.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        parameters = signature.parameters
        checks = {name: check for name, check in {**ARGUMENTS, **own}.items() if name in parameters}

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                if name in checks and not (value is None and parameters[name].default is None):
                    checks[name](name, value)
            return function(*args, **kwargs)

        return call

    return decorate


def count(name: str, value: Any) -> None:
    """A whole number, 1 or more."""
    if not _is_traced(value):
        whole(name, value.item() if hasattr(value, "dtype") and np.ndim(value) == 0 else value)


def positive(name: str, value: Any) -> None:
    """A positive, finite number that float32 can hold."""
    if not _is_traced(value):
        if not _is_number(value) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive, finite number, not {value!r}.")
        in_float32(name, value)


def finite(name: str, value: Any) -> None:
    """A finite number."""
    if not _is_traced(value) and not (_is_number(value) and abs(value) < math.inf):
        raise ValueError(f"{name} must be a finite number, not {value!r}.")


def share(name: str, value: Any) -> None:
    """A number between 0 and 1, both excluded."""
    if not _is_traced(value) and not (_is_number(value) and 0 < value < 1):
        raise ValueError(f"{name} must lie between 0 and 1, both excluded, not {value!r}.")


def fraction(name: str, value: Any) -> None:
    """A number from 0 to 1."""
    if not _is_traced(value) and not (_is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must be at least 0 and at most 1, not {value!r}.")


def below_one(name: str, value: Any) -> None:
    """A number from 0 on, below 1."""
    if not _is_traced(value) and not (_is_number(value) and 0 <= value < 1):
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}.")


def not_negative(name: str, value: Any) -> None:
    """A finite number from 0 on."""
    if not _is_traced(value) and not (_is_number(value) and 0 <= value < math.inf):
        raise ValueError(f"{name} must be a finite number from 0 on, not {value!r}.")


def function(name: str, value: Any) -> None:
    """Something that can be called."""
    if not callable(value):
        raise ValueError(f"{name} must be a function, not {value!r}.")


def function_or_name(name: str, value: Any) -> None:
    """A function, or the text that names one."""
    if not callable(value) and not isinstance(value, str):
        raise ValueError(f"{name} must be a function or a name, not {value!r}.")


def several(name: str, value: Any) -> None:
    """A list or tuple."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list, not {_named(value)}.")


def given(name: str, value: Any) -> None:
    """Anything but None."""
    if value is None:
        raise ValueError(f"{name} must be arrays, not None.")


def pairs(name: str, value: Any) -> None:
    """A pair (inputs, targets), or a source of such."""
    is_pair = isinstance(value, tuple) and len(value) == 2
    is_source = callable(value) or (isinstance(value, Iterable) and not hasattr(value, "shape"))
    if not is_pair and (isinstance(value, tuple | Mapping | str) or not is_source):
        raise ValueError(
            f"{name} must be a pair (inputs, targets) of arrays, or a source of pairs, not {_named(value)}."
        )


def counts(name: str, value: Any) -> None:
    """Several whole numbers, 1 or more each."""
    several(name, value)
    if not isinstance(value, Iterator):
        for each in value:
            count(name, each)


def number_or_schedule(name: str, value: Any) -> None:
    """A positive number, or a function of the step that gives one."""
    if not callable(value):
        positive(name, value)


def text(name: str, value: Any) -> None:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {value!r}.")


def path(name: str, value: Any) -> None:
    """The place of a file or folder."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name} must be a path, not {value!r}.")


def random_key(name: str, value: Any) -> None:
    """A key of jax's random numbers, typed or as raw numbers."""
    kind = getattr(value, "dtype", None)
    if kind is None or not ("key" in str(kind) or str(kind) == "uint32"):
        raise ValueError(f"{name} must be a key, as of jax.random.key(0), not {value!r}.")


def key_or_seed(name: str, value: Any) -> None:
    """A key of jax's random numbers, or a whole number that makes one."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        random_key(name, value)


def of(kind: type, how: str) -> Check:
    """The check for objects of a class, with `how` one is made."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a {kind.__name__}, {how}, not {_named(value)}.")

    return check


def _named(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 and "\n" not in said else f"a {type(value).__name__}"


def _is_number(value: Any) -> bool:
    scalar = isinstance(value, Real) or (getattr(value, "ndim", None) == 0 and np.issubdtype(value.dtype, np.number))
    return scalar and not isinstance(value, bool) and not math.isnan(cast(float, value))


def _is_traced(value: Any) -> bool:
    jax = sys.modules.get("jax")  # without which nothing is traced
    return jax is not None and isinstance(value, jax.core.Tracer)


ARGUMENTS: Mapping[str, Check] = {
    **dict.fromkeys(("k", "max_matvecs", "matvecs", "steps", "probes", "samples", "chunk", "basis"), count),
    **dict.fromkeys(("base", "width", "base_depth", "depth", "batch_size", "seeds", "wider_steps"), count),
    **dict.fromkeys(("tol", "tolerance", "minutes"), positive),
    **dict.fromkeys(("loss", "model", "build", "make_operator", "estimator", "select"), function),
    **dict.fromkeys(("over", "quantity"), text),
    **dict.fromkeys(("batch", "inputs"), given),
    **dict.fromkeys(("b1", "b2", "beta"), below_one),
    **dict.fromkeys(("eps", "weight_decay"), not_negative),
    "batches": several,
    "widths": counts,
    "confidence": share,
    "key": random_key,
    "learning_rate": number_or_schedule,
    "store": path,
    "theta": finite,
}
