"""The language of grids: numbers and ranges of them as texts.

Ranges are "2^-6:2^2", octaves, and "1e-3:1:log7", seven evenly in the logarithm. Seeds, whose size means nothing,
are counted in ones instead: "0:4" are five. Every range includes both of its ends.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, cast

PLAIN = r"(?:\d+\.?\d*|\.\d+)"
NUMBER = rf"(?:2\^-?{PLAIN}|{PLAIN}(?:e[+-]?\d+)?)"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})(?::log(\d+))?", re.IGNORECASE)
SEEDS = re.compile(r"(\d+)(?::(\d+))?")
MOST = 100_000  # numbers of one text; more can only be a slip of the finger
HIGHEST_SEED = 2**31 - 1
SMALLEST, LARGEST = 2.0**-126, 2.0**127  # the normal numbers of float32, in which networks are trained


def parse_learning_rates(texts: Iterable[str]) -> tuple[float, ...]:
    """Learning rates from texts such as "0.1", "2^-3", "2^-6:2^2" (octaves) and "1e-3:1:log7" (seven, log-spaced).

    Octaves start at the lower end and stop at or below the upper one. All rates are rounded to 12 digits.

    Raises:
        ValueError: for a text of another form, or a number too small or too large for a float.

    >>> parse_learning_rates(["2^-2:2^0", "3"])
    (0.25, 0.5, 1.0, 3.0)
    >>> parse_learning_rates(["1e-3:1:log4"])
    (0.001, 0.01, 0.1, 1.0)
    """
    return tuple(sorted(parse_positive("learning_rates", list(texts))))


def parse_positive(name: str, values: Any) -> tuple[float, ...]:
    """Positive numbers out of numbers and texts, one or several, in the order given.

    Several texts may name one number; numbers alone may not repeat.

    Raises:
        ValueError: naming the argument `name` and what of it is wrong.

    >>> parse_positive("gamma", (3, "2^-2:2^0"))
    (3.0, 0.25, 0.5, 1.0)
    """
    return _join(name, values, partial(_numbers, name), partial(_positive, name))


def parse_sizes(name: str, values: Any) -> tuple[int, ...]:
    """Whole numbers from 1 on out of numbers and texts, one or several, in the order given.

    Those of a range between its ends are rounded: "8:64" are 8, 16, 32, 64; "10:100:log3" are 10, 32, 100.

    Raises:
        ValueError: naming the argument `name` and what of it is wrong.

    >>> parse_sizes("widths", "8:64")
    (8, 16, 32, 64)
    >>> parse_sizes("depths", (3, "2^3"))
    (3, 8)
    """
    return _join(name, values, partial(_sizes, name), partial(whole, name))


def parse_seeds(name: str, value: Any) -> tuple[int, ...]:
    """Seeds: how many from 0 on, as 3 or "3"; or which, as (0, 7) or "5:9", both ends included; or several of these.

    Within several, numbers and texts name seeds: (3,) and ("3",) are the one seed 3.

    Raises:
        ValueError: naming the argument `name` and what of it is wrong.

    >>> parse_seeds("seeds", 3), parse_seeds("seeds", (7,)), parse_seeds("seeds", "5:7")
    ((0, 1, 2), (7,), (5, 6, 7))
    """
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if _is_whole(value):
        count = whole(name, value)
        if count > MOST:
            raise ValueError(f"{name} asks for {count} seeds: give at most {MOST}.")
        return tuple(range(count))
    seeds = _join(name, value, partial(_seeds, name), partial(whole, name, least=0))
    if max(seeds) > HIGHEST_SEED:
        raise ValueError(f"{name} must lie below 2^31, not {max(seeds)}.")
    return seeds


def as_tuple(name: str, values: Any) -> tuple:
    """The values as a tuple, of one value too.

    Raises:
        ValueError: if there is none.
    """
    found = (values,) if isinstance(values, str | bytes) or not isinstance(values, Iterable) else tuple(values)
    if not found:
        raise ValueError(f"{name} is empty: give at least one.")
    return found


def distinct(name: str, values: Iterable) -> tuple:
    """The values, unless one is repeated, which is a ValueError."""
    values = tuple(values)
    if len(set(values)) < len(values):
        raise ValueError(f"{name} repeats a value: {', '.join(map(str, values))}.")
    return values


def whole(name: str, value: Any, least: int = 1) -> int:
    """The value as an integer.

    Raises:
        ValueError: if it is not whole, or smaller than `least`.
    """
    if not _is_whole(value) or value < least:
        raise ValueError(f"{name} must be whole and at least {least}, not {value!r}.")
    return int(value)


def rounded(rate: float) -> float:
    """A learning rate to 12 significant digits, quarter octaves exactly: one number on every way to a rate.

    >>> rounded(2**-30 * (1 + 1e-13)) == 2**-30
    True
    >>> rounded(0.1 + 0.2)
    0.3
    """
    quarters = 4 * math.log2(rate)
    # Without this, geometric means of rounded numbers would round to a neighbour of what they stand for.
    if abs(quarters - round(quarters)) < 1e-10:
        rate = 2.0 ** (round(quarters) / 4)
    return rate if math.log2(rate).is_integer() else float(f"{rate:.12g}")


def _join(
    name: str, values: Any, of_text: Callable[[str], Sequence[Any]], of_number: Callable[[Any], Any]
) -> tuple[Any, ...]:
    given = as_tuple(name, values)
    found = [number for value in given for number in (of_text(value) if isinstance(value, str) else [of_number(value)])]
    return tuple(dict.fromkeys(found)) if any(isinstance(value, str) for value in given) else distinct(name, found)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < cast(float, value) < math.inf:
        raise ValueError(f"{name} must be positive, finite numbers, not {value!r}.")
    return rounded(in_float32(name, value))


def in_float32(name: str, value: Any) -> float:
    """A positive number as a float.

    Raises:
        ValueError: if float32 would make 0 or infinity of it.
    """
    if not SMALLEST <= value <= LARGEST:
        raise ValueError(f"{name} must lie between {SMALLEST:.1e} and {LARGEST:.1e}, for float32, not {value!r}.")
    return float(value)


def _numbers(name: str, text: str, examples: str = "0.1, 2^-3, 2^-6:2^2 or 1e-3:1:log7") -> list[float]:
    if re.fullmatch(NUMBER, text, re.IGNORECASE):
        return [_number(name, text)]
    match = RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{name}: {text!r} is not understood: give {examples}.")
    low, high = _number(name, match[1]), _number(name, match[2])
    if not low < high:
        raise ValueError(f"{name}: {text!r} must run from a number up to a larger one.")
    if match[3] is None:
        octaves = math.floor(math.log2(high / low) + 1e-9)
        return [rounded(low * 2.0**i) for i in range(octaves + 1)]
    count = int(match[3])
    if not 2 <= count <= MOST:
        raise ValueError(f"{name}: {text!r} must have from log2 to log{MOST} points.")
    return [rounded(low * (high / low) ** (i / (count - 1))) for i in range(count)]


def _number(name: str, text: str) -> float:
    try:
        number = 2.0 ** float(text[2:]) if text.startswith("2^") else float(text)
    except OverflowError:
        number = math.inf
    if not 0 < number < math.inf:
        raise ValueError(f"{name}: {text!r} must be a positive, finite number.")
    return rounded(in_float32(name, number))


def _sizes(name: str, text: str) -> list[int]:
    numbers = _numbers(name, text, examples="64, 2^6, 8:64 or 8:512:log4")
    match = RANGE.fullmatch(text)
    ends = numbers if match is None else [_number(name, match[1]), _number(name, match[2])]
    if not all(number.is_integer() for number in ends):
        raise ValueError(f"{name}: {text!r} must be whole, and a range must run from a whole number to another.")
    return [round(number) for number in numbers]


def _seeds(name: str, text: str) -> Sequence[int]:
    match = SEEDS.fullmatch(text)
    if match is None:
        raise ValueError(f"{name}: {text!r} is not understood: give how many, as 3, or which, as 0:4 for five.")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < first + MOST:
        raise ValueError(f"{name}: {text!r} must run from a seed up to a larger one, {MOST} at most.")
    return range(first, last + 1)
