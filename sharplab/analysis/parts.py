"""Attributes of a result's parts, which the result has as its own."""

from operator import attrgetter
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Part(Generic[T]):
    """The attribute of type T at a path from the result, as "slopes.late.value"."""

    def __init__(self, path: str) -> None:
        self.read = attrgetter(path)

    def __get__(self, result: Any, owner: type) -> T:
        return self if result is None else self.read(result)  # type: ignore[return-value]


class PartOfEach(Generic[T]):
    """The same from each element of the result's sequence `of`, as a tuple."""

    def __init__(self, of: str, path: str) -> None:
        self.elements, self.read = attrgetter(of), attrgetter(path)

    def __get__(self, result: Any, owner: type) -> tuple[T, ...]:
        return self if result is None else tuple(map(self.read, self.elements(result)))  # type: ignore[return-value]
