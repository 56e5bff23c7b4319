"""The language of learning-rate grids."""

import math
import re
from collections.abc import Iterable

PLAIN = r"(?:\d+\.?\d*|\.\d+)"
NUMBER = rf"(?:2\^-?{PLAIN}|{PLAIN}(?:e[+-]?\d+)?)"
RANGE = re.compile(rf"^({NUMBER}):({NUMBER})(?::log(\d+))?$", re.IGNORECASE)


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
    rates = {rate for text in texts for rate in _parse(text)}
    return tuple(sorted(rates))


def _parse(text: str) -> list[float]:
    if re.fullmatch(NUMBER, text, re.IGNORECASE):
        return [_number(text)]
    match = RANGE.match(text)
    if match is None:
        raise ValueError(f"learning_rates: {text!r} is not understood: give 0.1, 2^-3, 2^-6:2^2 or 1e-3:1:log7.")
    low, high = _number(match[1]), _number(match[2])
    if not low < high:
        raise ValueError(f"learning_rates: {text!r} must run from a number up to a larger one.")
    if match[3] is None:
        octaves = math.floor(math.log2(high / low) + 1e-9)
        return [rounded(low * 2.0**i) for i in range(octaves + 1)]
    count = int(match[3])
    if count < 2:
        raise ValueError(f"learning_rates: {text!r} must have at least log2 points.")
    return [rounded(low * (high / low) ** (i / (count - 1))) for i in range(count)]


def _number(text: str) -> float:
    try:
        rate = 2.0 ** float(text[2:]) if text.startswith("2^") else float(text)
    except OverflowError:
        rate = math.inf
    if not 0 < rate < math.inf:
        raise ValueError(f"learning_rates: {text!r} must be a positive, finite number.")
    return rounded(rate)


def rounded(rate: float) -> float:
    """To 12 significant digits, quarter octaves and powers of two exactly: one number on every way to a rate.

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
