"""Options of a command line for the settings of an experiment, made from their declarations."""

from collections.abc import Collection
from dataclasses import fields, make_dataclass
from typing import Annotated, Any, Literal

import tyro

from sharplab.core.settings import Setting
from sharplab.sweep.experiment import SETTINGS, Experiment

MOST_CHOICES = 4  # names that --help lists in the place of a metavar


def setting_options(base: type, preset: Collection[str]) -> Any:
    """The dataclass of options `base` with one more for each setting of an experiment.

    Args:
        base: the options that come first.
        preset: the settings that a preset gives where the option does not: their options are None by default.
    """
    defaults = {each.name: each.default for each in fields(Experiment)}
    options: list[tuple[str, Any, Any]] = []
    for name, declared in SETTINGS.items():
        kind, look = _look(declared)
        default = defaults[name] if declared.option_default is None else declared.option_default
        options.append(
            (name, Annotated[kind | None, look], None) if name in preset else (name, Annotated[kind, look], default)
        )
    return make_dataclass("SettingOptions", options, bases=(base,), frozen=True)


def _look(declared: Setting) -> tuple[Any, Any]:
    """The type of a setting's option, and its look in --help."""
    kind, names = declared.kind, declared.kind.names()
    told: dict[str, Any] = {"help_behavior_hint": _hint}
    if kind.option is str and 0 < len(names) <= MOST_CHOICES:
        return Literal[names], tyro.conf.arg(help=declared.help or declared.meaning, **told)
    if kind.metavar:
        told["metavar"] = kind.metavar
    return kind.option, tyro.conf.arg(help=declared.explained(), **told)


def _hint(default: str) -> str:
    return "(default: the preset's)" if default == "None" else f"(default: {default})"
