"""Options of a command line for the settings of an experiment, made from their declarations."""

from collections.abc import Collection
from dataclasses import fields, make_dataclass
from typing import Annotated, Any

import tyro

from sharplab.core.settings import Setting
from sharplab.sweep.experiment import SETTINGS, Experiment


def setting_options(base: type, preset: Collection[str]) -> Any:
    """The dataclass of options `base` with one more for each setting of an experiment.

    Options of settings in `preset`, which a preset gives where the option does not, are None by default.
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
    told: dict[str, Any] = {"metavar": declared.kind.metavar} if declared.kind.metavar else {}
    return declared.kind.option, tyro.conf.arg(help=declared.explained(), help_behavior_hint=_hint, **told)


def _hint(default: str) -> str:
    return "(default: the preset's)" if default == "None" else f"(default: {default})"
