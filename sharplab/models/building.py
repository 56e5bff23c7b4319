"""How a model is built: the one protocol of the lab's networks and anyone's.

A model is a callable, most often a class of `flax.nnx`, that makes a module. It takes by name what it needs out of
`OFFERED`, or by position `(width, rngs)` or `(width, depth, rngs)`, as `sharplab.mup` does. One that takes `rule`
multiplies, draws and labels its weights as that says; any other is scaled by the roles that are inferred of its
parameters.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

OFFERED: Mapping[str, str] = {
    "width": "the size that grows",
    "depth": "the number of residual blocks",
    "input_shape": "of one example",
    "classes": "the number of outputs",
    "rule": "the `sharplab.scaling.Rule` by which the model scales itself",
    "branch_multiplier": "what each residual branch is multiplied by, (depth/base depth)^-alpha",
    "readout_multiplier": "what the logits of a tied readout are multiplied by",
    "rngs": "the `nnx.Rngs` that weights are drawn from",
}


SCALE_THEMSELVES = tuple(
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
    for name in ("input_shape", "classes", "width", "depth", "rule", "rngs")
)


def call_build(build: Callable[..., Any], offered: Mapping[str, Any]) -> Any:
    """The module that `build` makes of what it takes of `offered`.

    Raises:
        ValueError: where it takes anything else.
    """
    names = _taken(build)
    if isinstance(names, int):
        sizes = ("width", "depth")[: names - 1]
        return build(*(offered[size] for size in sizes), offered["rngs"])
    return build(**{name: offered[name] for name in names if name in offered})


def takes(build: Callable[..., Any], name: str) -> bool:
    """Whether `build` takes this name out of `OFFERED`.

    >>> takes(lambda width, rngs: None, "depth"), takes(lambda n, blocks, rngs: None, "depth")
    (False, True)
    >>> takes(lambda rule, **settings: None, "classes")
    True
    """
    names = _taken(build)
    return (name in ("width", "depth")[: names - 1] or name == "rngs") if isinstance(names, int) else name in names


@lru_cache(maxsize=256)
def _taken(build: Callable[..., Any]) -> frozenset[str] | int:
    """The names that `build` takes out of `OFFERED`; where they are others, how many arguments by position."""
    parameters = _parameters(build)
    required = [p for p in parameters if p.default is p.empty]
    if all(p.name in OFFERED and p.kind is not p.POSITIONAL_ONLY for p in required):
        return frozenset(p.name for p in parameters) & OFFERED.keys()
    if len(required) in (2, 3) and all(p.kind is not p.KEYWORD_ONLY for p in required):
        return len(required)
    raise ValueError(
        f"model takes {', '.join(p.name for p in required)}: let it take (width, rngs), (width, depth, rngs), or by "
        f"name what it needs of {', '.join(OFFERED)}."
    )


def _parameters(build: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a build that are left to be given."""
    if isinstance(build, partial):
        given = len(build.args)
        return [p for p in _parameters(build.func)[given:] if p.name not in build.keywords]
    if isinstance(build, type):
        return _of_class(build.__mro__)
    named, passes_on = _named(list(inspect.signature(build).parameters.values()))
    own = {p.name for p in named}
    if not passes_on or {"width", "rngs"} <= own:
        return named
    # What a function does with **settings is not known: it is given what the lab's models take.
    return named + [p for p in SCALE_THEMSELVES if p.name not in own]


def _of_class(classes: tuple[type, ...]) -> list[inspect.Parameter]:
    """The parameters of the first `__init__`, and of the next one where it passes **settings on.

    The signature of an nnx.Module itself is that of its metaclass, which says nothing.
    """
    if classes[0] is object:
        return []
    if "__init__" not in vars(classes[0]):
        return _of_class(classes[1:])
    named, passes_on = _named(list(inspect.signature(vars(classes[0])["__init__"]).parameters.values())[1:])
    own = {p.name for p in named}
    return named + [p for p in _of_class(classes[1:]) if p.name not in own] if passes_on else named


def _named(parameters: list[inspect.Parameter]) -> tuple[list[inspect.Parameter], bool]:
    """The parameters that have a name of their own, and whether any others are passed on."""
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)
