"""The settings of training, each declared once: kind, default, unit, meaning and history.

What names settings derives from the declarations: the checks of an `Experiment`, the fields of a `Task`, the identity
of runs, the columns of tables, the options of the command line and the keys of its files. `TrainingSettings` has what
an experiment and its tasks share; `sharplab.sweep.Experiment` adds its sizes and grids.

Tables of names are given as "module:NAME" and imported when a name is looked up, since reading records needs none.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib import import_module
from numbers import Real
from typing import Any, TypeVar, cast

from sharplab.core.grid import as_tuple, distinct, in_float32, parse_positive, parse_sizes, whole
from sharplab.core.imports import find, find_function
from sharplab.core.naming import lookup

C = TypeVar("C", bound=type)


def _itself(name: str, text: str) -> Iterable[Any]:
    return (text,)


@dataclass(frozen=True)
class Kind:
    """A kind of values that settings have, and how they are read.

    Attributes:
        read: (name, what was given) → what is kept; a ValueError names the setting.
        option: the type of the option on the command line.
        metavar: what stands for its value there.
        expand: (name, text) → the values that a text stands for where each makes an experiment.
        table: "module:NAME" of what knows the names; "" where values are no names.
        listed: the names of the table where its module takes long to import or there is no list; None for its keys.
    """

    read: Callable[[str, Any], Any]
    option: Any
    metavar: str
    expand: Callable[[str, str], Iterable[Any]] = _itself
    table: str = ""
    listed: tuple[str, ...] | None = None

    def names(self) -> tuple[str, ...]:
        """All names that can be given; none where the values are no names, or there is no list of them."""
        if self.listed is not None or not self.table:
            return self.listed or ()
        return tuple(_imported(self.table))


@dataclass(frozen=True)
class Setting:
    """The declaration of a setting, beside its name, type and default."""

    kind: Kind  # what its values are
    meaning: str  # of one value, as tables of runs explain it
    unit: str = ""  # of a value, "" where it has none
    help: str = ""  # how it is chosen; the meaning where that says it
    column: str | None = ""  # its name in tables of runs, its own where this is ""; None for what stands in no table
    since: Any = None  # of a later setting, the value that earlier runs had, where it is no part of their identity
    observation: bool = False  # whether it says how a run is observed, and so is no part of what the run is
    costs: bool = True  # whether the time and memory of a step or a record depend on it
    option_default: Any = None  # its default on the command line, where that is another than an experiment's

    def explained(self) -> str:
        """The help of the setting, with the names that can be given."""
        text, names = self.help or self.meaning, ", ".join(self.kind.names())
        return f"{text} ({names})" if names else text


def setting(kind: Kind, meaning: str, *, default: Any = MISSING, **declared: Any) -> Any:
    """A dataclass field that is declared as a `Setting`."""
    return field(default=default, metadata={"setting": Setting(kind, meaning, **declared)})


def declarations(cls: type) -> dict[str, Setting]:
    """The settings of a dataclass by name.

    Raises:
        TypeError: naming a field that is not declared by `setting`.
    """
    undeclared = [each.name for each in fields(cls) if "setting" not in each.metadata]
    if undeclared:
        raise TypeError(
            f"{cls.__name__} has fields that are no settings: declare {', '.join(undeclared)} by setting()."
        )
    return {each.name: each.metadata["setting"] for each in fields(cls)}


def documented(cls: C) -> C:
    """The dataclass with its settings listed in its docstring, in the place of "{settings}"."""
    lines = (
        textwrap.fill(f"{name}: {each.explained()}.", 112, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name, each in declarations(cls).items()
    )
    cls.__doc__ = inspect.cleandoc(cls.__doc__ or "").replace("{settings}", "\n".join(lines).lstrip())
    return cls


def finite(name: str, value: Any) -> float:
    """A number as a float.

    Raises:
        ValueError: if it is no number, NaN or infinite.
    """
    if not isinstance(value, Real) or not abs(cast(float, value)) <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite number, not {value!r}.")
    return float(value)


def _positive(name: str, value: Any) -> float:
    if finite(name, value) <= 0:
        raise ValueError(f"{name} must be a positive number, not {value}.")
    return in_float32(name, value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}.")
    return value


def _numbers(name: str, text: str) -> Iterable[float]:
    return (0.0,) if text == "0" else parse_positive(name, text)  # 0 is no end of a range


def _imported(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)


def name_in(
    what: str,
    table: str,
    *,
    listed: tuple[str, ...] | None = None,
    find: Callable[[str, str, Mapping[str, Any]], Any] = lookup,
) -> Kind:
    """One of the names that `table`, "module:NAME", knows; `what` it names is said where it is unknown.

    `find(what, name, table)` refuses an unknown name: `find_function` makes the table open to anyone's own functions.
    Where names are `listed`, the table is imported for one's own alone.
    """

    def read(name: str, value: Any) -> Any:
        known = dict.fromkeys(listed) if listed and ":" not in str(value) else _imported(table)
        if not isinstance(value, str):
            own = "" if find is lookup and not callable(known) else ": give your own as 'module:attribute'"
            raise ValueError(f"{name} must be a name, not {value!r}{own}.")
        known(value) if callable(known) else find(what, value, known)
        return value

    return Kind(read, str, "NAME", table=table, listed=listed)


def _find_optimizer(what: str, name: str, table: Mapping[str, Any]) -> Any:
    return _imported("sharplab.optimizers:find_optimizer")(name) if ":" in name else find(what, name, table)


_SCHEDULE = name_in(
    "schedule",
    "sharplab.schedules:SCHEDULES",
    listed=("constant", "linear", "cosine", "wsd", "power", "rex", "inverse_sqrt", "points"),
    find=find_function,
)


def _read_schedule(name: str, value: Any) -> Any:
    with_arguments = isinstance(value, str) and "(" in value and ":" not in value
    return _imported("sharplab.schedules:canonical")(value) if with_arguments else _SCHEDULE.read(name, value)


def names_in(what: str, table: str, *, listed: tuple[str, ...] | None = None) -> Kind:
    """Several different names that `table` knows, as in `name_in`."""
    one = name_in(what, table, listed=listed)

    def read(name: str, value: Any) -> tuple[Any, ...]:
        return tuple(one.read(name, each) for each in distinct(name, as_tuple(name, value)))

    return Kind(read, tuple[str, ...], "NAME ...", table=table, listed=listed)


WHOLE = Kind(whole, int, "N", parse_sizes)
NUMBER = Kind(finite, float, "NUMBER", _numbers)
POSITIVE = Kind(_positive, float, "NUMBER", _numbers)
FLAG = Kind(_flag, bool, "")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings that an experiment has in common with each of its tasks. They are not checked here."""

    model: str = setting(
        name_in("model", "sharplab.models:find_model", listed=()),
        "the network: a name, or module:build@tag",
        default="residual_mlp",
        help="the network: a name of sharplab.models.MODELS, as residual_mlp, or module:build of your own, with @tag "
        "to tell versions of it apart",
    )
    base_width: int = setting(
        WHOLE,
        "the width at which learning rates are quoted",
        default=1,
        unit="units",
        costs=False,
        help="the width at which learning rates are quoted: there every parameterization is the same function of the "
        "weights, up to the abc symmetry",
    )
    base_depth: int = setting(
        WHOLE, "the depth at which learning rates are quoted", default=1, unit="blocks", since=1, costs=False
    )
    alpha: float = setting(
        NUMBER,
        "residual branches go as (depth/base_depth)^−alpha",
        default=0.5,
        costs=False,
        help="residual branches go as (depth/base_depth)^−alpha, and the learning rates in them to match: 0.5 is "
        "Depth-muP, 1 CompleteP, 0 neither",
    )
    gamma: float = setting(
        POSITIVE,
        "the richness γ₀",
        default=1.0,
        costs=False,
        help="the richness γ₀: outputs are divided by it and learning rates raised to match, so that features move "
        "more",
    )
    optimizer: str = setting(
        name_in(
            "optimizer",
            "sharplab.optimizers:OPTIMIZERS",
            listed=("sgd", "momentum", "nesterov", "adam", "adamw", "lion", "muon", "lars", "lamb"),
            find=_find_optimizer,
        ),
        "the update rule: a name, or module:make@tag",
        default="sgd",
    )
    schedule: str = setting(
        replace(_SCHEDULE, read=_read_schedule),
        "of the learning rate along the run",
        default="constant",
        since="constant",
        costs=False,
        help="of the learning rate along a run; arguments follow in brackets, as in wsd(decay=0.2)",
    )
    loss: str = setting(
        name_in("loss", "sharplab.losses:LOSSES", listed=("cross_entropy", "squared_error"), find=find_function),
        "the function whose mean is minimised",
        default="cross_entropy",
    )
    trainable: str = setting(
        name_in("trainable", "sharplab.training.recipe:TRAINABLE", listed=("all", "readout")),
        "what is trained: all, or readout alone",
        default="all",
        since="all",
        help="what is trained; readout: all else stays as it was drawn (random features)",
    )
    data: str = setting(
        name_in("data set", "sharplab.data:DATASETS", find=find_function), "the data set", default="fashion-mnist-10k"
    )
    augment: str = setting(
        name_in("augmentation", "sharplab.data:AUGMENTATIONS", find=find_function),
        "what is done to each training batch",
        default="none",
        since="none",
        help="what is done to each training batch of images",
    )
    steps: int = setting(WHOLE, "length of the run", default=256, unit="updates", help="updates per run")
    batch_size: int = setting(WHOLE, "per update", default=128, unit="examples", help="examples per update")
    probe_size: int = setting(
        WHOLE,
        "the first so many training examples: train_loss and curvature are measured there",
        default=1024,
        unit="examples",
        help="how many training examples, the first ones, are the probe batch of train_loss and curvature",
    )
    observables: tuple[str, ...] = setting(
        names_in("observable", "sharplab.tracking.observables:find_observable", listed=()),
        "what was recorded",
        default=("train_loss", "eval_loss", "eval_accuracy"),
        observation=True,
        help="what is recorded, out of sharplab.tracking.observables.OBSERVABLES, or hessian_top10 and the like; "
        "sharpness and all of curvature take time",
    )
