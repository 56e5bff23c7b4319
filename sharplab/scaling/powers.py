"""The powers of width with which sizes go: those that they follow, and those that they have once rounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod

ROUNDING = 1 / 3  # octaves per octave of width by which a size may miss its power, as 8/3 n up to a multiple of 32


@dataclass(frozen=True)
class Power:
    """The power of width with which a size, or a product of sizes, goes.

    Attributes:
        whole: that it follows as width grows.
        found: that takes the size at the base to the one at the width; `whole` unless sizes were rounded.
    """

    whole: int
    found: float


def power_of(sizes: Sequence[Sequence[int]], widths: Sequence[int]) -> Power | int:
    """The power of the product of sizes, each given at the base, at twice the base and at the width.

    Each is fixed or goes with width, rounded or not; or else all together do, as heads and their size where both go
    with the root of width. The place of the first that does not, where there is no such power.

    >>> power_of([(192, 352, 704)], (64, 128, 256)).whole, 4 ** power_of([(192, 352, 704)], (64, 128, 256)).found * 192
    (1, 704.0)
    >>> power_of([(2, 3, 4), (2, 3, 4)], (16, 32, 64)).whole, power_of([(4, 16, 64)], (16, 32, 64))
    (1, 0)
    """
    each = [_power(size, widths) for size in sizes]
    found = [power for power in each if power is not None]
    if len(found) == len(each):
        return Power(sum(power.whole for power in found), sum(power.found for power in found))
    together = _power([prod(at) for at in zip(*sizes, strict=True)], widths)
    return each.index(None) if together is None or any(power.whole for power in found) else together


def _power(size: Sequence[int], widths: Sequence[int]) -> Power | None:
    if len(set(size)) == 1:
        return Power(0, 0)
    if all(s * widths[0] == size[0] * n for s, n in zip(size, widths, strict=True)):
        return Power(1, 1)
    octaves = [log2(s / size[0]) for s in size]
    asked = [log2(n / widths[0]) for n in widths]
    if any(abs(o - a) > ROUNDING * max(1, abs(a)) for o, a in zip(octaves, asked, strict=True)):
        return None
    return Power(1, exponent(size, widths))


def exponent(size: Sequence[int], widths: Sequence[int]) -> float:
    """The power of width that takes the first size to the last; 1 where the width is the same."""
    return log2(size[-1] / size[0]) / log2(widths[-1] / widths[0]) if widths[-1] != widths[0] else 1
