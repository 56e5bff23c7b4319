"""Functions, data and loss that commands take from a user's module, by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharplab.core.imports import find, find_function, load_module

if TYPE_CHECKING:
    from sharplab.optimizers import Optimizer


def named_function(option: str, name: str) -> Callable[..., Any]:
    """The function named "module:function", whose module may lie in the current directory.

    Raises:
        ValueError: naming the option, where there is none.

    >>> named_function("--loss", "math:exp")(0)
    1.0
    """
    if ":" not in name:
        raise ValueError(f"{option} must be module:function, not {name!r}.")
    return find_function(option, name, {})


def beside(build: str, names: tuple[str, ...]) -> str | None:
    """The first of these names that the module of `build`, "module:function", has, as "module:name"."""
    module = build.partition(":")[0]
    loaded = load_module(module)
    return next((f"{module}:{name}" for name in names if hasattr(loaded, name)), None)


def named_examples(option: str, name: str | None, build: str, names: tuple[str, ...], most: int) -> Any | None:
    """The pair (inputs, targets) that `name`, "module:name", leads to, as of `sharplab.data.examples.examples_of`.

    Without a name it is the first of `names` beside `build`; None where there is none.

    Raises:
        ValueError: naming the option, where there are no examples.
    """
    from sharplab.data.examples import examples_of  # here, for a module that is not found is refused without it

    name = name or beside(build, names)
    if name is None:
        return None
    if ":" not in name:
        raise ValueError(f"{option} must be module:name, not {name!r}.")
    return examples_of(f"{option} {name!r}", find(option, name, {}), most)


def named_loss(build: str, name: str | None) -> Callable[..., Any]:
    """The loss of the option --loss; without one `loss` of the module of `build`, or cross-entropy.

    Raises:
        ValueError: for a name that is neither in `sharplab.losses.LOSSES` nor "module:function".
    """
    from sharplab.losses import LOSSES  # here, for a module that is not found is refused without it

    return find_function("--loss", name or beside(build, ("loss",)) or "cross_entropy", LOSSES)


def named_optimizer(text: str) -> "Optimizer":
    """The optimizer of the option --optimizer, a name with numbers in brackets where they are not the usual.

    Raises:
        ValueError: for an unknown name, and numbers that it does not take.

    >>> named_optimizer("adam(b1=0.5, b2=0.95)").threshold(1.0)
    6.0
    """
    from sharplab.optimizers import find_optimizer, make_optimizer

    name, bracket, inner = text.partition("(")
    if not bracket:
        return find_optimizer(name)
    try:
        pairs = [part.split("=") for part in inner.removesuffix(")").split(",")]
        return make_optimizer(name, **{key.strip(): float(value) for key, value in pairs})
    except ValueError as error:
        raise ValueError(f"--optimizer {text!r} must be like adam(b1=0.9, b2=0.95): {error}") from error
