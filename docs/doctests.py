"""Docstrings as they are at run time, with examples as code: `>>>` begins a block that the next empty line ends."""

import inspect
import re
from importlib import import_module
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n?)(?:^.+\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts fences around the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object that griffe has read."""
        if obj.docstring and "{settings}" in obj.docstring.value:  # filled in when the class is made
            obj.docstring.value = inspect.getdoc(getattr(import_module(obj.module.path), obj.name)) or ""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(
                lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value
            )
